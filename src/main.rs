//! `service-connector`: see [`service_connector::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    service_connector::cli::main()
}
