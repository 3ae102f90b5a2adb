//! What people click: edits of the desired state, if they may.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use crate::api::DoneJson;
use crate::approval_box::{ApprovalBox, Asked};
use crate::desired_file::{Edit, Edited};
use crate::model::card::{Can, State};
use crate::model::change::Change;
use crate::model::digest::Digest;
use crate::model::name::{ServiceId, UserId};
use crate::model::registry::{Entry, Registry, Service};
use crate::nudge;

use super::states::StateOf;
use super::{Known, Person, Portal, PortalError, View};

/// What somebody clicked.
#[derive(Debug, Clone)]
pub enum Click {
    /// Connect; with so many days instead of the registry's.
    Connect {
        /// To what.
        service: ServiceId,
        /// How many days keys should live.
        ttl_days: Option<u16>,
    },
    /// Disconnect from a service.
    Disconnect(ServiceId),
    /// Replace the key.
    Rotate {
        /// Of which service.
        service: ServiceId,
        /// It leaked.
        leaked: bool,
    },
}

impl Click {
    /// Of which service it is.
    #[must_use]
    pub fn service(&self) -> &ServiceId {
        match self {
            Self::Connect { service, .. }
            | Self::Disconnect(service)
            | Self::Rotate { service, .. } => service,
        }
    }

    /// Whether nothing more is to be waited for after it. Without a state nothing of the service is
    /// left, and nobody can have it; nor can they while its entry is broken.
    fn is_done(&self, state: Option<State>) -> bool {
        match self {
            Self::Connect { .. } | Self::Rotate { .. } => state == Some(State::Connected),
            Self::Disconnect(_) => matches!(
                state,
                None | Some(State::NotConnected | State::NotAllowed | State::Blocked)
            ),
        }
    }

    fn change(&self, user: &UserId, now: Timestamp) -> Change {
        let user = user.clone();
        match self.clone() {
            Self::Connect { service, ttl_days } => Change::Connect { user, service, ttl_days },
            Self::Disconnect(service) => Change::Disconnect { user, service },
            Self::Rotate { service, leaked } => {
                Change::Rotate { user, service, at: readable(now), leaked }
            }
        }
    }

    /// What is said of it, as things stand.
    fn message(&self, name: &str, state: Option<State>, is_done: bool, paused: bool) -> String {
        match self {
            Self::Connect { .. } if is_done => format!("{name} is connected."),
            Self::Connect { .. } => format!("Connecting to {name}."),
            Self::Disconnect(_) if is_done => format!("{name} is disconnected."),
            Self::Disconnect(_) => format!("Disconnecting from {name}."),
            Self::Rotate { leaked: true, .. } if paused => format!(
                "The key to {name} is being revoked. No new one comes while renewal is switched off."
            ),
            Self::Rotate { .. } if is_done => format!("{name} has a new key."),
            Self::Rotate { .. } if !state.is_some_and(State::has_key) => {
                format!("A key to {name} is on its way.")
            }
            Self::Rotate { leaked: false, .. } => {
                format!("A new key to {name} is on its way; the present one works until then.")
            }
            Self::Rotate { leaked: true, .. } => {
                format!("The key to {name} is being revoked, and a new one is on its way.")
            }
        }
    }
}

/// No finer than a person can read, and never a time to come: the next pass is to act on it.
fn readable(now: Timestamp) -> Timestamp {
    let whole = TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Trunc);
    now.round(whole).unwrap_or(now)
}

impl Portal {
    /// Does what somebody clicked: the edit, which is on the disk when this returns, and how things
    /// stand with it, before a pass has acted on it.
    ///
    /// # Errors
    /// They may not, it makes no sense, or it cannot be done: nothing was changed.
    pub async fn click(
        &self,
        who: &Known,
        click: &Click,
        expected: Option<Digest>,
        waits: bool,
    ) -> Result<(Edited, Followed), PortalError> {
        let edit = self.clicked(who, click).await?;
        // Read while the edit is written: of what follows from it the state knows nothing before.
        let state = self.states.of(&who.user);
        let edited = self.editor.edit(edit, expected).await?;
        if !edited.changed {
            // What follows is that of an edit before it, and may have come meanwhile.
            return Ok((edited, self.followed(who, click, edited, waits).await));
        }
        let followed = self.follows(who, click, edited, waits, state.await.ok()).await;
        Ok((edited, followed))
    }

