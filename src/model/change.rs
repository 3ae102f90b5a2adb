//! What can be changed in the desired state, and what that means.

use std::fmt;

use jiff::Timestamp;

use super::desired::{Desired, Wish};
use super::name::{ServiceId, UserId};

/// One change of the desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Connect a user to a service; one who is connected stays so.
    Connect {
        /// Whom.
        user: UserId,
        /// To what.
        service: ServiceId,
        /// How long keys should live; as it was, or the registry's default, without.
        ttl_days: Option<u16>,
    },
    /// Disconnect a user from a service.
    Disconnect {
        /// Whom.
        user: UserId,
        /// From what.
        service: ServiceId,
    },
    /// Ask for a new key.
    Rotate {
        /// Whose.
        user: UserId,
        /// Of which service.
        service: ServiceId,
        /// What was issued before this is replaced.
        at: Timestamp,
        /// The old key leaked: it is revoked at once, without a grace.
        leaked: bool,
    },
    /// Try again at once what failed.
    Retry {
        /// Whose.
        user: UserId,
        /// Of which service.
        service: ServiceId,
        /// What failed before this makes nothing wait.
        at: Timestamp,
    },
    /// A user leaves: nothing is issued any more, and every connection goes. It survives the
    /// user's next click.
    Offboard {
        /// Who.
        user: UserId,
    },
}

/// Why a change makes no sense on this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// An offboarded user gets nothing.
    #[error("{0} is disabled (offboarded): remove `disabled: true` first")]
    Disabled(UserId),
    /// There is no connection to rotate.
    #[error("{user} is not connected to {service}")]
    NotConnected {
        /// Whose.
        user: UserId,
        /// Of which service.
        service: ServiceId,
    },
    /// Not 1 to 365.
    #[error("ttl_days is {0}; 1 to 365 are allowed")]
    Ttl(u16),
}

impl Change {
    /// Whose block of the file it touches.
    #[must_use]
    pub fn user(&self) -> &UserId {
        match self {
            Self::Connect { user, .. }
            | Self::Disconnect { user, .. }
            | Self::Rotate { user, .. }
            | Self::Retry { user, .. }
            | Self::Offboard { user } => user,
        }
    }

    /// Makes the change in the model. Says whether it changed anything.
    ///
    /// # Errors
    /// When it makes no sense; then nothing is changed.
    pub fn apply(&self, desired: &mut Desired) -> Result<bool, ChangeError> {
        match self {
            Self::Connect { user, service, ttl_days } => connect(desired, user, service, *ttl_days),
            Self::Disconnect { user, service } => {
                let user = desired.users.get_mut(user);
                Ok(user.is_some_and(|user| user.connections.remove(service).is_some()))
            }
            Self::Retry { user, service, at } => {
                Ok(wish(desired, user, service)?.retried_at.replace(*at) != Some(*at))
            }
            Self::Rotate { user, service, at, leaked } => {
                let wish = wish(desired, user, service)?;
                let time =
                    if *leaked { &mut wish.revoke_issued_before } else { &mut wish.rotate_after };
                Ok(time.replace(*at) != Some(*at))
            }
            Self::Offboard { user } => {
                let user = desired.users.entry(user.clone()).or_default();
                let was_here = !user.disabled || !user.connections.is_empty();
                user.disabled = true;
                user.connections.clear();
                Ok(was_here)
            }
        }
    }
}

fn wish<'d>(
    desired: &'d mut Desired,
    user: &UserId,
    service: &ServiceId,
) -> Result<&'d mut Wish, ChangeError> {
    let wish = desired.users.get_mut(user).and_then(|user| user.connections.get_mut(service));
    wish.ok_or_else(|| ChangeError::NotConnected { user: user.clone(), service: service.clone() })
}

fn connect(
    desired: &mut Desired,
    user: &UserId,
    service: &ServiceId,
    ttl_days: Option<u16>,
) -> Result<bool, ChangeError> {
    if let Some(days) = ttl_days.filter(|days| !(1..=365).contains(days)) {
        return Err(ChangeError::Ttl(days));
    }
    if desired.users.get(user).is_some_and(|user| user.disabled) {
        return Err(ChangeError::Disabled(user.clone()));
    }
    let connections = &mut desired.users.entry(user.clone()).or_default().connections;
    let is_new = !connections.contains_key(service);
    let wish = connections.entry(service.clone()).or_default();
    let longer = ttl_days.is_some() && wish.ttl_days != ttl_days;
    if longer {
        wish.ttl_days = ttl_days;
    }
    Ok(is_new || longer)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { user, service, ttl_days } => {
                write!(f, "connect {user} {service}")?;
                ttl_days.map_or(Ok(()), |days| write!(f, " ttl_days {days}"))
            }
            Self::Disconnect { user, service } => write!(f, "disconnect {user} {service}"),
            Self::Offboard { user } => write!(f, "offboard {user}"),
            Self::Retry { user, service, .. } => write!(f, "retry {user} {service}"),
            Self::Rotate { user, service, leaked: false, .. } => {
                write!(f, "rotate {user} {service}")
            }
            Self::Rotate { user, service, leaked: true, .. } => {
                write!(f, "rotate {user} {service} leaked")
            }
        }
    }
}
