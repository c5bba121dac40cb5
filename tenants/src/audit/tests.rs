#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use culvert_proto::v1;

use crate::audit::file::LogFiles;
use crate::audit::{AuditLimits, AuditLog, Deed, FOLDER};
use crate::author::{Author, Role};
use crate::catalog::{Catalog, Options};

fn author(principal: &str) -> Arc<Author> {
    Arc::new(Author {
        principal: principal.into(),
        from: "192.0.2.1:5".into(),
        method: "culvert.v1.TenantService/CreateTenant".into(),
        ..(*Author::node()).clone()
    })
}

fn create(id: &str) -> v1::CreateTenantRequest {
    v1::CreateTenantRequest { tenant_id: id.into(), ..Default::default() }
}

fn secret(tenant: &str, value: &str) -> v1::CreateSecretRequest {
    v1::CreateSecretRequest {
        parent: format!("tenants/{tenant}"),
        secret_id: "psk".into(),
        secret: Some(v1::Secret { value: value.into(), ..Default::default() }),
        ..Default::default()
    }
}

fn names(catalog: &Catalog, parent: &str) -> Vec<String> {
    let page = catalog.page_audit(parent, 1000, "").unwrap();
    page.items.iter().flat_map(|entry| entry.objects.iter().map(|object| object.name.clone())).collect()
}

