//! Who should be connected to what, and who is who.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::name::{AccountName, Email, ServiceId, UserId};

/// The desired state as `desired.yaml` says it, not yet resolved against people and registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Everybody whom the file names.
    pub users: BTreeMap<UserId, DesiredUser>,
}

/// One user of `desired.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesiredUser {
    /// Offboarded: nothing is issued, the portal refuses.
    pub disabled: bool,
    /// What the user should be connected to.
    pub connections: BTreeMap<ServiceId, Wish>,
    /// The line of the user's key, from 1.
    pub line: u32,
}

/// One connection of `desired.yaml`, with what is asked of it beyond the registry's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// How long keys should live, 1 to 365 days; the registry's default without.
    pub ttl_days: Option<u16>,
    /// Renew once this time has come, if the token is older.
    pub rotate_after: Option<Timestamp>,
    /// Tokens asked for before this are revoked at once, without a grace: a key leaked.
    pub revoke_issued_before: Option<Timestamp>,
    /// No issue, renewal or rotation; expiry and disconnect still count.
    pub paused: bool,
    /// The line of the connection's key, from 1.
    pub line: u32,
}

/// `people.yaml`: who is who.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    listed: BTreeMap<UserId, Person>,
    domains: Vec<String>,
}

/// Whom a user id means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Sent to the service as the token's owner.
    pub email: Email,
    /// Whose home gets the files.
    pub account: AccountName,
}
