//! The privileged helper, with real accounts: whom it serves and who may ask, and what people do to
//! their homes, on purpose, while it works there. Everything runs on a server of the test's own.

#[path = "helper/attacks.rs"]
mod attacks;
#[path = "helper/callers.rs"]
mod callers;
#[path = "helper/facts.rs"]
mod facts;
#[path = "helper/names.rs"]
mod names;
#[path = "helper/people.rs"]
mod people;
#[path = "helper/processes.rs"]
mod processes;
#[path = "helper/races.rs"]
mod races;
#[path = "support/server.rs"]
mod server;
#[path = "helper/talk.rs"]
mod talk;
#[path = "helper/watched.rs"]
mod watched;
