//! The sweep: each service's own list of tokens against what we hold.
//!
//! Lists are fetched without the pass lock, all at once; what is ours is read again once they are
//! here, under the lock, and what they show is written down for the next pass to plan with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Pass, PassError};
use crate::exchange::Secrets;
use crate::exchange::seen::{self, CallKind};
use crate::model::name::{Email, OpId, ServiceId};
use crate::model::outcome::Failure;
use crate::model::people::People;
use crate::model::registry::{Contract, Endpoint};
use crate::model::sweep::{self, Ground, Listed, Record, Sweep};
use crate::observe;
use crate::registry_dir;
use crate::store::{PassLock, Store, StoreError, SweepFound};

/// How often the lock of a pass is tried: the next pass lets who waits go first for a moment.
const LOCKED: Duration = Duration::from_millis(25);

/// What a sweep found at one service.
#[derive(Debug, Clone, Serialize)]
pub struct Swept {
    /// Which.
    pub service: ServiceId,
    /// When its list was asked for.
    pub at: Timestamp,
    /// Its entries that bear our name; none when there is no list.
    pub ours: Option<usize>,
    /// All others.
    pub others: Option<usize>,
    /// Keys of ours that the state does not know.
    pub strays: usize,
    /// Keys that the list lacks.
    pub missing: usize,
    /// Why nothing is done because of this list, if so.
    pub frozen: Option<String>,
    /// Whether the next pass has something to do that it had not before.
    #[serde(skip)]
    pub changes: bool,
}

/// A list, or why there is none.
struct Fetched {
    service: ServiceId,
    endpoint: Endpoint,
    began: Timestamp,
    list: Result<Vec<Listed>, Failure>,
}

impl Pass {
    /// Fetches the lists of the services in scope that `is_due`, compares them with what the state
    /// holds, and writes down what they show. A service without such a list (v1) is left out.
    /// Without a state there is nothing to compare with.
    ///
    /// # Errors
    /// The state cannot be used. A list that cannot be had is in the answer.
    pub async fn sweep(
        &self,
        is_due: impl Fn(&ServiceId) -> bool,
        on_wait: impl FnOnce(),
    ) -> Result<Vec<Swept>, PassError> {
        // What is wrong with the registry as a whole, the pass says.
        let loaded = registry_dir::load(&self.places.registry, &self.places.skills).ok();
        let registry = loaded.map(|loaded| loaded.registry).unwrap_or_default();
        let services: BTreeMap<ServiceId, Endpoint> = registry
            .services()
            .filter(|service| service.endpoint.contract == Contract::V2)
            .filter(|service| self.scope.has_service(&service.id) && is_due(&service.id))
            .map(|service| (service.id.clone(), service.endpoint.clone()))
            .collect();
        if services.is_empty() {
            return Ok(Vec::new());
        }
        let Some(live_before) = self.live_ops().await? else { return Ok(Vec::new()) };
        let fetched = self.fetch(services).await;
        let _lock = self.lock(on_wait).await?;
        let mut store = Store::open(&self.places.state, &self.places.sealing_key)?;
        Ok(self.compare(&mut store, fetched, &live_before)?)
    }

    /// What is live before any list is asked for; none: there is no state.
    async fn live_ops(&self) -> Result<Option<BTreeSet<OpId>>, StoreError> {
        match Store::open_to_read(&self.places.state) {
            Ok(store) => store.live_ops().map(Some),
            Err(StoreError::Missing(_)) => Ok(None),
            Err(StoreError::Older { .. }) => {
                let _lock = self.lock(|| {}).await?;
                let store = Store::open(&self.places.state, &self.places.sealing_key)?;
                store.live_ops().map(Some)
            }
            Err(error) => Err(error),
        }
    }