    /// The edit that somebody clicked.
    ///
    /// # Errors
    /// They may not.
    async fn clicked(&self, who: &Known, click: &Click) -> Result<Edit, PortalError> {
        let view = self.view().await?;
        let wish = || view.desired()?.wish(&who.user, click.service());
        let change = match click {
            // A service that neither the registry knows nor the person has anything of is a slip.
            Click::Disconnect(service)
                if !view.registry()?.entries.contains_key(service) && wish()?.is_none() =>
            {
                return Err(PortalError::NoService(service.clone()));
            }
            Click::Disconnect(_) => click.change(&who.user, self.now()),
            Click::Rotate { service, leaked } => {
                let service = may_have(who, service, view.registry()?)?;
                if !leaked && wish()?.is_some_and(|wish| wish.paused) {
                    return Err(PortalError::NotNow(format!(
                        "Renewal of {} is switched off by an administrator: no new key comes.",
                        service.name
                    )));
                }
                click.change(&who.user, self.now())
            }
            Click::Connect { service, ttl_days } => {
                may_have(who, service, view.registry()?)?;
                // Who connects again what did not come wants it to be tried again. What is not wanted
                // cannot fail: as a rule it need not be looked at.
                let again = ttl_days.is_none() && wish()?.is_some();
                if again && self.is_failing(who, service, &view).await {
                    let (user, service) = (who.user.clone(), service.clone());
                    Change::Retry { user, service, at: readable(self.now()) }
                } else {
                    click.change(&who.user, self.now())
                }
            }
        };
        Ok(Edit { change, who: format!("{} (portal)", who.user) })
    }

    async fn is_failing(&self, who: &Known, service: &ServiceId, view: &View) -> bool {
        let Ok(state) = self.states.of(&who.user).await else { return false };
        let person = Person::new(who, view, &state).ok();
        let found = person.and_then(|person| person.connection(service, self));
        found.is_some_and(|found| found.can.contains(&Can::Retry))
    }

    /// The edit that offboards somebody, and what is to be said once it is made.
    ///
    /// # Errors
    /// Nobody can have that id: a slip, which would leave somebody else in.
    pub fn offboarding(
        &self,
        view: &View,
        who: &Known,
        user: &UserId,
    ) -> Result<(Edit, String), PortalError> {
        let desired = view.desired()?;
        let has_keys = !self.readers.with(|store| store.of_user(user))?.tokens.is_empty();
        let has_any = has_keys || !desired.user(user)?.connections.is_empty();
        if !has_any && !desired.has(user)? && view.people()?.person(user).is_err() {
            return Err(PortalError::Nobody(user.clone()));
        }
        let message = if has_any {
            format!("{user} is offboarded: every connection goes.")
        } else {
            format!("{user} is offboarded, and had no connection.")
        };
        let change = Change::Offboard { user: user.clone() };
        Ok((Edit { change, who: format!("{} (portal, admin)", who.user) }, message))
    }

    /// Makes an edit that is nobody's own click.
    ///
    /// # Errors
    /// It cannot be made: nothing was changed.
    pub async fn make_for_another(
        &self,
        edit: Edit,
        message: String,
        expected: Option<Digest>,
    ) -> Result<DoneJson, PortalError> {
        let Edited { changed, revision, .. } = self.editor.edit(edit, expected).await?;
        Ok(DoneJson { ok: true, message, state: None, changed, revision, service: None })
    }

