//! Everybody's connections, for administrators.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::api::{
    ConnectionJson, DebtJson, ExpiryJson, FleetJson, FleetServiceJson, HeldJson, LastPassJson,
    VERSION,
};
use crate::model::actual::Actual;
use crate::model::card::{Facts, State};
use crate::model::desired::{Desired, People};
use crate::model::digest::Digest;
use crate::model::kept_back::KeptBack;
use crate::model::name::{ServiceId, UserId};
use crate::model::registry::Registry;
use crate::model::token::{Phase, Token};
use crate::store::{Fleet, LastPass, Shown};

use super::readers::Version;
use super::view::Files;
use super::{Portal, PortalError, View, health_of};

/// So many debts are shown.
const MOST_DEBTS: usize = 1000;

/// Which part of the fleet is asked for.
#[derive(Debug, Clone, Default)]
pub struct FleetQuery {
    /// What a user's or a service's id, its name or the message contains; in lower case.
    pub text: Option<String>,
    /// What users' ids begin with; in lower case.
    pub user: Option<String>,
    /// One service only.
    pub service: Option<ServiceId>,
    /// One state only.
    pub state: Option<State>,
    /// Which page, from 1.
    pub page: usize,
    /// How many on a page.
    pub per_page: usize,
}

impl FleetQuery {
    /// The services whose names contain the text.
    fn named<'s>(&self, services: &'s [FleetServiceJson]) -> BTreeSet<&'s ServiceId> {
        let Some(text) = &self.text else { return BTreeSet::new() };
        let named = services.iter().filter(|one| one.name.to_lowercase().contains(text));
        named.map(|service| &service.id).collect()
    }

    fn fits(&self, row: &ConnectionJson, named: &BTreeSet<&ServiceId>) -> bool {
        let contains = |text: &String| {
            row.user.as_str().contains(text)
                || row.service.as_str().contains(text)
                || named.contains(&row.service)
                || row.message.to_lowercase().contains(text)
        };
        self.text.as_ref().is_none_or(contains)
            && self.user.as_ref().is_none_or(|user| row.user.as_str().starts_with(user.as_str()))
            && self.service.as_ref().is_none_or(|service| *service == row.service)
    }
}

/// The whole fleet as it was last counted: to look through its pages costs it once.
pub(super) type Last = Mutex<Option<(Of, Arc<Everything>)>>;

/// What it was counted of.
#[derive(PartialEq)]
pub(super) struct Of {
    files: Files,
    revision: Digest,
    version: Version,
    /// Time changes states, too.
    minute: i64,
}

/// The whole fleet.
pub(super) struct Everything {
    at: Timestamp,
    connections: Vec<ConnectionJson>,
    services: Vec<FleetServiceJson>,
    debts: Vec<DebtJson>,
    expiries: Vec<ExpiryJson>,
    last_pass: Option<LastPass>,
}

impl Portal {
    /// A page of the fleet.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn fleet(&self, view: &View, query: &FleetQuery) -> Result<FleetJson, PortalError> {
        let (everything, revision) = self.everything(view)?;
        let mut counts: BTreeMap<State, usize> = BTreeMap::new();
        let mut rows = Vec::new();
        let named = query.named(&everything.services);
        for row in everything.connections.iter().filter(|row| query.fits(row, &named)) {
            *counts.entry(row.state).or_default() += 1;
            if query.state.is_none_or(|state| state == row.state) {
                rows.push(row);
            }
        }
        let before = query.page.saturating_sub(1).saturating_mul(query.per_page);
        let page = rows.iter().skip(before).take(query.per_page);
        let last_pass = everything.last_pass.as_ref();
        Ok(FleetJson {
            version: VERSION,
            at: everything.at,
            revision,
            total: rows.len(),
            page: query.page,
            per_page: query.per_page,
            counts,
            services: everything.services.clone(),
            connections: page.map(|row| (*row).clone()).collect(),
            debts: everything.debts.clone(),
            held: last_pass.and_then(|pass| pass.held.as_ref()).map(|held| HeldJson {
                digest: held.digest,
                connections: held.connections,
                why: held.why.clone(),
                may_approve: self.rules.may_approve,
            }),
            expiries: everything.expiries.clone(),
            last_pass: last_pass.map(|pass| LastPassJson {
                at: pass.at,
                took_ms: pass.took_ms,
                exit: pass.exit,
                summary: pass.summary.clone(),
            }),
        })
    }

    fn everything(&self, view: &View) -> Result<(Arc<Everything>, Digest), PortalError> {
        let (desired, now) = (view.desired()?, self.now());
        let (revision, minute) = (desired.revision, now.as_second().div_euclid(60));
        let of = view.files().zip(self.readers.version());
        let of = of.map(|(files, version)| Of { files, revision, version, minute });
        let mut last = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((counted, everything)) = &*last
            && of.as_ref() == Some(counted)
        {
            return Ok((Arc::clone(everything), revision));
        }
        let everything = Arc::new(self.count(view, &desired.all()?, now)?);
        *last = of.map(|of| (of, Arc::clone(&everything)));
        Ok((everything, revision))
    }

    fn count(
        &self,
        view: &View,
        desired: &Desired,
        now: Timestamp,
    ) -> Result<Everything, PortalError> {
        let (registry, people) = (view.registry()?, view.people()?);
        let (actual, kept_back, last_pass) = self.readers.with(|store| {
            Ok((store.load(now, None)?, store.kept_back(None)?, store.last_pass()?))
        })?;
        let fleet = self.readers.with(|store| store.shown(Shown::Fleet))?;
        let fleet: Option<Fleet> = fleet.and_then(|(_, body)| serde_json::from_str(&body).ok());
        let health = self.recorded_health()?;
        let mut kept_by: BTreeMap<&UserId, Vec<KeptBack>> = BTreeMap::new();
        for kept in &kept_back {
            kept_by.entry(&kept.user).or_default().push(kept.clone());
        }
        let world = World { desired, people, registry, actual: &actual, kept_by };
        let services = registry.entries.keys().map(|id| {
            let (status, message) = health_of(health.as_ref(), id);
            let figures = fleet.as_ref().and_then(|fleet| fleet.services.get(id));
            FleetServiceJson {
                id: id.clone(),
                name: registry.service(id).map_or_else(|| id.to_string(), |s| s.name.clone()),
                connections: figures
                    .and_then(|figures| figures.tokens.get(&Phase::Active).copied())
                    .unwrap_or_default(),
                health: status,
                message,
                possible_orphans: figures.map_or(0, |figures| figures.possible_orphans),
            }
        });
        Ok(Everything {
            at: now,
            connections: world.connections(now),
            services: services.collect(),
            debts: debts(&actual),
            expiries: expiries(&actual),
            last_pass,
        })
    }
}

