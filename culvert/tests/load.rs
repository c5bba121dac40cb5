//! The load of many tunnels, in small: what it measures in large is only as good as it is itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unused_crate_dependencies
)]

#[path = "common/daemon.rs"]
mod daemon;

use std::process::Command;

use clap::Parser;
use loadtest::tunnels::{Arguments, run};

#[derive(Parser)]
struct Load {
    #[command(flatten)]
    arguments: Arguments,
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_come_up_are_rekeyed_under_traffic_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("culvertd.toml");
    let text = format!(
        "state_dir = {:?}\n[grpc]\nlisten = \"127.0.0.1:0\"\n[ike]\nlisten = [\"127.0.0.1\"]\nport = 0\n\
         natt_port = 0\n[log]\nformat = \"json\"\n",
        directory.path().join("state")
    );
    std::fs::write(&config, text).unwrap();
    let (mut daemon, log, ready) = daemon::launch(daemon::culvertd(), &config);
    let server = format!("http://{}", ready["grpc"].as_str().unwrap());
    let port = |name: &str| ready[name].as_u64().unwrap().to_string();
    let (ike_port, natt_port) = (port("ike_port"), port("natt_port"));
    // What it says from now on is read, so that it does not wait for a reader.
    let reader = std::thread::spawn(move || log.map_while(Result::ok).count());
    let words =
        ["load", "--server", &server, "--ike-port", &ike_port, "--natt-port", &natt_port, "--count", "21"];
    let load = Load::parse_from(words.into_iter().chain([
        "--rate",
        "50",
        "--for",
        "1s",
        "--concurrency",
        "8",
        "--settle",
        "0s",
    ]));
    let clean = run(&load.arguments).await.unwrap();
    assert!(Command::new("kill").arg(daemon.id().to_string()).status().unwrap().success());
    assert!(daemon.wait().unwrap().success());
    reader.join().unwrap();
    assert!(clean, "every tunnel is rekeyed, and nothing lost");
}
