//! The command line: see [`culvert::cli`].

fn main() -> std::process::ExitCode {
    culvert::cli::main()
}
