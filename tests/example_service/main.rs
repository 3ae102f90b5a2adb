//! The reference service from outside: over HTTP, and by its ledger.

mod business;
mod contract;
mod faults;
#[path = "../support/service.rs"]
mod service;
