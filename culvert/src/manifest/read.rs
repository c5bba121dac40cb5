//! Manifests: YAML documents that say what there shall be.
//!
//! A document has `kind: Tenant`, `Secret` or `Peer`, and the fields of that message, or is a list of such. Names may be
//! short: `acme/b1`. What the node sets, such as the status of a peer, is read and means nothing. A secret has one of `value`,
//! `valueBase64`, `valueFromFile` (relative to the manifest; one line break at the end is not part of it) and `valueFromEnv`.
//! `kind: Policy` has the name of a tenant and its `rules`, and leaves the rest of the tenant as it is.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use ike::config::Psk;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::console::failure::Failure;
use crate::console::message::from_json;
use crate::console::name::{full_name, full_tenant};
use crate::manifest::wanted::{Manifest, Wanted, joined};

/// Greatest manifest: a hundred thousand peers of some hundred octets.
const MAX_MANIFEST: u64 = 256 << 20;

/// What is read of secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    /// Their values, wherever those are.
    Read,
    /// Nothing: whoever wants the names alone needs neither the files nor the environment.
    Unread,
}

/// Reads files, directories and `-` (standard input), in their order.
pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    read_with(paths, Values::Read)
}

/// The names of the objects alone, and those of tenants of which there is the policy alone; the rest is checked all the same, but for the
/// values of secrets.
pub(crate) fn read_names(paths: &[PathBuf]) -> Result<(Vec<String>, Vec<String>), Failure> {
    let manifests = read_with(paths, Values::Unread)?;
    let (parts, objects): (Vec<_>, Vec<_>) =
        manifests.into_iter().partition(|manifest| manifest.part_of().is_some());
    let names = |manifests: Vec<Manifest>| manifests.into_iter().map(|manifest| manifest.name).collect();
    Ok((names(objects), names(parts)))
}

fn read_with(paths: &[PathBuf], values: Values) -> Result<Vec<Manifest>, Failure> {
    let (mut manifests, mut faults) = (Vec::new(), Vec::new());
    for path in expand(paths)? {
        let text = read(&path)?;
        let base = path.parent().unwrap_or(Path::new("."));
        let from = Source { file: &path.display().to_string(), base, values };
        parse(&text, &from, &mut manifests, &mut faults);
    }
    let mut seen = std::collections::HashSet::new();
    faults.extend(
        manifests
            .iter()
            .filter(|m: &&Manifest| !seen.insert((m.name.clone(), m.part_of().is_some())))
            .map(|m| format!("{}: {} is there twice", m.place, m.name)),
    );
    let manifests = joined(manifests, &mut faults);
    if faults.is_empty() && manifests.is_empty() {
        faults.push("there is no document in it".to_owned());
    }
    if !faults.is_empty() {
        let mut failure = Failure::invalid("the manifest cannot be used");
        failure.details = faults;
        return Err(failure);
    }
    Ok(manifests)
}

/// Where a text comes from.
struct Source<'a> {
    file: &'a str,
    /// What names of files in it are relative to.
    base: &'a Path,
    values: Values,
}

/// Parses the documents of a text. Faults are told as `file, document 2 (Peer tenants/acme/peers/b1): path: fault`.
fn parse(text: &str, from: &Source<'_>, manifests: &mut Vec<Manifest>, faults: &mut Vec<String>) {
    for (i, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        // By way of YAML's own value, which refuses a key that is there twice.
        let value = serde_yaml_ng::Value::deserialize(document);
        let value = value.and_then(serde_yaml_ng::from_value::<Value>);
        let place = format!("{}, document {}", from.file, i + 1);
        let objects = match value {
            Ok(Value::Null) => continue,
            // A list, as `get -o json` prints it.
            Ok(Value::Array(items)) => {
                let place = |k: usize| format!("{place}, item {}", k + 1);
                items.into_iter().enumerate().map(|(k, item)| (place(k), item)).collect()
            }
            Ok(object) => vec![(place, object)],
            Err(error) => {
                // The parser cannot go on behind it.
                faults.push(format!("{place}: {error}"));
                return;
            }
        };
        for (mut place, object) in objects {
            let Value::Object(fields) = object else {
                faults.push(format!("{place}: expected fields such as `kind: Tenant`"));
                continue;
            };
            match object_of(fields, from, &mut place) {
                Ok((name, wanted)) => manifests.push(Manifest { name, place, wanted }),
                Err(found) => faults.extend(found.into_iter().map(|fault| format!("{place}: {fault}"))),
            }
        }
    }
}

