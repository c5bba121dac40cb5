//! Every input that is kept, and random ones, through every target: what fuzzing found stays found.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, unused_crate_dependencies)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn replay(name: &str) {
    let target = fuzz::target(name).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut inputs: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    for path in inputs {
        let run = std::panic::catch_unwind(|| (target.run)(&fs::read(&path).unwrap()));
        assert!(run.is_ok(), "{} fails with {}", name, path.display());
    }
}

fn seeds(name: &str) {
    let seeds = fuzz::seeds::of(name);
    assert!(!seeds.is_empty());
    for seed in seeds {
        (fuzz::target(name).unwrap().run)(&seed);
    }
}

fn random(name: &str, cases: u32) {
    let target = fuzz::target(name).unwrap();
    let seeds = fuzz::seeds::of(name);
    // The stream is fixed: a test that fails must fail again. New inputs are found by `make fuzz`.
    let mut runner = TestRunner::new_with_rng(
        Config { cases, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let anything = prop::collection::vec(any::<u8>(), 0..400);
    let edits = prop::collection::vec((any::<u16>(), any::<u8>()), 0..6);
    let input =
        (any::<usize>(), edits, anything, any::<bool>()).prop_map(move |(which, edits, tail, edited)| {
            let Some(mut input) = seeds.get(which % seeds.len()).cloned().filter(|_| edited) else {
                return tail;
            };
            let len = input.len().max(1);
            for (at, value) in edits {
                if let Some(octet) = input.get_mut(usize::from(at) % len) {
                    *octet = value;
                }
            }
            input
        });
    runner
        .run(&input, |input| {
            (target.run)(&input);
            Ok(())
        })
        .unwrap();
}

macro_rules! targets {
    ($($name:ident: $cases:expr),* $(,)?) => {
        $(mod $name {
            #[test]
            fn corpus() {
                super::replay(stringify!($name));
            }

            #[test]
            fn seeds() {
                super::seeds(stringify!($name));
            }

            #[test]
            fn random() {
                super::random(stringify!($name), $cases);
            }
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($name)),*];
            assert!(fuzz::TARGETS.iter().map(|t| t.name).eq(replayed));
        }
    };
}

targets! {
    message: 5000,
    payloads: 5000,
    proposal_text: 2000,
    datagram: 500,
    connection: 300,
    network: 200,
    fragments: 200,
    v1_message: 5000,
    v1_first: 500,
    v1_connection: 200,
    esp_open: 3000,
    snapshot: 3000,
    tenant_spec: 3000,
}
