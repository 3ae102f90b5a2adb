//! Gathers the world that a plan is made from.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use crate::desired_file::{DesiredFile, LoadError, Loaded};
use crate::exchange::seen::{self, CallKind};
use crate::exchange::{Exchange, Secrets};
use crate::installer::Installer;
use crate::model::actual::Actual;
use crate::model::change::Change;
use crate::model::desired::{Desired, People};
use crate::model::digest::Digest;
use crate::model::home::HomeLook;
use crate::model::name::{AccountName, ServiceId, UserId};
use crate::model::outcome::{Answer, Failure};
use crate::model::plan::Scope;
use crate::model::registry::{Endpoint, Registry, Rendition, Service};
use crate::model::run::answer::clock_skew;
use crate::model::yaml::{self, YamlError};
use crate::registry_dir::{self, DirError, Problem};

/// How long the whole pass waits for a service to say what time it is there.
const CLOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// `desired.yaml`.
    pub desired: PathBuf,
    /// `people.yaml`.
    pub people: PathBuf,
    /// The directory of service entries.
    pub registry: PathBuf,
    /// The directory of skill templates.
    pub skills: PathBuf,
    /// The directory of the state's database.
    pub state: PathBuf,
    /// The key that seals keys.
    pub sealing_key: PathBuf,
}

/// What the files say.
#[derive(Debug)]
pub struct Intent {
    /// Who should be connected to what, and the revision that says so; or why that is not known.
    pub desired: Result<Wanted, IntentError>,
    /// The services.
    pub registry: Registry,
    /// What is wrong in the registry.
    pub problems: Vec<Problem>,
}

/// The desired state, and who is who.
#[derive(Debug)]
pub struct Wanted {
    /// Who should be connected to what.
    pub desired: Desired,
    /// Who is who.
    pub people: People,
    /// The file that says so.
    pub loaded: Loaded,
}

/// Why it is not known who should be connected to what. It never means "nobody".
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// The desired state.
    #[error(transparent)]
    Desired(#[from] LoadError),
    /// A file that cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file that is wrong.
    #[error("{} is not usable", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where and how.
        #[source]
        source: YamlError,
    },
    /// The registry's directories.
    #[error(transparent)]
    Registry(#[from] DirError),
}

/// Reads what the files say, of the users in scope at least.
#[must_use]
pub fn intent(places: &Places, now: Timestamp, scope: &Scope) -> Intent {
    let loaded = match registry_dir::load(&places.registry, &places.skills) {
        Ok(loaded) => loaded,
        Err(error) => {
            let desired = Err(error.into());
            return Intent { desired, registry: Registry::default(), problems: Vec::new() };
        }
    };
    let desired = wanted(places, now, scope);
    Intent { desired, registry: loaded.registry, problems: loaded.problems }
}

impl Intent {
    /// Refuses a desired state that names a service which neither the registry has nor `actual` has
    /// something of.
    #[must_use]
    pub fn checked(mut self, places: &Places, actual: &Actual) -> Self {
        let Ok(wanted) = &self.desired else { return self };
        let held = actual.services();
        let known = |id: &ServiceId| self.registry.entries.contains_key(id) || held.contains(id);
        if let Err(source) = wanted.desired.check_services(&wanted.loaded.text, known) {
            self.desired = Err(IntentError::Wrong { path: places.desired.clone(), source });
        }
        self
    }
}

impl Intent {
    /// As the desired state will be once the import that was cut short is finished.
    #[must_use]
    pub fn with_arrivals(mut self, actual: &Actual) -> Self {
        if let Ok(wanted) = &mut self.desired {
            for change in arrivals(&actual.arriving) {
                // Who was offboarded meanwhile stays so.
                change.apply(&mut wanted.desired).ok();
            }
        }
        self
    }
}

/// The changes that bring an import into the desired state.
pub fn arrivals(arriving: &[(UserId, ServiceId)]) -> impl Iterator<Item = Change> {
    arriving.iter().map(|(user, service)| {
        let (user, service) = (user.clone(), service.clone());
        Change::Connect { user, service, ttl_days: None }
    })
}

/// Reads who should be connected to what, of the users in scope at least.
///
/// # Errors
/// Why that is not known.
pub fn wanted(places: &Places, now: Timestamp, scope: &Scope) -> Result<Wanted, IntentError> {
    let people = people(&places.people)?;
    let mut loaded = DesiredFile::new(&places.desired).read_part(now, scope.users.as_ref())?;
    let desired = std::mem::take(&mut loaded.desired);
    Ok(Wanted { desired, people, loaded })
}

