//! Tokens: made once, found by their value, revoked at once, kept over a restart.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use culvert_proto::v1;
use tenants::{Author, Catalog, Role, TokenRefused};

fn request(parent: &str, id: &str, role: Role) -> v1::CreateTokenRequest {
    v1::CreateTokenRequest {
        parent: parent.into(),
        token_id: id.into(),
        token: Some(v1::Token { role: role.to_proto().into(), ..Default::default() }),
        ..Default::default()
    }
}

fn with_tenant(catalog: Catalog) -> Catalog {
    let tenant = v1::CreateTenantRequest { tenant_id: "acme".into(), ..Default::default() };
    catalog.create_tenant(&tenant).unwrap();
    catalog
}

#[test]
fn a_token_is_known_by_its_value_until_it_ends_or_is_revoked() {
    let catalog = with_tenant(Catalog::in_memory().unwrap());
    let (token, value) = catalog.create_token(&request("tenants/acme", "ci", Role::Operator)).unwrap();
    let now = SystemTime::now();
    assert_eq!(catalog.get_token(&token.name).unwrap().last_use(), None);
    let found = catalog.verify_token(value.as_bytes(), now).unwrap();
    assert_eq!((found.name.to_string().as_str(), found.role), ("tenants/acme/tokens/ci", Role::Operator));
    assert!(catalog.get_token(&token.name).unwrap().last_use().is_some());
    let later = token.expires;
    assert_eq!(catalog.verify_token(value.as_bytes(), later).unwrap_err(), TokenRefused::Expired);
    for wrong in ["", "cvt_", &value[..46], &format!("{}x", *value)] {
        assert_eq!(catalog.verify_token(wrong.as_bytes(), now).unwrap_err(), TokenRefused::Unknown);
    }
    assert!(catalog.is_token_good(&found, now) && !catalog.is_token_good(&found, later));
    let delete = v1::DeleteTokenRequest { name: token.name.to_string(), ..Default::default() };
    assert_eq!(catalog.delete_token(&delete).unwrap(), ["tenants/acme/tokens/ci"]);
    assert_eq!(catalog.verify_token(value.as_bytes(), now).unwrap_err(), TokenRefused::Unknown);
    assert!(!catalog.is_token_good(&found, now));
    // One of the same name is another one.
    catalog.create_token(&request("tenants/acme", "ci", Role::Operator)).unwrap();
    assert!(!catalog.is_token_good(&found, now));
}

#[test]
fn tokens_go_with_their_tenant() {
    let catalog = with_tenant(Catalog::in_memory().unwrap());
    let (_, value) = catalog.create_token(&request("tenants/acme", "ci", Role::Viewer)).unwrap();
    let delete = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
    assert_eq!(catalog.delete_tenant(&delete).unwrap(), ["tenants/acme/tokens/ci", "tenants/acme"]);
    assert!(catalog.verify_token(value.as_bytes(), SystemTime::now()).is_err());
}

#[test]
fn nobody_makes_a_token_of_more_than_the_own_role() {
    let catalog = with_tenant(Catalog::in_memory().unwrap());
    let operator = Arc::new(Author { role: Role::Operator, ..(*Author::node()).clone() });
    operator.acting(|| {
        catalog.create_token(&request("", "o", Role::Operator)).unwrap();
        let error = catalog.create_token(&request("", "a", Role::Admin)).unwrap_err().to_string();
        assert_eq!(error, "tokens/a: a token of the role admin is not for operators to make");
    });
    let tenant = Some("tenants/acme".parse().unwrap());
    let of_tenant = Arc::new(Author { tenant, ..(*Author::node()).clone() });
    of_tenant.acting(|| {
        catalog.create_token(&request("tenants/acme", "t", Role::Admin)).unwrap();
        let error = catalog.create_token(&request("", "node-wide", Role::Viewer)).unwrap_err().to_string();
        assert_eq!(error, "tokens/node-wide not found");
    });
}

#[test]
fn lists_are_of_the_node_or_of_tenants() {
    let catalog = with_tenant(Catalog::in_memory().unwrap());
    for (parent, id) in [("", "b"), ("tenants/acme", "a"), ("", "a"), ("tenants/acme", "b")] {
        catalog.create_token(&request(parent, id, Role::Viewer)).unwrap();
    }
    let names = |parent: &str, size, token: &str| {
        let page = catalog.page_tokens(parent, size, token).unwrap();
        let names: Vec<_> = page.items.iter().map(|token| token.name.to_string()).collect();
        (names, page.next_page_token)
    };
    assert_eq!(names("", 0, "").0, ["tokens/a", "tokens/b"]);
    let of_acme = ["tenants/acme/tokens/a", "tenants/acme/tokens/b"];
    assert_eq!(names("tenants/acme", 0, "").0, of_acme);
    assert_eq!(names("tenants/-", 0, "").0, of_acme);
    let (first, next) = names("", 1, "");
    assert_eq!((first, names("", 1, &next).0), (vec!["tokens/a".into()], vec!["tokens/b".into()]));
}

#[test]
fn tokens_and_their_last_use_outlive_the_process_and_their_value_is_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    let (token, value) = catalog.create_token(&request("", "ops", Role::Admin)).unwrap();
    let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let until = v1::Token {
        role: v1::Role::Viewer.into(),
        expire_time: Some((used + Duration::from_secs(9)).into()),
        ..Default::default()
    };
    let other = v1::CreateTokenRequest { token: Some(until), ..request("", "gone", Role::Viewer) };
    let (gone, _) = catalog.create_token(&other).unwrap();
    catalog.verify_token(value.as_bytes(), SystemTime::now()).unwrap();
    let last_use = catalog.get_token(&token.name).unwrap().last_use().unwrap();
    catalog.tend().unwrap();
    let delete = v1::DeleteTokenRequest { name: gone.name.to_string(), ..Default::default() };
    catalog.delete_token(&delete).unwrap();
    drop(catalog);
    let catalog = Catalog::open(directory.path()).unwrap();
    let found = catalog.verify_token(value.as_bytes(), SystemTime::now()).unwrap();
    assert_eq!(found.name, token.name);
    assert!(found.last_use().unwrap() >= last_use);
    assert!(catalog.get_token(&gone.name).is_none());
    for (key, row) in catalog.backup().unwrap() {
        assert!(!row.windows(value.len()).any(|part| part == value.as_bytes()), "{key}");
    }
    let report = tenants::store::check(&directory.path().join("catalog.redb"), None);
    assert!(report.is_err(), "in use");
    drop(catalog);
    let report = tenants::store::check(&directory.path().join("catalog.redb"), None).unwrap();
    assert_eq!((report.tokens, report.faults.len()), (1, 0));
}