#[test]
fn an_entry_says_who_did_what_and_nothing_secret() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    author("token tokens/ops").acting(|| {
        catalog.create_tenant(&create("acme")).unwrap();
        catalog.create_secret(secret("acme", "hunter2hunter2")).unwrap();
    });
    let changed = v1::UpdateSecretRequest {
        secret: Some(v1::Secret {
            name: "tenants/acme/secrets/psk".into(),
            value: b"another-value".to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    catalog.update_secret(changed).unwrap();
    let page = catalog.page_audit("tenants/acme", 0, "").unwrap();
    let [changed, created, tenant] = page.items.as_slice() else { unreachable!("{page:?}") };
    assert_eq!((changed.principal.as_str(), created.principal.as_str()), ("culvertd", "token tokens/ops"));
    assert_eq!((tenant.from.as_str(), tenant.result.as_str()), ("192.0.2.1:5", "OK"));
    assert_eq!(changed.objects[0].change, "UPDATED");
    assert!(changed.objects[0].value_changed && changed.objects[0].before.is_some());
    assert!(created.objects[0].before.is_none() && created.objects[0].after.is_some());
    let text = std::fs::read_to_string(directory.path().join(FOLDER).join("audit.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 3);
    for hidden in ["hunter2hunter2", "another-value", "aHVudGVy", "YW5vdGhlci12YWx1ZQ"] {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[test]
fn what_was_committed_is_in_the_log_after_a_crash_between_the_store_and_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FOLDER).join("audit.jsonl");
    let catalog = Catalog::open(directory.path()).unwrap();
    for id in ["a", "b", "c"] {
        catalog.create_tenant(&create(id)).unwrap();
    }
    drop(catalog);
    // As if the machine had died: the last line is cut, the one before it lost.
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(&file, format!("{}\n{}", lines[0], &lines[2][..20])).unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    assert_eq!(names(&catalog, ""), ["tenants/c", "tenants/b", "tenants/a"]);
    // And once: what is there is not written again, however often it is opened.
    drop(catalog);
    let catalog = Catalog::open(directory.path()).unwrap();
    catalog.create_tenant(&create("d")).unwrap();
    let sequences: Vec<u64> =
        catalog.page_audit("", 0, "").unwrap().items.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, [4, 3, 2, 1]);
}

#[test]
fn rows_leave_the_store_once_the_file_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    for n in 0..100 {
        catalog.create_tenant(&create(&format!("t{n}"))).unwrap();
    }
    let rows = catalog.backup().unwrap();
    let kept = rows.iter().filter(|(key, _)| key.starts_with("catalog/audit/")).count();
    assert!((1..=64).contains(&kept), "{kept} rows");
    assert_eq!(names(&catalog, "tenants/-").len(), 100);
}

#[test]
fn files_are_rotated_and_the_oldest_go() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { audit: AuditLimits { max_bytes: 2_000, keep: 3 }, ..Options::default() };
    let catalog = Catalog::open_with(directory.path(), &options).unwrap();
    for n in 0..60 {
        catalog.create_tenant(&create(&format!("t{n}"))).unwrap();
    }
    let files: Vec<_> = std::fs::read_dir(directory.path().join(FOLDER)).unwrap().collect();
    assert_eq!(files.len(), 3);
    for file in files {
        assert!(file.unwrap().metadata().unwrap().len() <= 2_000);
    }
    let kept = names(&catalog, "");
    assert_eq!(kept[0], "tenants/t59");
    assert!(kept.len() > 5 && kept.len() < 60, "{}", kept.len());
    // Pages go on from file to file.
    let (mut token, mut paged) = (String::new(), Vec::new());
    loop {
        let page = catalog.page_audit("", 2, &token).unwrap();
        paged.extend(page.items.iter().map(|entry| entry.objects[0].name.clone()));
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert_eq!(paged, kept);
}

/// Lines of changes come late where another was faster, and at the next start where the disk took none for a while.
#[test]
fn lines_that_came_late_are_in_their_place_of_the_list_and_no_number_is_given_twice() {
    let orders: [&[u64]; 5] = [
        &[1, 2, 3, 4, 5, 6, 7],
        &[1, 2, 4, 3],
        &[1, 2, 3, 7, 8, 9, 10, 11, 12, 4, 5, 6, 13, 14],
        &[1, 2, 3, 10, 11, 12, 4, 5, 6, 7, 8, 9],
        &[10, 11, 12, 1, 2],
    ];
    for order in orders {
        let directory = tempfile::tempdir().unwrap();
        let entry = |sequence| v1::AuditEntry { sequence, message: "x".repeat(200), ..Default::default() };
        // Three of them fit.
        let limits = AuditLimits { max_bytes: 750, keep: 100 };
        let mut files = LogFiles::open(directory.path(), limits).unwrap();
        for sequence in order {
            files.append(&entry(*sequence)).unwrap();
        }
        let wanted = order.iter().copied().chain([99]).collect();
        let there = files.sequences_among(&wanted).unwrap();
        assert_eq!(there.len(), order.len(), "{order:?}");
        drop(files);
        let log = AuditLog::open(directory.path(), limits, None, Vec::new()).unwrap();
        assert!(std::fs::read_dir(directory.path()).unwrap().count() >= order.len() / 3);
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        for size in [1, 2, 3, 100] {
            let (mut token, mut paged) = (String::new(), Vec::new());
            loop {
                let page = log.page("", size, &token, None).unwrap();
                paged.extend(page.items.iter().map(|entry| entry.sequence));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            paged.reverse();
            assert_eq!(paged, sorted, "{order:?} by {size}");
        }
        assert_eq!(log.number(), sorted.last().unwrap() + 1, "{order:?}");
    }
}

#[test]
fn nobody_fills_the_log_with_what_he_writes() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    let long = "\u{1}".repeat(4_000_000);
    let author = Author {
        method: long.clone(),
        traceparent: Some(format!("00-{long}-1-1")),
        ..(*author("token tenants/a/tokens/t")).clone()
    };
    let names = vec![long.clone(); 60];
    let deed = Deed { author, result: "NOT_FOUND", message: long, names, suppressed: 0 };
    catalog.audit().note(deed, false);
    let line = std::fs::read_to_string(directory.path().join(FOLDER).join("audit.jsonl")).unwrap();
    assert!(line.len() < 8_000, "{} octets", line.len());
    assert_eq!(catalog.page_audit("", 0, "").unwrap().items[0].more_objects, 44);
}

#[test]
fn a_tenant_sees_what_is_its_own_alone() {
    let catalog = Catalog::in_memory().unwrap();
    catalog.create_tenant(&create("a")).unwrap();
    catalog.create_tenant(&create("ab")).unwrap();
    let deed = Deed {
        author: (*author("user 7")).clone(),
        result: "PERMISSION_DENIED",
        message: "no".into(),
        names: vec!["tenants/a/peers/x".into(), "tenants/ab".into()],
        suppressed: 3,
    };
    catalog.audit().note(deed, false);
    assert_eq!(names(&catalog, "tenants/a"), ["tenants/a/peers/x", "tenants/a"]);
    assert_eq!(names(&catalog, "tenants/ab"), ["tenants/ab", "tenants/ab"]);
}

#[test]
fn who_is_of_a_tenant_writes_what_is_its_own_alone() {
    let catalog = Catalog::in_memory().unwrap();
    for id in ["a", "b"] {
        catalog.create_tenant(&create(id)).unwrap();
    }
    let of_a = Arc::new(Author {
        tenant: Some("tenants/a".parse().unwrap()),
        role: Role::Admin,
        ..(*author("token tenants/a/tokens/t")).clone()
    });
    let refused = |error: crate::Error| error.to_string();
    of_a.acting(|| {
        catalog.create_secret(secret("a", "value")).unwrap();
        let other = refused(catalog.create_secret(secret("b", "value")).unwrap_err());
        assert_eq!(other, "tenants/b/secrets/psk not found");
        let created = refused(catalog.create_tenant(&create("c")).unwrap_err());
        assert_eq!(created, "tenants/c not found");
        let delete = v1::DeleteTenantRequest { name: "tenants/a".into(), force: true, ..Default::default() };
        assert!(refused(catalog.delete_tenant(&delete).unwrap_err()).contains("callers of the whole node"));
        let update = |tenant: v1::Tenant| {
            let tenant = Some(v1::Tenant { name: "tenants/a".into(), ..tenant });
            catalog.update_tenant(&v1::UpdateTenantRequest { tenant, ..Default::default() })
        };
        update(v1::Tenant { display_name: "A".into(), ..Default::default() }).unwrap();
        let quotas = Some(v1::Quotas { max_peers: 5, ..Default::default() });
        let denied = refused(update(v1::Tenant { quotas, ..Default::default() }).unwrap_err());
        assert!(denied.starts_with("tenants/a: quotas"), "{denied}");
        let delete = v1::DeleteRequest { names: vec!["tenants/b".into()], ..Default::default() };
        let error = catalog.delete(&delete).unwrap_err().to_string();
        assert!(error.contains("tenants/b not found"), "{error}");
    });
    assert!(catalog.get_tenant(&"tenants/b".parse().unwrap()).is_some());
}

#[test]
fn an_entry_of_large_objects_keeps_their_names_and_as_many_values_as_it_has_room_for() {
    use prost::Message as _;

    use crate::limits::MAX_AUDIT_ENTRY;
    let catalog = Catalog::in_memory().unwrap();
    catalog.create_tenant(&create("acme")).unwrap();
    catalog.create_secret(secret("acme", "value")).unwrap();
    let peer = |number: u32| {
        let subnet = |at: u32| format!("{}/32", std::net::Ipv4Addr::from(0x0b00_0000 + number * 64 + at));
        let child = v1::Child {
            name: "lan".into(),
            local_subnets: vec!["10.0.0.0/16".into()],
            remote_subnets: (0..60).map(subnet).collect(),
            ..Default::default()
        };
        let peer = v1::Peer {
            name: format!("tenants/acme/peers/p{number}"),
            local_identity: "gw.example".into(),
            remote_identity: format!("p{number}.example"),
            auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/acme/secrets/psk".into())) }),
            children: vec![child],
            ..Default::default()
        };
        v1::Object { kind: Some(v1::object::Kind::Peer(peer)) }
    };
    let request = v1::ApplyRequest { objects: (0..1_000).map(peer).collect(), ..Default::default() };
    catalog.apply(request).unwrap();
    let page = catalog.page_audit("", 1, "").unwrap();
    let entry = &page.items[0];
    assert!(entry.encoded_len() <= MAX_AUDIT_ENTRY, "{} octets", entry.encoded_len());
    assert!(entry.values_left_out && entry.objects.len() == 1_000);
    assert!(entry.objects.iter().all(|object| object.change == "CREATED"));
    let with_values = entry.objects.iter().filter(|object| object.after.is_some()).count();
    assert!((100..1_000).contains(&with_values), "{with_values} values");
    let rows = catalog.backup().unwrap();
    let stored = rows.iter().filter(|(key, _)| key.starts_with("catalog/audit/"));
    assert!(stored.map(|(_, value)| value.len()).all(|octets| octets <= MAX_AUDIT_ENTRY));
    assert!(catalog.page_audit("", 3, "").unwrap().items[1..].iter().all(|entry| !entry.values_left_out));
}

fn refusal() -> Deed {
    let author = (*author("user 7")).clone();
    Deed { author, result: "NOT_FOUND", message: "no".into(), names: Vec::new(), suppressed: 0 }
}

#[test]
fn a_rotation_that_stopped_half_way_is_finished_by_the_next_entry() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { audit: AuditLimits { max_bytes: 2_000, keep: 10 }, ..Options::default() };
    let catalog = Catalog::open_with(directory.path(), &options).unwrap();
    catalog.create_tenant(&create("a")).unwrap();
    // The file has its new name, and there was no descriptor left for the one after it.
    let folder = directory.path().join(FOLDER);
    std::fs::rename(folder.join("audit.jsonl"), folder.join(format!("audit-{:020}.jsonl", 1))).unwrap();
    for _ in 0..20 {
        catalog.audit().note(refusal(), false);
    }
    assert!(folder.join("audit.jsonl").exists());
    let sequences = |catalog: &Catalog| -> Vec<u64> {
        catalog.page_audit("", 0, "").unwrap().items.iter().map(|entry| entry.sequence).collect()
    };
    let expected: Vec<u64> = (1..=21).rev().collect();
    assert_eq!(sequences(&catalog), expected);
    drop(catalog);
    assert_eq!(sequences(&Catalog::open_with(directory.path(), &options).unwrap()), expected);
}

#[test]
fn a_change_that_is_some_files_back_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { audit: AuditLimits { max_bytes: 2_000, keep: 20 }, ..Options::default() };
    let catalog = Catalog::open_with(directory.path(), &options).unwrap();
    catalog.create_tenant(&create("a")).unwrap();
    for _ in 0..60 {
        catalog.audit().note(refusal(), false);
    }
    drop(catalog);
    let files = std::fs::read_dir(directory.path().join(FOLDER)).unwrap().count();
    assert!((4..20).contains(&files), "{files} files");
    let catalog = Catalog::open_with(directory.path(), &options).unwrap();
    let page = catalog.page_audit("", 1000, "").unwrap();
    assert_eq!(page.items.len(), 61);
    assert_eq!(names(&catalog, ""), ["tenants/a"]);
}

