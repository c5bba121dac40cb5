//! Writes the seeds of every target into the folder given, for a fuzzer to start from. With a second folder, one of
//! captures of others, the UDP payloads in them become seeds as well; they are read there and never kept here.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a tool for developers"
)]

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(out) = args.first() else {
        eprintln!("usage: cargo run -p fuzz -- FOLDER [FOLDER-OF-CAPTURES]");
        return Ok(());
    };
    let mut captured = Vec::new();
    if let Some(folder) = args.get(1) {
        walk(Path::new(folder), &mut captured);
    }
    for target in fuzz::TARGETS {
        let folder = Path::new(out).join(target.name);
        fs::create_dir_all(&folder)?;
        let mut seeds = fuzz::seeds::of(target.name);
        match target.name {
            "message" => seeds.extend(captured.iter().filter(|c| c[17] == 0x20).cloned()),
            "v1_message" => {
                let of_v1 = captured.iter().filter(|c| c[17] == 0x10);
                seeds.extend(of_v1.map(|c| [&[0], c.as_slice()].concat()));
            }
            "datagram" => seeds.extend(captured.iter().map(|c| {
                let length = u16::try_from(c.len()).unwrap_or(u16::MAX).to_be_bytes();
                [&[1, 0][..], &length, c].concat()
            })),
            _ => {}
        }
        for (i, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{i:03}")), seed)?;
        }
        println!("{}: {} seeds", target.name, seeds.len());
    }
    Ok(())
}

/// The IKE messages in all capture files below a folder, found by their version and length whatever stands around.
fn walk(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "pcap" || e == "pcapng") {
            let bytes = fs::read(&path).unwrap_or_default();
            for at in 0..bytes.len().saturating_sub(28) {
                let head = &bytes[at..at + 28];
                let length = u32::from_be_bytes([head[24], head[25], head[26], head[27]]) as usize;
                let v2 = head[17] == 0x20 && (34..=37).contains(&head[18]) && head[19] & 0xc7 == 0;
                let v1 = head[17] == 0x10 && [2, 4, 5, 32].contains(&head[18]) && head[19] & 0xf8 == 0;
                let ike = v2 || v1;
                if ike && (28..4096).contains(&length) && at + length <= bytes.len() {
                    found.push(bytes[at..at + length].to_vec());
                }
            }
        }
    }
}
