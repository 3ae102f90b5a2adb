//! What holds back a plan that would take away too much.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, Content, EndKind, Install, RevokeReason, Slot};
use super::actual::Piece;
use super::digest::Digest;
use super::name::{OpId, ServiceId, UserId};
pub use super::plan::Held;
use super::plan::{Census, Loss, LossKind, Plan};
use super::sweep::nobody;
use super::token::Phase;

/// How much a plan may take away, together with the last hour.
#[derive(Debug, Clone)]
pub struct Limits {
    /// So many connections may always go.
    pub at_least: usize,
    /// And so many of a hundred, of all connections or of one service's.
    pub percent: usize,
    /// Digests of held removals that somebody approved.
    pub approved: Vec<Digest>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { at_least: 5, percent: 10, approved: Vec::new() }
    }
}

/// A plan that may be carried out. Only [`approve`] makes one.
#[derive(Debug)]
pub struct ApprovedPlan {
    plan: Plan,
    uncounted: BTreeSet<Id>,
}

impl ApprovedPlan {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether this removal counts against the next hour's limit: one that somebody approved does
    /// not.
    #[must_use]
    pub fn counts(&self, loss: &Loss) -> bool {
        !self.uncounted.contains(&id(loss))
    }

    /// The plan, to carry it out.
    #[must_use]
    pub fn into_plan(self) -> Plan {
        self.plan
    }
}

/// Splits a plan into what may be carried out and what is held. A held connection stays exactly as
/// it is.
#[must_use]
pub fn approve(mut plan: Plan, limits: &Limits) -> (ApprovedPlan, Held) {
    let held = too_much(&plan, limits);
    if limits.approved.contains(&held.digest()) {
        let uncounted = held.losses.iter().map(id).collect();
        return (ApprovedPlan { plan, uncounted }, Held::default());
    }
    for loss in &held.losses {
        hold(&mut plan, loss);
    }
    plan.losses.retain(|loss| !held.losses.contains(loss));
    plan.actions.retain(|action| !matches!(action, Action::Install(install) if is_idle(install)));
    (ApprovedPlan { plan, uncounted: BTreeSet::new() }, held)
}

/// What passes a limit. Removals count against strays, and not the other way round: whatever a
/// service lists, nobody's disconnect waits for it.
fn too_much(plan: &Plan, limits: &Limits) -> Held {
    let (strays, removals): (Vec<&Loss>, Vec<&Loss>) =
        plan.losses.iter().partition(|loss| loss.kind == LossKind::Stray);
    let recent = plan.census.recent.iter().cloned();
    let going = removals.iter().map(|loss| key(loss)).chain(recent).collect();
    let (mut held, mut why) = removals_held(plan, &removals, &going, limits);
    held.extend(frozen_held(plan, &removals, &going, &mut why));
    held.extend(strays_held(plan, &strays, &going, limits, &mut why));
    let is_held = |loss: &&Loss| held.contains(&id(loss));
    Held { losses: plan.losses.iter().filter(is_held).cloned().collect(), why }
}

type Keys = BTreeSet<(UserId, ServiceId)>;

/// A loss as the guard tells it from others: a stray by its op id, besides.
type Id = (UserId, ServiceId, Option<OpId>);

fn id(loss: &Loss) -> Id {
    let op = loss.ops.first().filter(|_| loss.kind == LossKind::Stray).cloned();
    (loss.user.clone(), loss.service.clone(), op)
}

fn passes(limits: &Limits, gone: usize, had: usize) -> bool {
    gone > limits.at_least.max(had * limits.percent / 100)
}

/// The connections that would lose access.
fn removals_held(
    plan: &Plan,
    losses: &[&Loss],
    going: &Keys,
    limits: &Limits,
) -> (BTreeSet<Id>, Vec<String>) {
    let census = &plan.census;
    let users: BTreeSet<&UserId> = going.iter().map(|(user, _)| user).collect();
    if losses.is_empty() || users.len() <= 1 {
        return Default::default();
    }
    let mut why = Vec::new();
    let mut services: BTreeMap<&ServiceId, usize> = BTreeMap::new();
    for (_, service) in going {
        *services.entry(service).or_default() += 1;
    }
    let total = had(census, None);
    let mut everything = false;
    if passes(limits, going.len(), total) {
        everything = true;
        why.push(format!("{} of {total} connections would go", going.len()));
    }
    if census.users > 1 && nobody_left(plan, losses.len()) {
        everything = true;
        why.push("nobody would be left".to_owned());
    }
    let mut over: BTreeSet<&ServiceId> = BTreeSet::new();
    for (service, gone) in services {
        let had = had(census, Some(service));
        if passes(limits, gone, had) {
            over.insert(service);
            why.push(format!("{gone} of {had} connections to {service} would go"));
        }
    }
    let is_held = |loss: &&&Loss| everything || over.contains(&loss.service);
    (losses.iter().filter(is_held).map(|loss| id(loss)).collect(), why)
}

