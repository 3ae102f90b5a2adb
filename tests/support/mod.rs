//! What the tests of the plan share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod files;
pub mod fleet;
pub mod given;
pub mod services;
pub mod simulated;
pub mod variant;
