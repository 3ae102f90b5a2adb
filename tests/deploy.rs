//! The kit that sets up a server: `deploy/server/`, and the package. Needs root.

#[path = "deploy/killed.rs"]
mod killed;
#[path = "deploy/kit.rs"]
mod kit;
#[path = "deploy/package.rs"]
mod package;
#[path = "deploy/portal.rs"]
mod portal;
#[path = "deploy/running.rs"]
mod running;
#[path = "deploy/secrets.rs"]
mod secrets;
#[path = "support/server.rs"]
mod server;
#[path = "deploy/setup.rs"]
mod setup;
#[path = "helper/talk.rs"]
#[allow(dead_code, reason = "the helper's own tests use the rest")]
mod talk;
#[path = "deploy/uninstall.rs"]
mod uninstall;
#[path = "deploy/units.rs"]
mod units;
