//! Puts what becomes of clusters that are larger than any that was at hand into its page, or prints it if none is named.
#![allow(
    clippy::print_stdout,
    unused_crate_dependencies,
    reason = "what it is for; the library uses the others"
)]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(page) = std::env::args().nth(1) {
        let text = cluster::scale::put(&std::fs::read_to_string(&page)?)?;
        std::fs::write(page, text)?;
    } else {
        for (title, table) in cluster::scale::tables() {
            println!("{title}\n\n{table}");
        }
    }
    Ok(())
}
