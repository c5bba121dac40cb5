//! Running a subject under callgrind.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::subjects::Subject;

/// What counts depend on besides the code: the compiler, valgrind, and what of the CPU valgrind shows.
pub(crate) fn about() -> anyhow::Result<BTreeMap<String, String>> {
    let hint = "valgrind is not there: install the package `valgrind` (Debian: apt install valgrind)";
    let valgrind = output(Command::new("valgrind").arg("--version")).context(hint)?;
    let rustc = output(Command::new("rustc").arg("--version")).context("rustc is not there")?;
    let features = [("avx2", cpu_has("avx2")), ("bmi2", cpu_has("bmi2")), ("aes", cpu_has("aes"))];
    let features: Vec<_> = features.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    Ok(BTreeMap::from([
        ("valgrind".to_owned(), valgrind),
        ("rustc".to_owned(), rustc),
        ("cpu".to_owned(), format!("{} {}", std::env::consts::ARCH, features.join(" "))),
    ]))
}

/// Instructions of one round of a subject.
pub(crate) fn count(subject: &Subject) -> anyhow::Result<u64> {
    let myself = std::env::current_exe()?;
    let out = std::env::temp_dir().join(format!("bench-callgrind-{}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counted_by_callgrind*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(myself)
        .args(["run", subject.name])
        // Where the stack begins depends on the environment, and by its alignment so do some copies.
        .env_clear();
    let ran = output(&mut valgrind).with_context(|| format!("cannot count {}", subject.name))?;
    let profile =
        std::fs::read_to_string(&out).with_context(|| format!("callgrind has left nothing: {ran}"))?;
    // What is left behind of it harms nobody.
    let _ = std::fs::remove_file(&out);
    let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.context("callgrind's profile has no totals")?.trim().parse()?;
    ensure!(total > 0, "callgrind has counted nothing for {}", subject.name);
    Ok(total / subject.rounds as u64)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn cpu_has(feature: &str) -> bool {
    // What is not to be read has no features; then the counts are compared all the same, and only the note differs.
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == feature))
}