    /// Asks for the approval of what the guard holds: the next pass takes it up, if its own
    /// configuration says so.
    ///
    /// # Errors
    /// It may not be asked for here, or something else is held by now.
    pub fn approve(
        &self,
        view: &View,
        who: &Known,
        digest: Digest,
    ) -> Result<DoneJson, PortalError> {
        if !self.rules.may_approve {
            return Err(PortalError::NotAllowed(format!(
                "Approvals are made on the server: service-connector approve {}",
                digest.short()
            )));
        }
        let held = self.readers.with(|store| Ok(store.last_pass()?.and_then(|pass| pass.held)))?;
        if held.is_none_or(|held| held.digest != digest) {
            let text = "Something else is held by now, or nothing. Look again, and then decide.";
            return Err(PortalError::NotNow(text.to_owned()));
        }
        let asked = Asked { digest, who: format!("{} (portal, admin)", who.user), at: self.now() };
        ApprovalBox::beside(&self.places.desired).ask(&asked).map_err(PortalError::Approval)?;
        // Who cannot be told finds it at the next look at everything.
        nudge::nudge(&self.places.state).ok();
        Ok(DoneJson {
            ok: true,
            message: "Approved: the next pass carries it out.".to_owned(),
            state: None,
            changed: true,
            revision: view.desired()?.revision,
            service: None,
        })
    }

    /// How things stand some time after an edit, for who `waits` for what follows from it or does not.
    pub async fn followed(
        &self,
        who: &Known,
        click: &Click,
        edited: Edited,
        waits: bool,
    ) -> Followed {
        let state = self.states.of(&who.user).await.ok();
        self.follows(who, click, edited, waits, state).await
    }

    /// The edit stands, whatever can be told of the rest.
    async fn follows(
        &self,
        who: &Known,
        click: &Click,
        edited: Edited,
        waits: bool,
        state: Option<StateOf>,
    ) -> Followed {
        let view = self.view().await.ok();
        let person = view.as_ref().zip(state.as_ref());
        let person = person.and_then(|(view, state)| Person::new(who, view, state).ok());
        let service = person.as_ref().and_then(|person| person.connection(click.service(), self));
        let stands = service.as_ref().map(|service| service.state);
        let is_on_its_way = person.is_none() || stands.is_some_and(State::is_on_its_way);
        // Before a pass has acted on it, how things stand says nothing of what follows from it.
        let seen = state.as_ref().and_then(|state| state.last_edit_seen);
        let has_seen = !edited.changed || (waits && seen.is_some_and(|seen| seen >= edited.at));
        let is_settled = has_seen && !is_on_its_way;
        let is_done = is_settled && click.is_done(stands);
        let name = service.as_ref().map(|service| service.name.clone()).or_else(|| {
            let registry = view.as_ref()?.registry().ok()?;
            Some(registry.service(click.service())?.name.clone())
        });
        let name = name.unwrap_or_else(|| click.service().to_string());
        let wish = person.as_ref().and_then(|p| p.wanted.connections.get(click.service()));
        let paused = wish.is_some_and(|wish| wish.paused);
        let done = DoneJson {
            ok: true,
            message: click.message(&name, stands, is_done, paused),
            state: stands,
            changed: edited.changed,
            revision: edited.revision,
            service,
        };
        Followed { done, is_done, goes_on: !is_settled }
    }
}

/// What has followed from an edit so far.
pub struct Followed {
    /// The answer to whoever made it.
    pub done: DoneJson,
    /// Whether that is all.
    pub is_done: bool,
    /// Whether more may follow by itself.
    pub goes_on: bool,
}

/// The service, if this person may have a key to it.
fn may_have<'r>(
    who: &Known,
    id: &ServiceId,
    registry: &'r Registry,
) -> Result<&'r Service, PortalError> {
    let service = match registry.entries.get(id) {
        Some(Entry::Usable(service)) => service,
        Some(Entry::Broken(_)) => {
            return Err(PortalError::NotNow(format!("{id} is not set up at the moment.")));
        }
        None => return Err(PortalError::NoService(id.clone())),
    };
    if service.retired {
        return Err(PortalError::NotNow(format!("{} is retired.", service.name)));
    }
    if !service.allow.covers(&who.user, &who.email) {
        return Err(PortalError::NotAllowed(format!(
            "You may not use {}. Ask whoever runs this portal.",
            service.name
        )));
    }
    Ok(service)
}
