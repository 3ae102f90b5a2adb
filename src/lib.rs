//! Service Connector hands people, and the AI agents they work with, their keys to internal
//! services, and takes them back: a declarative reconciler.
//!
//! The path of data: files are parsed to [`model::desired`] and [`model::registry`], what is there
//! is gathered to [`model::actual`], [`model::plan`] compares the two, [`model::guard`] approves,
//! [`model::run`] carries out. All of `model` is pure; each edge below it is one outside thing.
//!
//! A module uses only those above it in this list (`tests/layers.rs` holds it).

pub mod model;
pub mod causes;
pub mod desired_history;
pub mod desired_error;
pub mod desired_file;
pub mod registry_dir;
pub mod wire;
pub mod install;
pub mod installer;
pub mod exchange;
pub mod conformance;
pub mod store;
pub mod example_service;
pub mod observe;
pub mod execute;
pub mod reconcile;
pub mod doctor;
pub mod cli;