#[test]
fn a_tenant_sees_nothing_of_another_that_had_its_name() {
    let catalog = Catalog::in_memory().unwrap();
    let of_a = Arc::new(Author { tenant: Some("tenants/a".parse().unwrap()), ..(*author("user 7")).clone() });
    let seen = || of_a.acting(|| catalog.page_audit("tenants/a", 0, ""));
    catalog.create_tenant(&create("a")).unwrap();
    catalog.create_secret(secret("a", "value")).unwrap();
    assert_eq!(seen().unwrap().items.len(), 2);
    let delete = v1::DeleteTenantRequest { name: "tenants/a".into(), force: true, ..Default::default() };
    catalog.delete_tenant(&delete).unwrap();
    assert_eq!(seen().unwrap_err().to_string(), "tenants/a not found");
    catalog.create_tenant(&create("a")).unwrap();
    let items = seen().unwrap().items;
    assert_eq!(items.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [4]);
    // Who has the whole node sees both.
    assert_eq!(catalog.page_audit("tenants/a", 0, "").unwrap().items.len(), 4);
}

/// Who waits for the disk waits for the lines that were there when it began, and others' too.
#[test]
fn the_disk_is_waited_for_once_for_all_lines_that_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let limits = AuditLimits { max_bytes: 400, ..AuditLimits::default() };
    let mut files = LogFiles::open(directory.path(), limits).unwrap();
    let entry = |sequence| v1::AuditEntry { sequence, message: "x".repeat(50), ..Default::default() };
    for sequence in 1..=2 {
        files.append(&entry(sequence)).unwrap();
    }
    let (file, all) = files.unsynced(1).unwrap();
    assert_eq!(all, 2, "the second comes with the first");
    files.append(&entry(3)).unwrap();
    file.sync_data().unwrap();
    files.synced(all);
    assert!(files.unsynced(1).is_none() && files.unsynced(2).is_none());
    assert_eq!(files.unsynced(3).unwrap().1, 3);
    // A file that is full is synced when the next one is begun.
    while !files.append(&entry(4)).unwrap() {}
    let lines = files.lines();
    assert!(files.unsynced(lines - 1).is_none() && files.unsynced(lines).is_some());
}

#[test]
fn orders_that_are_noted_at_once_are_all_there() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let audit = catalog.audit();
            scope.spawn(move || {
                let author = Author { method: format!("order {n}"), ..(*Author::node()).clone() };
                let (result, message) = ("OK", String::new());
                audit.note(Deed { author, result, message, names: vec![], suppressed: 0 }, true);
            });
        }
    });
    let written = std::fs::read_to_string(directory.path().join(FOLDER).join("audit.jsonl")).unwrap();
    assert_eq!(written.lines().filter(|line| line.contains("order ")).count(), 16, "{written}");
}
