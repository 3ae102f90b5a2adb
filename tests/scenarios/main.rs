//! Whole stories, told by the real program: over HTTP to services that answer in this process,
//! with the state and the homes in a scratch directory.

mod answers;
mod canary;
mod commands;
mod desired;
mod doctor;
mod guard;
mod homes;
mod migration;
mod nudge;
mod ops;
mod operators;
mod ops_listener;
mod output;
mod people;
mod quiet;
mod registry;
mod review;
#[path = "../support/scene.rs"]
mod scene;
#[path = "../support/service.rs"]
mod service;
mod shared_secret;
mod slow;
mod state;
mod sweep;
mod time;
mod told;
mod tokens;
mod transfer;
mod watch;
