//! The pure core: no clock, no disk, no network, no randomness.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod name;
pub mod secret;
pub mod digest;
pub mod yaml_path;
pub mod yaml;
pub mod registry;
pub mod service_url;
pub mod env_template;
pub mod skill_template;
pub mod registry_entry;
pub mod registry_import;
pub mod skill;
pub mod skill_lint;
pub mod people;
pub mod desired;
pub mod change;
pub mod user_blocks;
pub mod edit_text;
pub mod token;
pub mod event;
pub mod actual;
pub mod action;
pub mod env_file;
pub mod plan;
pub mod guard;
pub mod outcome;
pub mod run;