/// Reads `people.yaml`.
///
/// # Errors
/// It cannot be read, or is wrong.
pub fn people(path: &Path) -> Result<People, IntentError> {
    let read = |source| IntentError::Read { path: path.to_owned(), source };
    let wrong = |source| IntentError::Wrong { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(read)?;
    People::parse(yaml::utf8(&bytes).map_err(wrong)?).map_err(wrong)
}

impl IntentError {
    /// How long until the file has been still for long enough to be taken up, if that is all that
    /// is wrong.
    #[must_use]
    pub fn ready_in(&self) -> Option<Duration> {
        match self {
            Self::Desired(LoadError::Settling { ready_in, .. }) => Some(*ready_in),
            _ => None,
        }
    }
}

/// Looks at every home in scope that may hold files of ours, or will.
#[must_use]
pub fn homes(
    installer: &Installer,
    wanted: &Wanted,
    actual: &Actual,
    scope: &Scope,
) -> BTreeMap<AccountName, HomeLook> {
    let records = actual.installed.iter().filter(|(user, _)| scope.has_user(user));
    let mut accounts: Vec<&AccountName> = records.flat_map(|(_, homes)| homes.keys()).collect();
    let present = accounts_of(wanted, actual, scope);
    accounts.extend(present.values());
    accounts.sort_unstable();
    accounts.dedup();
    installer.look(&accounts)
}

/// The present account of everybody who is connected to something, or should be.
#[must_use]
pub fn accounts_of<'a>(
    wanted: &'a Wanted,
    actual: &'a Actual,
    scope: &Scope,
) -> BTreeMap<&'a UserId, AccountName> {
    let desired = wanted.desired.users.iter();
    let desired = desired.filter(|(_, user)| !user.connections.is_empty()).map(|(user, _)| user);
    desired
        .chain(actual.tokens.keys())
        .chain(actual.installed.keys())
        .filter(|user| scope.has_user(user))
        .filter_map(|user| Some((user, wanted.people.person(user).ok()?.account)))
        .collect()
}

/// What time it is at these services, as far as they answer soon. Their health check is asked,
/// which takes no secret.
pub async fn clocks(
    exchange: &Arc<Exchange>,
    services: BTreeMap<ServiceId, Arc<Endpoint>>,
) -> BTreeMap<ServiceId, Timestamp> {
    let mut calls = JoinSet::new();
    for (service, endpoint) in services {
        let exchange = Arc::clone(exchange);
        calls.spawn(async move {
            let call = async {
                let health = exchange.health(&endpoint);
                tokio::time::timeout(CLOCK_PATIENCE, health).await
            };
            let word = |answer: &Result<Answer<_>, _>| {
                answer.as_ref().map_or("unknown", |answer| seen::of_result(&answer.what))
            };
            let answer = exchange.see(&service, CallKind::Health, call, word).await;
            (service, answer.ok().and_then(|answer| answer.date))
        });
    }
    let answers = calls.join_all().await.into_iter();
    answers.filter_map(|(service, date)| Some((service, date?))).collect()
}

/// How a service answered its health check.
pub struct Health {
    /// Which service.
    pub service: ServiceId,
    /// How long the answer took.
    pub took: SignedDuration,
    /// What time it is there, if it says so.
    pub date: Option<Timestamp>,
    /// What is wrong with its clock.
    pub skew: Option<String>,
    /// Why it is not well.
    pub failure: Option<Failure>,
}

/// Asks these services' health checks all at once, without any secret. Sorted by service.
pub async fn health<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<Health> {
    let exchange = Arc::new(Exchange::new(Secrets::default()));
    let mut calls = JoinSet::new();
    for service in services {
        let (id, endpoint) = (service.id.clone(), service.endpoint.clone());
        let exchange = Arc::clone(&exchange);
        calls.spawn(async move {
            let began = Timestamp::now();
            let answer = exchange.health(&endpoint).await;
            let now = Timestamp::now();
            let (took, date) = (now.duration_since(began), answer.date);
            let skew = date.and_then(|date| clock_skew(date, now));
            Health { service: id, took, date, skew, failure: answer.what.err() }
        });
    }
    let mut found = calls.join_all().await;
    found.sort_by(|one, other| one.service.cmp(&other.service));
    found
}

/// The registry's renditions, by digest.
#[must_use]
pub fn renditions(registry: &Registry) -> BTreeMap<Digest, Rendition> {
    let of = |service: &Service| (service.rendition.digest(), service.rendition.clone());
    registry.services().map(of).collect()
}
