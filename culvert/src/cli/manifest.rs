//! Manifests: YAML documents that say what there shall be.
//!
//! A document has `kind: Tenant`, `Secret` or `Peer`, and the fields of that message. A secret has one of `value`,
//! `valueFromFile` (relative to the manifest; one line break at the end is not part of it) and `valueFromEnv`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use culvert_proto::v1;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::console::failure::Failure;
use crate::console::message::from_json;

/// Greatest manifest: a hundred thousand peers of some hundred octets.
const MAX_MANIFEST: u64 = 256 << 20;

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// Resource name.
    pub(crate) name: String,
    pub(crate) object: Object,
}

/// What a document describes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object {
    Tenant(v1::Tenant),
    Secret(v1::Secret),
    Peer(Box<v1::Peer>),
}

impl Object {
    /// Its place in the order of creation: a peer needs its secret, and that its tenant.
    fn rank(&self) -> u8 {
        match self {
            Self::Tenant(_) => 0,
            Self::Secret(_) => 1,
            Self::Peer(_) => 2,
        }
    }
}

/// Reads files, directories and `-` (standard input), in the order of creation.
pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let (mut manifests, mut faults) = (Vec::new(), Vec::new());
    for path in expand(paths)? {
        let text = read(&path)?;
        let base = path.parent().unwrap_or(Path::new("."));
        parse(&text, &path.display().to_string(), base, &mut manifests, &mut faults);
    }
    let mut seen = std::collections::HashSet::new();
    faults.extend(
        manifests
            .iter()
            .filter(|m: &&Manifest| !seen.insert(m.name.clone()))
            .map(|m| format!("{} is there twice", m.name)),
    );
    if faults.is_empty() && manifests.is_empty() {
        faults.push("there is no document in it".to_owned());
    }
    if !faults.is_empty() {
        let mut failure = Failure::invalid("the manifest cannot be used");
        failure.details = faults;
        return Err(failure);
    }
    // Stable: within a kind the order of the files is kept.
    manifests.sort_by_key(|manifest| manifest.object.rank());
    Ok(manifests)
}

/// Parses the documents of a text. Faults are told as `file, document 2 (Peer tenants/acme/peers/b1): path: fault`.
fn parse(text: &str, file: &str, base: &Path, manifests: &mut Vec<Manifest>, faults: &mut Vec<String>) {
    for (i, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        // By way of YAML's own value, which refuses a key that is there twice.
        let value = serde_yaml_ng::Value::deserialize(document);
        let value = value.and_then(serde_yaml_ng::from_value::<Value>);
        let mut place = format!("{file}, document {}", i + 1);
        let fields = match value {
            Ok(Value::Null) => continue,
            Ok(Value::Object(fields)) => fields,
            Ok(_) => {
                faults.push(format!("{place}: expected fields such as `kind: Tenant`"));
                continue;
            }
            Err(error) => {
                // The parser cannot go on behind it.
                faults.push(format!("{place}: {error}"));
                return;
            }
        };
        match document_of(fields, base, &mut place) {
            Ok(manifest) => manifests.push(manifest),
            Err(found) => faults.extend(found.into_iter().map(|fault| format!("{place}: {fault}"))),
        }
    }
}

/// One document. `place` is made more precise as soon as it is known what it is.
fn document_of(
    mut fields: Map<String, Value>,
    base: &Path,
    place: &mut String,
) -> Result<Manifest, Vec<String>> {
    let kind = match fields.remove("kind") {
        Some(Value::String(kind)) => kind,
        _ => return Err(vec!["kind: is missing; expected Tenant, Secret or Peer".to_owned()]),
    };
    let name = match fields.get("name") {
        Some(Value::String(name)) => name.clone(),
        _ => return Err(vec![format!("name: is missing; expected such as {}", example(&kind))]),
    };
    place.push_str(&format!(" ({kind} {name})"));
    let check =
        |parsed: Result<(), tenants::NameError>| parsed.map_err(|error| vec![format!("name: {error}")]);
    let object = match kind.as_str() {
        "Tenant" => {
            check(name.parse::<tenants::TenantName>().map(drop))?;
            Object::Tenant(from_json("Tenant", Value::Object(fields))?)
        }
        "Secret" => {
            check(name.parse::<tenants::SecretName>().map(drop))?;
            let value = take_value(&mut fields, base).map_err(|fault| vec![fault])?;
            let secret: v1::Secret = from_json("Secret", Value::Object(fields))?;
            Object::Secret(v1::Secret { value, ..secret })
        }
        "Peer" => {
            check(name.parse::<tenants::PeerName>().map(drop))?;
            Object::Peer(Box::new(from_json("Peer", Value::Object(fields))?))
        }
        other => return Err(vec![format!("kind: {other:?} is not one of Tenant, Secret, Peer")]),
    };
    Ok(Manifest { name, object })
}

fn example(kind: &str) -> &'static str {
    match kind {
        "Secret" => "tenants/acme/secrets/psk",
        "Peer" => "tenants/acme/peers/branch-12",
        _ => "tenants/acme",
    }
}

/// The value of a secret, wherever it is. Without one an existing value is kept.
fn take_value(fields: &mut Map<String, Value>, base: &Path) -> Result<Vec<u8>, String> {
    let mut take = |camel: &str, snake: &str| fields.remove(camel).or_else(|| fields.remove(snake));
    let sources = [
        ("value", take("value", "value")),
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
    match field {
        "valueFromEnv" => match std::env::var(&text) {
            Ok(value) if !value.is_empty() => Ok(value.into_bytes()),
            _ => Err(format!("valueFromEnv: the environment variable {text} is not set")),
        },
        "valueFromFile" => {
            let path = base.join(&text);
            let mut value = std::fs::read(&path)
                .map_err(|error| format!("valueFromFile: {}: {error}", path.display()))?;
            if value.last() == Some(&b'\n') {
                value.pop();
                if value.last() == Some(&b'\r') {
                    value.pop();
                }
            }
            if value.is_empty() {
                Err(format!("valueFromFile: {} is empty", path.display()))
            } else {
                Ok(value)
            }
        }
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
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_MANIFEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).map_err(fail)?.take(MAX_MANIFEST).read_to_string(&mut text)
    };
    match read.map_err(fail)? as u64 {
        MAX_MANIFEST => {
            Err(Failure::invalid(format!("{}: larger than {MAX_MANIFEST} octets", path.display())))
        }
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Manifest>, Vec<String>> {
        let (mut manifests, mut faults) = (Vec::new(), Vec::new());
        parse(text, "t.yaml", Path::new("."), &mut manifests, &mut faults);
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
            ["tenants/acme", "tenants/acme/secrets/a", "tenants/acme/secrets/b", "tenants/acme/peers/b1"]
        );
        let Object::Secret(secret) = &manifests[2].object else { panic!() };
        assert_eq!(secret.value, b"from file");
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
    }
}
