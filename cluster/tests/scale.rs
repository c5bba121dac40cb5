//! The page about large clusters says what the simulation gives.
#![allow(clippy::unwrap_used, missing_docs, unused_crate_dependencies)]

use cluster::scale::{Plan, put, simulate};

#[test]
fn the_page_says_what_the_simulation_gives() {
    let page = std::fs::read_to_string("../docs/src/scale.md").unwrap();
    assert!(put(&page).unwrap() == page, "`make scale` writes it anew");
}

/// Each start takes a slot. Were none given up, none moved to whoever has none, this would come to an end after as many.
#[test]
fn nodes_may_be_started_as_often_as_they_like() {
    let plan = Plan {
        nodes: 3,
        tunnels: 100,
        days: 365.0,
        fail_days: 10.0,
        upgrade_days: 1.0,
        life_days: 100.0,
        seed: 7,
    };
    let outcome = simulate(plan);
    assert!(outcome.starts > 1_000 && outcome.slots_at_most <= 63, "{outcome:?}");
    assert!(outcome.uneven < 2.0, "{outcome:?}");
    // What is the same comes to the same.
    assert_eq!(simulate(plan), outcome);
}
