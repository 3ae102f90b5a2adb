//! The pure core: no clock, no disk, no network, no randomness.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod digest;
pub mod name;
pub mod secret;
