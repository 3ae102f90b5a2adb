//! Service Connector hands people, and the AI agents they work with, their keys to internal
//! services, and takes them back: a declarative reconciler.
//!
//! The path of data: files are parsed to [`model::desired`] and [`model::registry`], what is there
//! is gathered to [`model::actual`], [`model::plan`] compares the two, [`model::guard`] approves,
//! [`model::run`] carries out. All of `model` is pure; each edge below it is one outside thing.
//!
//! A module uses only those above it in this list (`tests/layers.rs` holds it).

pub mod model;
#[cfg(feature = "connector")]
pub mod causes;
#[cfg(feature = "connector")]
pub mod file_marks;
#[cfg(feature = "connector")]
pub mod desired_history;
#[cfg(feature = "connector")]
pub mod desired_error;
#[cfg(feature = "connector")]
pub mod desired_file;
#[cfg(feature = "connector")]
pub mod approval_box;
#[cfg(feature = "connector")]
pub mod registry_dir;
pub mod wire;
pub mod install;
pub mod user_process;
pub mod helper;
#[cfg(feature = "connector")]
pub mod installer;
#[cfg(feature = "connector")]
pub mod exchange;
#[cfg(feature = "connector")]
pub mod conformance;
#[cfg(feature = "connector")]
pub mod store;
#[cfg(feature = "connector")]
pub mod example_service;
#[cfg(feature = "connector")]
pub mod laptop_script;
#[cfg(feature = "connector")]
pub mod observe;
#[cfg(feature = "connector")]
pub mod execute;
#[cfg(feature = "connector")]
pub mod reconcile;
#[cfg(feature = "connector")]
pub mod nudge;
#[cfg(feature = "connector")]
pub mod watch;
#[cfg(feature = "connector")]
pub mod listen;
#[cfg(feature = "connector")]
pub mod ops;
#[cfg(feature = "connector")]
pub mod identity;
#[cfg(feature = "connector")]
pub mod editor;
#[cfg(feature = "connector")]
pub mod api;
#[cfg(feature = "connector")]
pub mod portal;
#[cfg(feature = "connector")]
pub mod web;
#[cfg(feature = "connector")]
pub mod doctor;
#[cfg(feature = "connector")]
pub mod cli;
