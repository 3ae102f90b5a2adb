//! The Purchase Orders service, on 127.0.0.1:7101: `SC_SECRET_PURCHASE_ORDERS=… cargo run --example purchase_orders`.
//! Other settings: `Config::from_env`.

use std::process::ExitCode;

use service_connector::example_service::{ExampleService, Kind};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match ExampleService::run_until_ctrl_c(Kind::PurchaseOrders, |line| println!("{line}")).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", error.with_causes());
            ExitCode::FAILURE
        }
    }
}
