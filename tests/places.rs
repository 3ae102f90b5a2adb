//! The places of a server and whose they are: the portal's user, the reconciler's and root, each
//! with umask 077.

#[path = "places/accounts.rs"]
mod accounts;
#[path = "places/configuration.rs"]
mod configuration;
#[path = "places/edits.rs"]
mod edits;
#[path = "places/keys.rs"]
mod keys;
#[path = "places/nudges.rs"]
mod nudges;
#[path = "places/portal.rs"]
mod portal;
#[path = "places/readers.rs"]
mod readers;
#[path = "support/server.rs"]
mod server;
#[path = "support/service.rs"]
mod service;
#[path = "places/world.rs"]
mod world;
