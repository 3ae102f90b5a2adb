//! What a pass makes sure of before it acts: that the state was not lost, and that the clocks agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;

use super::{ADOPTER, Pass, PassError, Planned};
use crate::desired_file::{BY_HAND, DesiredFile};
use crate::exchange::Exchange;
use crate::model::actual::{Actual, Trouble, TroubleKind};
use crate::model::home::HomeLook;
use crate::model::name::{AccountName, ServiceId};
use crate::model::outcome::Change;
use crate::model::plan::{LossKind, Scope};
use crate::model::registry::Endpoint;
use crate::model::run::answer::clock_skew;
use crate::model::token::later;
use crate::observe;
use crate::store::{Store, StoreError};

/// How long nothing is renewed at a service whose clock disagrees; then a renewal looks again.
const NO_RENEWAL: SignedDuration = SignedDuration::from_hours(1);

impl Pass {
    /// Asks the services of which something is to be done by time alone what time it is there, and,
    /// where everything is looked at, those whose clocks disagreed: what is to be recorded of where theirs and ours disagree, or do so no longer.
    pub(super) async fn disagreeing_clocks(
        &self,
        planned: &Planned,
        exchange: &Arc<Exchange>,
    ) -> Vec<Change> {
        let troubles = &planned.actual.troubles;
        let skewed = |service: &ServiceId| {
            troubles.get(service).is_some_and(|trouble| trouble.kind.is_skewed())
        };
        let held = planned.held.losses.iter().filter(|loss| loss.kind == LossKind::Expiry);
        let by_time = planned.approved.plan().time_driven_services().into_iter();
        let doubtful = by_time.chain(held.map(|loss| &loss.service));
        // One that does not answer would keep each pass of a single user waiting.
        let looks = self.scope.users.is_none();
        let doubtful = doubtful.chain(troubles.keys().filter(|service| looks && skewed(service)));
        let endpoints: BTreeMap<ServiceId, Arc<Endpoint>> = doubtful
            .filter_map(|service| Some((service.clone(), endpoint(planned, service)?)))
            .collect();
        let mut changes = Vec::new();
        for (service, date) in observe::clocks(exchange, endpoints).await {
            let now = (self.clock)();
            let trouble = clock_skew(date, now).map(|message| Trouble {
                kind: TroubleKind::ClockSkew,
                until: later(now, NO_RENEWAL),
                tries: 1,
                message,
            });
            if trouble.is_some() != skewed(&service) {
                changes.push(Change::Trouble { service, trouble });
            }
        }
        changes
    }

    /// A database that is missing where there was one is an error, never a new one. One without
    /// tables is as good as missing: a first pass that was killed leaves it, or what cut it short.
    ///
    /// # Errors
    /// The state was lost, or nobody can tell.
    pub async fn refuse_lost_state(&self) -> Result<(), PassError> {
        let Err(StoreError::Missing(path)) = Store::open_to_read(&self.places.state) else {
            return Ok(()); // whatever else is wrong with it, opening it to write will say
        };
        // Without it there are no debts to pay: while nobody knows what is desired, none is made.
        let everything = Scope::default();
        let intent = self.settled(self.intent(&everything), &everything).await;
        let wanted = intent.checked(&self.places, &Actual::default()).desired?;
        let file = DesiredFile::new(&self.places.desired);
        let former = file.formerly();
        let listed = wanted.people.listed().map(|(user, _)| user);
        let everybody = wanted.desired.users.keys().chain(listed).chain(&former);
        let accounts: BTreeSet<AccountName> =
            everybody.filter_map(|user| Some(wanted.people.person(user).ok()?.account)).collect();
        let looks = self.installer.look(&accounts.iter().collect::<Vec<_>>());
        let path = path.display().to_string();
        for (account, look) in &looks {
            if let HomeLook::Seen(facts) = look
                && let Some(generation) = facts.env.and_then(|env| env.generation)
            {
                let trace =
                    format!("the home of {account} holds generation {generation} of our files");
                return Err(PassError::StateLost { path, trace });
            }
        }
        let edits = file.edits().map_err(|error| PassError::Adopt(error.into()))?;
        if let Some(edit) = edits.iter().find(|edit| edit.who == ADOPTER && edit.what == BY_HAND) {
            let trace = format!("a pass acted on {} at {}", file.path().display(), edit.at);
            return Err(PassError::StateLost { path, trace });
        }
        // With homes that are not mounted the state may be missing for the same reason.
        match looks.first_key_value() {
            Some((account, HomeLook::Unknown(why)))
                if looks.values().all(|look| matches!(look, HomeLook::Unknown(_))) =>
            {
                let why = format!("{account}: {why}");
                Err(PassError::NoTrace { path, why })
            }
            _ => Ok(()),
        }
    }
}

/// Where a service is reached: as the registry says, else where its tokens were issued.
fn endpoint(planned: &Planned, service: &ServiceId) -> Option<Arc<Endpoint>> {
    let known = planned.intent.registry.service(service);
    let known = known.map(|known| Arc::new(known.endpoint.clone()));
    let mut tokens = planned.actual.tokens.values().filter_map(|of_user| of_user.get(service));
    known.or_else(|| Some(Arc::clone(&tokens.find_map(|tokens| tokens.last())?.ask.endpoint)))
}