/// Removals of several users at a service whose list of tokens cannot be relied on: something is
/// wrong there or here, and nobody knows what.
fn frozen_held(plan: &Plan, losses: &[&Loss], going: &Keys, why: &mut Vec<String>) -> Vec<Id> {
    let mut held = Vec::new();
    for service in &plan.census.frozen {
        let users: BTreeSet<&UserId> =
            going.iter().filter(|(_, of)| of == service).map(|(user, _)| user).collect();
        let of_it = losses.iter().filter(|loss| loss.service == *service);
        let ids: Vec<Id> =
            of_it.filter(|loss| loss.kind == LossKind::Removal).map(|loss| id(loss)).collect();
        if users.len() > 1 && !ids.is_empty() {
            let gone = users.len();
            why.push(format!(
                "{gone} users would lose {service} while its list of tokens cannot be relied on"
            ));
            held.extend(ids);
        }
    }
    held
}

/// Strays: each counts, those of the last hour too, and the removals beside them. One person's few
/// pass, as that person's disconnects would.
fn strays_held(
    plan: &Plan,
    losses: &[&Loss],
    going: &Keys,
    limits: &Limits,
    why: &mut Vec<String>,
) -> Vec<Id> {
    let census = &plan.census;
    let here = losses.iter().map(|loss| (&loss.user, &loss.service));
    let recent = census.recent_strays.iter().map(|(user, service)| (user, service));
    let all: Vec<(&UserId, &ServiceId)> = here.chain(recent).collect();
    let users: BTreeSet<&UserId> = all.iter().map(|(user, _)| *user).collect();
    if losses.is_empty() || (users.len() == 1 && !users.contains(&nobody())) {
        return Vec::new();
    }
    let too_many = |service: Option<&ServiceId>| {
        let fits = |id: &ServiceId| service.is_none_or(|only| only == id);
        let strays = all.iter().filter(|(_, id)| fits(id)).count();
        let removals = going.iter().filter(|(_, id)| fits(id)).count();
        passes(limits, strays + removals, had(census, service)).then_some(strays)
    };
    if let Some(strays) = too_many(None) {
        why.push(format!("{strays} keys that the state does not know would be revoked"));
        return losses.iter().map(|loss| id(loss)).collect();
    }
    let mut held = Vec::new();
    for service in losses.iter().map(|loss| &loss.service).collect::<BTreeSet<_>>() {
        if let Some(strays) = too_many(Some(service)) {
            why.push(format!(
                "{strays} keys to {service} that the state does not know would be revoked"
            ));
            let of_it = losses.iter().filter(|loss| loss.service == *service);
            held.extend(of_it.map(|loss| id(loss)));
        }
    }
    held
}

/// How many connections there were an hour ago, as far as is known.
fn had(census: &Census, service: Option<&ServiceId>) -> usize {
    let counts = |id: &ServiceId| service.is_none_or(|only| only == id);
    let now: usize =
        census.connections.iter().filter(|(id, _)| counts(id)).map(|(_, count)| count).sum();
    // Each once: who is connected and disconnected time and again moves no limit.
    let recent: BTreeSet<_> = census.recent.iter().filter(|(_, id)| counts(id)).collect();
    now + recent.len()
}

fn nobody_left(plan: &Plan, going: usize) -> bool {
    let connections: usize = plan.census.connections.values().sum();
    going >= connections && going > 0
}

fn key(loss: &Loss) -> (UserId, ServiceId) {
    (loss.user.clone(), loss.service.clone())
}

/// Takes everything out of the plan that would change the connection. Debts stay: they are of
/// tokens that nobody has any more.
fn hold(plan: &mut Plan, loss: &Loss) {
    plan.actions.retain(|action| match action {
        Action::Revoke(revoke) if revoke.why == RevokeReason::Stray => {
            loss.kind != LossKind::Stray || !loss.ops.contains(&revoke.op)
        }
        _ if loss.kind == LossKind::Stray => true,
        _ if action.user() != &loss.user || action.service() != Some(&loss.service) => true,
        Action::Revoke(revoke) => revoke.phase == Phase::Revoking,
        Action::End(end) => matches!(end.how, EndKind::Expired(_)) && !loss.ops.contains(&end.op),
        // What time takes away may be replaced; that removes nothing.
        Action::Issue(_) => loss.kind == LossKind::Expiry,
        Action::Install(_) => true,
    });
    if loss.kind == LossKind::Stray {
        return;
    }
    for install in plan.installs_mut().filter(|install| install.user == loss.user) {
        if let Some(slot) = install.slots.get_mut(&loss.service) {
            keep(slot, loss.kind);
        }
    }
}

fn keep(slot: &mut Slot, kind: LossKind) {
    let before = slot.before.clone();
    slot.after = match (slot.after.take(), kind) {
        (Some(Content::New { rendition, until_then }), LossKind::Expiry) => {
            let until_then: Option<Piece> = before.or(until_then);
            Some(Content::New { rendition, until_then })
        }
        _ => before.map(Content::Keep),
    };
}

/// An install that nothing is left of.
fn is_idle(install: &Install) -> bool {
    use super::action::InstallReason as Why;
    install.why.iter().all(|why| matches!(why, Why::Changed | Why::Moved))
        && !install.slots.values().any(Slot::changes)
}
