//! The places of a server and whose they are: the portal's user, the reconciler's and root, each
//! with umask 077.

#[path = "places/accounts.rs"]
mod accounts;
#[path = "support/server.rs"]
mod server;
