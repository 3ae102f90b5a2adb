//! `install-service-env`: see [`service_connector::helper`].

use std::process::ExitCode;

fn main() -> ExitCode {
    service_connector::helper::main()
}
