//! Arguments, then one command. A failure is printed on standard error and ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    mailroom::cli::main()
}
