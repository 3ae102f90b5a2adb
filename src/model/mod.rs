//! The pure core: no clock, no disk, no network, no randomness.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod name;
pub mod secret;
pub mod digest;
pub mod registry;
pub mod desired;
pub mod token;
pub mod skill;
pub mod actual;
pub mod action;
pub mod env_file;
pub mod plan;
pub mod guard;
pub mod outcome;
pub mod run;
