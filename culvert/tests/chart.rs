//! What the chart renders is what the daemon reads: each golden render is taken apart here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use culvert::config::Config;
use serde::Deserialize as _;
use serde_json::Value;

/// The texts of the file `name` in all ConfigMaps of all golden renders, with the render they are in.
fn rendered(name: &str) -> Vec<(String, String)> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tests/golden");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let document = Value::deserialize(document).unwrap();
            if let Some(text) = document.pointer(&format!("/data/{name}")).and_then(Value::as_str) {
                found.push((path.display().to_string(), text.to_owned()));
            }
        }
    }
    found
}

#[test]
fn the_daemon_takes_every_configuration_that_the_chart_renders() {
    let configurations = rendered("culvertd.toml");
    assert!(configurations.len() >= 5, "the test no longer finds what it looks for");
    for (file, text) in configurations {
        let config =
            Config::parse(&text, Path::new("culvertd.toml")).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(config.metrics.listen.is_some(), "{file}: the probes have a port");
        assert_eq!(config.state_dir.0, Path::new("/var/lib/culvert"), "{file}");
    }
}

#[test]
fn the_daemon_takes_every_manifest_that_the_chart_renders() {
    let directory = tempfile::tempdir().unwrap();
    let manifests = rendered("manifest.yaml");
    assert!(manifests.len() >= 2, "the test no longer finds what it looks for");
    for (file, text) in manifests {
        // Where the kubelet would mount the Secrets.
        let mounted = directory.path().join("psk");
        let text = text.replace("/etc/culvert/psk", mounted.to_str().unwrap());
        for secret in ["acme-psk/branch-12", "acme-branch-13/psk", "6/null"] {
            std::fs::create_dir_all(mounted.join(secret).parent().unwrap()).unwrap();
            std::fs::write(mounted.join(secret), "one of a Secret").unwrap();
        }
        let manifest = directory.path().join("manifest.yaml");
        std::fs::write(&manifest, text).unwrap();
        let catalog = tenants::Catalog::in_memory().unwrap();
        culvert::daemon::bootstrap::run(&catalog, &manifest).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(!catalog.tenants().is_empty(), "{file}");
    }
}

/// What the node alone says of an object, which nobody puts into values.
const TOLD: &[&str] = &[
    "uid",
    "number",
    "etag",
    "createTime",
    "updateTime",
    "status",
    "impact",
    "warnings",
    "conditions",
    "effectiveRules",
    "effectiveRuleCount",
    "refusedRoutes",
];

#[test]
fn the_schema_knows_the_fields_of_what_is_bootstrapped_and_the_sections_of_the_settings() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/culvert");
    let text = std::fs::read_to_string(chart.join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let names = |known: &Value| -> BTreeSet<String> { known.as_object().unwrap().keys().cloned().collect() };
    let rules = schema.pointer("/properties/bootstrap/properties/objects/items/allOf").unwrap();
    for kind in ["Tenant", "Peer"] {
        let rule =
            rules.as_array().unwrap().iter().find(|rule| rule["if"]["properties"]["kind"]["const"] == kind);
        let mut known = names(&rule.unwrap()["then"]["properties"]);
        assert!(known.remove("kind"));
        let message =
            culvert_proto::descriptor_pool().get_message_by_name(&format!("culvert.v1.{kind}")).unwrap();
        let fields = message.fields().map(|field| field.json_name().to_owned());
        assert_eq!(known, fields.filter(|name| !TOLD.contains(&name.as_str())).collect(), "{kind}");
    }
    for section in names(schema.pointer("/properties/extraConfig/properties").unwrap()) {
        Config::parse(&format!("[{section}]"), Path::new("culvertd.toml")).unwrap();
    }
}
