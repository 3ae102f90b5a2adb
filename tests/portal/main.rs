//! The portal through the real binary, over HTTP: what people and programs can do there, and what
//! nobody can.

mod clicks;
mod combinations;
mod demo;
mod document;
#[path = "../support/door.rs"]
mod door;
mod killed;
mod looks;
#[path = "../support/scene.rs"]
mod scene;
#[path = "../support/service.rs"]
mod service;