    /// All at once: each has its own deadline, and none waits for another.
    async fn fetch(&self, services: BTreeMap<ServiceId, Endpoint>) -> Vec<Fetched> {
        let names = services.values().map(|endpoint| &endpoint.secret);
        let secrets = Secrets::from_dir_or_env(self.secrets_dir.as_deref(), names);
        let exchange = Arc::new(self.exchange.with(secrets));
        let mut calls = JoinSet::new();
        for (service, endpoint) in services {
            let exchange = Arc::clone(&exchange);
            let began = (self.clock)();
            calls.spawn(async move {
                let call = exchange.list(&endpoint);
                let word = |list: &Result<Vec<Listed>, Failure>| seen::of_result(list);
                let list = exchange.see(&service, CallKind::List, call, word).await;
                Fetched { service, endpoint, began, list }
            });
        }
        let mut fetched = calls.join_all().await;
        fetched.sort_by(|one, other| one.service.cmp(&other.service));
        fetched
    }

    /// Waits for the lock without keeping anything else of this process waiting.
    async fn lock(&self, on_wait: impl FnOnce()) -> Result<PassLock, StoreError> {
        if let Some(lock) = PassLock::try_take(&self.places.state)? {
            return Ok(lock);
        }
        on_wait();
        let _waiting = PassLock::wait(&self.places.state)?;
        loop {
            tokio::time::sleep(LOCKED).await;
            if let Some(lock) = PassLock::try_take(&self.places.state)? {
                return Ok(lock);
            }
        }
    }

    fn compare(
        &self,
        store: &mut Store,
        fetched: Vec<Fetched>,
        live_before: &BTreeSet<OpId>,
    ) -> Result<Vec<Swept>, StoreError> {
        let now = (self.clock)();
        let people = observe::people(&self.places.people).ok();
        let (tokens, sweeps) = (store.tokens_by_service()?, store.last_sweeps()?);
        let (mut found, mut swept) = (Vec::new(), Vec::new());
        for Fetched { service, endpoint, began, list } in fetched {
            let former = sweeps.get(&service);
            let good = former.and_then(|former| former.record.good);
            let ended_since =
                good.map(|good| store.ended_since(&service, good.at, now)).transpose()?;
            let ended_meanwhile = store.ended_ops_since(&service, began)?;
            let none = BTreeMap::new();
            let ground = Ground {
                service: &service,
                endpoint: &endpoint,
                instance: store.instance(),
                began,
                live_before,
                tokens: tokens.get(&service).map_or(&[], Vec::as_slice),
                ended_meanwhile: &ended_meanwhile,
                good,
                ended_since: ended_since.unwrap_or(0),
                missing: former.map_or(&none, |former| &former.missing),
            };
            let one = compared(store, people.as_ref(), &ground, list)?;
            swept.push(told(&one, former));
            found.push(one);
        }
        store.record_sweeps(&found, now)?;
        Ok(swept)
    }
}

fn compared(
    store: &Store,
    people: Option<&People>,
    ground: &Ground<'_>,
    list: Result<Vec<Listed>, Failure>,
) -> Result<SweepFound, StoreError> {
    let service = ground.service.clone();
    let list = match list {
        Ok(list) => list,
        Err(failure) => {
            let record = Record::without_list(ground.began, ground.good, &failure.message);
            return Ok(SweepFound { service, record, found: None });
        }
    };
    let by_address = |email: Option<&Email>| people?.user_by_email(email?);
    let whose = |_: &OpId, email: Option<&Email>| by_address(email).unwrap_or_else(sweep::nobody);
    let mut found = sweep::compare(&list, ground, whose);
    // What was ours once is known by more than its address.
    for stray in &mut found.strays {
        if let Some(user) = store.user_of(&stray.op)? {
            stray.user = user;
        }
    }
    Ok(SweepFound { service, record: found.record(ground), found: Some(found) })
}

fn told(sweep: &SweepFound, former: Option<&Sweep>) -> Swept {
    let found = sweep.found.as_ref();
    let frozen = sweep.record.frozen.as_ref().map(|frozen| frozen.why.clone());
    let was_frozen = former.is_some_and(|former| former.record.frozen.is_some());
    let strays = found.map_or(0, |found| found.strays.len());
    let gone = found.is_some_and(|found| found.missing.values().any(sweep::Missing::is_gone));
    Swept {
        service: sweep.service.clone(),
        at: sweep.record.at,
        ours: found.map(|found| found.ours),
        others: found.map(|found| found.others),
        strays,
        missing: found.map_or(0, |found| found.missing.len()),
        changes: strays > 0 || gone || frozen.is_some() != was_frozen,
        frozen,
    }
}