/// One object and its name. `place` is made more precise as soon as it is known what it is.
fn object_of(
    mut fields: Map<String, Value>,
    from: &Source<'_>,
    place: &mut String,
) -> Result<(String, Wanted), Vec<String>> {
    let kind = match fields.remove("kind") {
        Some(Value::String(kind)) => kind,
        _ => return Err(vec!["kind: is missing; expected Tenant, Policy, Secret or Peer".to_owned()]),
    };
    let given = match fields.get("name") {
        Some(Value::String(name)) => name.clone(),
        _ => return Err(vec![format!("name: is missing; expected such as {}", example(&kind))]),
    };
    place.push_str(&format!(" ({kind} {given})"));
    let check =
        |parsed: Result<(), tenants::NameError>| parsed.map_err(|error| vec![format!("name: {error}")]);
    let (name, object) = match kind.as_str() {
        "Tenant" => {
            let name = full_tenant(&given);
            check(name.parse::<tenants::TenantName>().map(drop))?;
            let mut tenant: v1::Tenant = from_json("Tenant", Value::Object(fields))?;
            tenant.name.clone_from(&name);
            tenant.policy.iter_mut().for_each(|policy| full_peers(policy, &name));
            (name, Kind::Tenant(tenant))
        }
        "Policy" => {
            let name = full_tenant(&given);
            check(name.parse::<tenants::TenantName>().map(drop))?;
            fields.remove("name");
            let mut policy: v1::Policy = from_json("Policy", Value::Object(fields))?;
            full_peers(&mut policy, &name);
            return Ok((name, Wanted::Policy(policy)));
        }
        "Secret" => {
            let name = full("secrets", &given, "");
            check(name.parse::<tenants::SecretName>().map(drop))?;
            let value = take_value(&mut fields, from).map_err(|fault| vec![fault])?;
            let secret: v1::Secret = from_json("Secret", Value::Object(fields))?;
            (name.clone(), Kind::Secret(v1::Secret { name, value, ..secret }))
        }
        "Peer" => {
            let name = full("peers", &given, "");
            let parsed = name.parse::<tenants::PeerName>();
            let tenant = parsed.as_ref().map(|name| name.tenant().to_string()).unwrap_or_default();
            check(parsed.map(drop))?;
            let mut peer: v1::Peer = from_json("Peer", Value::Object(fields))?;
            peer.name.clone_from(&name);
            match peer.auth.as_mut().and_then(|auth| auth.method.as_mut()) {
                Some(v1::auth::Method::Psk(psk)) => *psk = full("secrets", psk, &tenant),
                Some(v1::auth::Method::Certificates(v1::Certificates { own, authorities })) => {
                    *own = full("secrets", own, &tenant);
                    *authorities = full("secrets", authorities, &tenant);
                }
                None => {}
            }
            (name, Kind::Peer(peer))
        }
        other => return Err(vec![format!("kind: {other:?} is not one of Tenant, Policy, Secret, Peer")]),
    };
    Ok((name, Wanted::Object(v1::Object { kind: Some(object) })))
}

/// The peers of rules by their full names.
fn full_peers(policy: &mut v1::Policy, tenant: &str) {
    for rule in policy.rules.iter_mut().filter(|rule| !rule.peer.is_empty()) {
        rule.peer = full("peers", &rule.peer, tenant);
    }
}

/// A short name in full. What is no name stays as it is: whoever checks it says so.
fn full(collection: &str, text: &str, tenant: &str) -> String {
    let tenant = Some(tenant).filter(|tenant| !tenant.is_empty());
    full_name(collection, text, tenant).unwrap_or_else(|_| text.to_owned())
}

