//! The CRM service, on 127.0.0.1:7103: `SC_SECRET_CRM=… cargo run --example crm`.
//! Other settings: `Config::from_env`.

use std::process::ExitCode;

use service_connector::example_service::{ExampleService, Kind};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match ExampleService::run_until_ctrl_c(Kind::Crm, |line| println!("{line}")).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.with_causes());
            ExitCode::FAILURE
        }
    }
}
