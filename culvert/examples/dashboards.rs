//! `make dashboards`: writes dashboards, rules and the documents about them into the tree.

use std::path::Path;

fn main() -> Result<(), String> {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, text) in culvert::monitoring::files()? {
        let file = tree.join(&path);
        let folder = file.parent().unwrap_or(&tree);
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        std::fs::write(&file, text).map_err(|error| format!("{path}: {error}"))?;
        #[allow(clippy::print_stdout, reason = "whoever runs it wants to know")]
        {
            println!("{path}");
        }
    }
    Ok(())
}
