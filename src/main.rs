//! Parses the command line, runs it, and turns the outcome into an exit code: 0 done, 1 refused, 2 wrong usage.
//!
//! Never: anything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    truckradar::cli::main()
}
