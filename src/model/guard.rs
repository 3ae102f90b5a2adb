//! What holds back a plan that would take away too much.

use std::collections::{BTreeMap, BTreeSet};

use super::action::{Action, Content, EndKind, Install, Slot};
use super::actual::Piece;
use super::digest::Digest;
use super::name::{ServiceId, UserId};
pub use super::plan::Held;
use super::plan::{Census, Loss, LossKind, Plan};
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
    uncounted: BTreeSet<(UserId, ServiceId)>,
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
        !self.uncounted.contains(&key(loss))
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
        let uncounted = held.losses.iter().map(key).collect();
        return (ApprovedPlan { plan, uncounted }, Held::default());
    }
    for loss in &held.losses {
        hold(&mut plan, loss);
    }
    plan.losses.retain(|loss| !held.losses.contains(loss));
    plan.actions.retain(|action| !matches!(action, Action::Install(install) if is_idle(install)));
    (ApprovedPlan { plan, uncounted: BTreeSet::new() }, held)
}

/// The removals that pass a limit.
fn too_much(plan: &Plan, limits: &Limits) -> Held {
    let census = &plan.census;
    let going: BTreeSet<(UserId, ServiceId)> =
        plan.losses.iter().map(key).chain(census.recent.iter().cloned()).collect();
    let users: BTreeSet<&UserId> = going.iter().map(|(user, _)| user).collect();
    if plan.losses.is_empty() || users.len() <= 1 {
        return Held::default();
    }
    let mut why = Vec::new();
    let mut services: BTreeMap<&ServiceId, (usize, usize)> = BTreeMap::new();
    for (_, service) in &going {
        services.entry(service).or_default().0 += 1;
    }
    for (service, counts) in &mut services {
        counts.1 = had(census, Some(service));
    }
    let passes = |gone: usize, had: usize| gone > limits.at_least.max(had * limits.percent / 100);
    let total = had(census, None);
    let mut everything = false;
    if passes(going.len(), total) {
        everything = true;
        why.push(format!("{} of {total} connections would go", going.len()));
    }
    if census.users > 1 && nobody_left(plan) {
        everything = true;
        why.push("nobody would be left".to_owned());
    }
    let mut over: BTreeSet<&ServiceId> = BTreeSet::new();
    for (service, (gone, had)) in services {
        if passes(gone, had) {
            over.insert(service);
            why.push(format!("{gone} of {had} connections to {service} would go"));
        }
    }
    let is_held = |loss: &&Loss| everything || over.contains(&loss.service);
    Held { losses: plan.losses.iter().filter(is_held).cloned().collect(), why }
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

fn nobody_left(plan: &Plan) -> bool {
    let going: usize = plan.losses.len();
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
        _ if action.user() != &loss.user || action.service() != Some(&loss.service) => true,
        Action::Revoke(revoke) => revoke.phase == Phase::Revoking,
        Action::End(end) => matches!(end.how, EndKind::Expired(_)) && !loss.ops.contains(&end.op),
        // What time takes away may be replaced; that removes nothing.
        Action::Issue(_) => loss.kind == LossKind::Expiry,
        Action::Install(_) => true,
    });
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
