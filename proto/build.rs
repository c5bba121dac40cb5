//! Compiles `culvert/v1/*.proto` with protox (no protoc needed) into message types, servers and clients.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 8] = [
    "culvert/v1/condition.proto",
    "culvert/v1/impact.proto",
    "culvert/v1/tenant.proto",
    "culvert/v1/secret.proto",
    "culvert/v1/peer.proto",
    "culvert/v1/sa.proto",
    "culvert/v1/node.proto",
    "culvert/v1/batch.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Server reflection and the CLI's YAML read the descriptors at run time.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Its value must not be printed: lib.rs has a `Debug` that leaves it out.
        .skip_debug(["culvert.v1.Secret"])
        .compile_fds(descriptors)?;
    Ok(())
}
