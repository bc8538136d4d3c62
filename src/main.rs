//! The program `iotsocketd`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    iotsocketd::cli::main()
}
