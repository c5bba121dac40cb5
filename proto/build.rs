//! Compiles `culvert/v1/*.proto` with protox (no protoc needed) into message types, servers and clients.

use std::path::PathBuf;

const FILES: [&str; 11] = [
    "culvert/v1/access.proto",
    "culvert/v1/condition.proto",
    "culvert/v1/impact.proto",
    "culvert/v1/tenant.proto",
    "culvert/v1/secret.proto",
    "culvert/v1/peer.proto",
    "culvert/v1/sa.proto",
    "culvert/v1/node.proto",
    "culvert/v1/batch.proto",
    "culvert/v1/token.proto",
    "culvert/v1/audit.proto",
];

const ETCD: &str = "etcd/api.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // Server reflection, the CLI's YAML and the access rules of methods are read from the descriptors at run time. In this form
    // they have our own options too, which the types of prost leave out.
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        // Their values must not be printed: lib.rs has a `Debug` that leaves them out.
        .skip_debug(["culvert.v1.Secret", "culvert.v1.Token"])
        .compile_fds(compiler.file_descriptor_set())?;

    // Not of our API: what a node calls at etcd.
    println!("cargo:rerun-if-changed={ETCD}");
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.open_files([ETCD])?;
    tonic_prost_build::configure().build_server(false).compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
