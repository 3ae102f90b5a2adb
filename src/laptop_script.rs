//! What runs on laptops: a script, since they have nothing of ours.

/// The text of `sync_service_env.sh`.
pub const LAPTOP_SCRIPT: &str = include_str!("../deploy/laptop/sync_service_env.sh");