/// All that the rows are made from.
struct World<'a> {
    desired: &'a Desired,
    people: &'a People,
    registry: &'a Registry,
    actual: &'a Actual,
    kept_by: BTreeMap<&'a UserId, Vec<KeptBack>>,
}

impl World<'_> {
    /// Every connection that is desired, or of which something is left.
    fn connections(&self, now: Timestamp) -> Vec<ConnectionJson> {
        let mut keys: BTreeSet<(&UserId, &ServiceId)> = BTreeSet::new();
        for (user, desired) in &self.desired.users {
            keys.extend(desired.connections.keys().map(|service| (user, service)));
        }
        for (user, services) in &self.actual.tokens {
            keys.extend(services.keys().map(|service| (user, service)));
        }
        for (user, homes) in &self.actual.installed {
            let pieces = homes.values().flat_map(|home| home.pieces.keys());
            keys.extend(pieces.map(|service| (user, service)));
        }
        keys.into_iter().map(|(user, service)| self.row(user, service, now)).collect()
    }

    fn row(&self, user: &UserId, id: &ServiceId, now: Timestamp) -> ConnectionJson {
        let desired = self.desired.users.get(user);
        let person = self.people.person(user).ok();
        let service = self.registry.service(id);
        let facts = Facts {
            service: id,
            entry: self.registry.entries.get(id),
            allowed: person.is_some_and(|person| {
                service.is_none_or(|service| service.allow.covers(user, &person.email))
            }),
            disabled: desired.is_some_and(|desired| desired.disabled),
            wish: desired.and_then(|desired| desired.connections.get(id)),
            tokens: self.actual.tokens_of(user, id),
            installed: self.actual.installed.get(user),
            backoff: self.actual.backoffs.get(user).and_then(|of_user| of_user.get(id)),
            trouble: self.actual.troubles.get(id),
            now,
        };
        let standing = facts.standing(self.kept_by.get(user).map_or(&[], Vec::as_slice));
        ConnectionJson {
            user: user.clone(),
            service: id.clone(),
            state: standing.state,
            message: standing.message,
            expires_at: standing.key.and_then(|key| key.until),
            connected_at: standing.key.map(|key| key.since),
        }
    }
}

fn tokens(actual: &Actual) -> impl Iterator<Item = &Token> {
    actual.tokens.values().flat_map(BTreeMap::values).flatten()
}

fn debts(actual: &Actual) -> Vec<DebtJson> {
    let mut owed: Vec<&Token> =
        tokens(actual).filter(|token| token.phase == Phase::Revoking).collect();
    owed.sort_by_key(|token| token.since);
    let debt = |token: &Token| DebtJson {
        user: token.user.clone(),
        service: token.service.clone(),
        since: token.since,
        why: actual
            .backoffs
            .get(&token.user)
            .and_then(|of_user| of_user.get(&token.service))
            .map(|backoff| backoff.message.clone()),
    };
    owed.into_iter().take(MOST_DEBTS).map(debt).collect()
}

fn expiries(actual: &Actual) -> Vec<ExpiryJson> {
    let mut days: BTreeMap<(String, &ServiceId), usize> = BTreeMap::new();
    for token in tokens(actual).filter(|token| token.phase == Phase::Active) {
        if let Some(end) = token.expires_at() {
            let date = end.to_zoned(TimeZone::UTC).date().to_string();
            *days.entry((date, &token.service)).or_default() += 1;
        }
    }
    let day = |((date, service), tokens): ((String, &ServiceId), usize)| ExpiryJson {
        date,
        service: service.clone(),
        tokens,
    };
    days.into_iter().map(day).collect()
}
