//! The `service-connector` binary.

fn main() {}