fn example(kind: &str) -> &'static str {
    match kind {
        "Secret" => "tenants/acme/secrets/psk",
        "Peer" => "tenants/acme/peers/branch-12",
        _ => "tenants/acme",
    }
}

/// The value of a secret, wherever it is. Without one an existing value is kept.
fn take_value(fields: &mut Map<String, Value>, from: &Source<'_>) -> Result<Vec<u8>, String> {
    let mut take = |camel: &str, snake: &str| fields.remove(camel).or_else(|| fields.remove(snake));
    let sources = [
        ("value", take("value", "value")),
        ("valueBase64", take("valueBase64", "value_base64")),
        ("valueFromFile", take("valueFromFile", "value_from_file")),
        ("valueFromEnv", take("valueFromEnv", "value_from_env")),
    ];
    let mut given = sources.into_iter().filter_map(|(field, value)| value.map(|value| (field, value)));
    let Some((field, value)) = given.next() else {
        return Ok(Vec::new());
    };
    if let Some((other, _)) = given.next() {
        return Err(format!("{other}: there is {field} too; one of them is enough"));
    }
    let Value::String(text) = value else {
        return Err(format!("{field}: expected a text; put it in quotes"));
    };
    if from.values == Values::Unread {
        return Ok(Vec::new());
    }
    match field {
        // Any octets, as a file may have them.
        "valueFromEnv" => match std::env::var_os(&text).map(OsString::into_vec) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(format!("valueFromEnv: the environment variable {text} is not set")),
        },
        "valueFromFile" => {
            let path = from.base.join(&text);
            let value = std::fs::read(&path);
            let value = value.map_err(|error| format!("valueFromFile: {}: {error}", path.display()))?;
            let value = Psk::in_file(&value);
            if value.is_empty() {
                Err(format!("valueFromFile: {} is empty", path.display()))
            } else {
                Ok(value.to_vec())
            }
        }
        "valueBase64" => match BASE64_STANDARD.decode(text.trim()) {
            Ok(value) if !value.is_empty() => Ok(value),
            Ok(_) => Err("valueBase64: is empty; leave it out to keep the one that is there".to_owned()),
            Err(error) => Err(format!("valueBase64: {error}")),
        },
        // Without one the value that is there is kept, and that is not what an empty one says.
        _ if text.is_empty() => Err("value: is empty; leave it out to keep the one that is there".to_owned()),
        _ => Ok(text.into_bytes()),
    }
}

/// Directories as the manifests in them, in the order of names.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let fail = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(fail)? {
            let file = entry.map_err(fail)?.path();
            let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if ["yaml", "yml", "json"].contains(&extension) {
                inside.push(file);
            }
        }
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, Failure> {
    let fail = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let mut octets = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_MANIFEST).read_to_end(&mut octets)
    } else {
        std::fs::File::open(path).map_err(fail)?.take(MAX_MANIFEST).read_to_end(&mut octets)
    };
    match read.map_err(fail)? as u64 {
        MAX_MANIFEST => {
            Err(Failure::invalid(format!("{}: larger than {MAX_MANIFEST} octets", path.display())))
        }
        _ => text_of(octets, path),
    }
}

/// The text that a file is. What is none is told with its line.
fn text_of(octets: Vec<u8>, path: &Path) -> Result<String, Failure> {
    String::from_utf8(octets).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|octet| **octet == b'\n').count() + 1;
        Failure::invalid(format!("{}:{line}: there is something that is no UTF-8", path.display()))
            .hint("a secret that is no text is given by valueBase64 or valueFromFile")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::failure::exit;

    fn kind(manifest: &Manifest) -> Option<&Kind> {
        match &manifest.wanted {
            Wanted::Object(object) => object.kind.as_ref(),
            Wanted::Policy(_) => None,
        }
    }

    fn parsed(text: &str) -> Result<Vec<Manifest>, Vec<String>> {
        let (mut manifests, mut faults) = (Vec::new(), Vec::new());
        let from = Source { file: "t.yaml", base: Path::new("."), values: Values::Read };
        parse(text, &from, &mut manifests, &mut faults);
        if faults.is_empty() { Ok(manifests) } else { Err(faults) }
    }

    #[test]
    fn documents_are_read_and_secrets_found() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("psk"), "from file\n").unwrap();
        let manifest = directory.path().join("m.yaml");
        let text = "\
kind: Peer
name: tenants/acme/peers/b1
---
kind: Secret
name: tenants/acme/secrets/a
value: plain
---
---
kind: Secret
name: tenants/acme/secrets/b
valueFromFile: psk
---
kind: Tenant
name: tenants/acme
";
        std::fs::write(&manifest, text).unwrap();
        let manifests = read_all(&[directory.path().to_owned()]).unwrap();
        let names: Vec<_> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
        assert_eq!(
            names,
            ["tenants/acme/peers/b1", "tenants/acme/secrets/a", "tenants/acme/secrets/b", "tenants/acme"]
        );
        let Some(Kind::Secret(secret)) = kind(&manifests[2]) else { panic!() };
        assert_eq!(secret.value, b"from file");
    }

    #[test]
    fn lists_and_short_names_are_read() {
        let text = r#"[{"kind": "Tenant", "name": "acme", "policy": {"rules": [{"name": "a", "peer": "b1"}]}},
            {"kind": "Peer", "name": "acme/b1", "uid": "7", "auth": {"psk": "psk"}, "status": {"state": "WAITING"}},
            {"kind": "Secret", "name": "secret/acme/psk"}]"#;
        let manifests = parsed(text).unwrap();
        let names: Vec<_> = manifests.iter().map(|manifest| manifest.name.as_str()).collect();
        assert_eq!(names, ["tenants/acme", "tenants/acme/peers/b1", "tenants/acme/secrets/psk"]);
        assert_eq!(manifests[1].place, "t.yaml, document 1, item 2 (Peer acme/b1)");
        let Some(Kind::Peer(peer)) = kind(&manifests[1]) else { panic!() };
        let psk = v1::auth::Method::Psk("tenants/acme/secrets/psk".to_owned());
        assert_eq!(
            (peer.name.as_str(), &peer.auth.as_ref().unwrap().method),
            ("tenants/acme/peers/b1", &Some(psk))
        );
        let Some(Kind::Tenant(tenant)) = kind(&manifests[0]) else { panic!() };
        assert_eq!(tenant.policy.as_ref().unwrap().rules[0].peer, "tenants/acme/peers/b1");
    }

    #[test]
    fn faults_name_the_document() {
        let found = |text: &str| parsed(text).unwrap_err().join("\n");
        assert!(found("name: x").starts_with("t.yaml, document 1: kind: is missing"));
        assert!(found("kind: Pear\nname: tenants/a").contains("\"Pear\" is not one of"));
        assert!(found("kind: Peer\nname: tenants/a").contains("document 1 (Peer tenants/a): name: "));
        let text = "kind: Tenant\nname: tenants/a\n---\nkind: Tenant\nname: tenants/b\ncolour: red\n";
        assert!(found(text).starts_with("t.yaml, document 2 (Tenant tenants/b): colour: unknown field"));
        assert!(found("kind: Tenant\nkind: Tenant\nname: tenants/a").contains("duplicate"));
        assert!(found("kind: [").contains("line 1") || found("kind: [").contains("line 2"));
        let text = "kind: Secret\nname: tenants/a/secrets/b\nvalue: x\nvalueFromEnv: y\n";
        assert!(found(text).contains("there is value too"));
        let text = "kind: Secret\nname: tenants/a/secrets/b\nvalueFromEnv: CULVERT_TEST_NOT_SET\n";
        assert!(found(text).contains("CULVERT_TEST_NOT_SET is not set"));
        let text = "kind: Secret\nname: tenants/a/secrets/b\nvalue: ''\n";
        assert!(found(text).contains("value: is empty"));
    }

    #[test]
    fn names_are_read_where_the_values_are_out_of_reach() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("t.yaml");
        let secret =
            |id: &str, value: &str| format!("kind: Secret\nname: tenants/a/secrets/{id}\n{value}\n---\n");
        let text = secret("b", "valueFromEnv: CULVERT_TEST_NOT_SET") + &secret("c", "valueFromFile: gone");
        std::fs::write(&file, text).unwrap();
        assert!(read_all(std::slice::from_ref(&file)).is_err());
        assert_eq!(read_names(&[file]).unwrap().0, ["tenants/a/secrets/b", "tenants/a/secrets/c"]);
    }

    #[test]
    fn a_secret_may_be_any_octets() {
        let value = |text: &str| {
            let parsed = parsed(&format!("kind: Secret\nname: tenants/a/secrets/b\n{text}\n"));
            parsed.map(|manifests| match kind(&manifests[0]) {
                Some(Kind::Secret(secret)) => secret.value.clone(),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(value("valueBase64: AP+A").unwrap(), [0, 0xff, 0x80]);
        assert!(value("valueBase64: ''").unwrap_err()[0].contains("is empty"));
        assert!(value("valueBase64: '%'").unwrap_err()[0].contains("valueBase64: "));
        assert!(value("valueBase64: AP+A\nvalue: a").unwrap_err()[0].contains("there is value too"));
    }

    #[test]
    fn what_is_no_text_is_told_with_its_line() {
        let read = |octets: &[u8]| text_of(octets.to_vec(), Path::new("t.yaml"));
        assert_eq!(read("a: grüezi\n".as_bytes()).unwrap(), "a: grüezi\n");
        let failure = read(b"kind: Secret\nvalue: schl\xfcssel\n").unwrap_err();
        assert_eq!(failure.code, exit::INVALID);
        assert!(failure.message.starts_with("t.yaml:2: "), "{}", failure.message);
        assert!(failure.hints[0].contains("valueBase64"));
    }

    const POLICY: &str = "kind: Policy\nname: acme\nrules: [{name: a, action: PROTECT, peer: b1}]\n---\n";

    #[test]
    fn a_policy_is_a_part_of_its_tenant() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("t.yaml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read_all(std::slice::from_ref(&file))
        };
        let [policy] = read(POLICY).unwrap().try_into().unwrap();
        assert_eq!(policy.part_of(), Some("tenants/acme"));
        let failure = policy.clone().whole(None).unwrap_err();
        assert_eq!(failure.code, exit::NOT_FOUND);
        assert!(
            failure.message.contains("document 1 (Policy acme): there is no tenants/acme"),
            "{}",
            failure.message
        );
        let there =
            v1::Tenant { name: "tenants/acme".into(), display_name: "Acme".into(), ..Default::default() };
        let (_, object) = policy.whole(Some(there)).unwrap();
        let Some(Kind::Tenant(tenant)) = &object.kind else { panic!() };
        let peer = &tenant.policy.as_ref().unwrap().rules[0].peer;
        assert_eq!((tenant.display_name.as_str(), peer.as_str()), ("Acme", "tenants/acme/peers/b1"));

        // Of both, the one goes into the other.
        let tenant = "kind: Tenant\nname: acme\ndisplayName: Acme\n---\n";
        let [whole] = read(&format!("{POLICY}{tenant}")).unwrap().try_into().unwrap();
        let Some(Kind::Tenant(joined)) = kind(&whole) else { panic!() };
        assert_eq!((whole.part_of(), joined.policy.as_ref().unwrap().rules.len()), (None, 1));
        let tenant = tenant.replace("displayName: Acme", "policy: {rules: []}");
        let failure = read(&format!("{POLICY}{tenant}")).unwrap_err();
        assert!(failure.details[0].contains("has a policy too"), "{:?}", failure.details);
        let failure = read(&POLICY.repeat(2)).unwrap_err();
        assert!(failure.details[0].contains("is there twice"), "{:?}", failure.details);
        std::fs::write(&file, format!("{POLICY}kind: Secret\nname: acme/psk\n")).unwrap();
        let names = read_names(std::slice::from_ref(&file)).unwrap();
        assert_eq!(names, (vec!["tenants/acme/secrets/psk".to_owned()], vec!["tenants/acme".to_owned()]));
    }
}
