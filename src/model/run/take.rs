//! Taking a plan over: each action becomes a job of its service's lane, a put of its user, or an
//! entry of the journal.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::action::{Action, EndKind, Issue, IssueOp, Revoke};
use super::super::guard::ApprovedPlan;
use super::super::name::{ServiceId, UserId};
use super::super::outcome::{Change, Found, Outcome, What};
use super::super::plan::LossKind;
use super::super::plan::waiting::{service_trouble, wish_digest};
use super::super::registry::{Endpoint, Limits};
use super::super::token::{Move, Phase};
use super::lane::{Address, Lane};
use super::{Busy, Connection, Job, Run, Setting, Task, Tried, UNTIL_THE_NEXT_PLAN};

impl Run {
    /// Takes over another plan; [`super::Event::Start`] begins it. What it wants of connections
    /// that have something in work, or had when it was begun (`busy`), is left out, and a user's home
    /// becomes as it says as soon as it may. Returns whose plan is to be made again once nothing of
    /// theirs is in work: nobody knows what this one has seen of that.
    pub fn absorb(
        &mut self,
        approved: ApprovedPlan,
        setting: &Setting<'_>,
        busy: &Busy,
    ) -> BTreeSet<UserId> {
        let actions = &approved.plan().actions;
        let connection = |action: &Action| Some((action.user().clone(), action.service()?.clone()));
        let in_work =
            |of: &Connection| busy.connections.contains(of) || self.in_work.contains_key(of);
        let left_out: BTreeSet<Connection> =
            actions.iter().filter_map(connection).filter(in_work).collect();
        let is_busy = |user: &UserId, service: &ServiceId| {
            !left_out.is_empty() && left_out.contains(&(user.clone(), service.clone()))
        };
        for loss in approved.plan().losses.iter().filter(|loss| approved.counts(loss)) {
            let (user, service) = (loss.user.clone(), loss.service.clone());
            match loss.kind {
                _ if is_busy(&user, &service) => {}
                // It counts once it is a debt.
                LossKind::Stray => self.counted_strays.extend(loss.ops.iter().cloned()),
                LossKind::Removal | LossKind::Expiry => {
                    self.journal.push(Change::Removed { user, service });
                }
            }
        }
        for action in approved.into_plan().actions {
            if action.service().is_none_or(|service| !is_busy(action.user(), service)) {
                self.taken.users.insert(action.user().clone());
                self.take(action, setting);
            }
        }
        left_out.into_iter().map(|(user, _)| user).chain(busy.users.clone()).collect()
    }

    fn take(&mut self, action: Action, setting: &Setting<'_>) {
        if let Some(service) = action.service() {
            let key = (action.user().clone(), service.clone());
            let user = setting.desired.and_then(|desired| desired.users.get(&key.0));
            let wish = wish_digest(user.and_then(|user| user.connections.get(&key.1)));
            let noted = setting.actual.backoffs.get(&key.0).and_then(|of| of.get(&key.1));
            let times = noted.filter(|noted| noted.wish == wish).map_or(0, |noted| noted.tries);
            self.tried.insert(key.clone(), Tried { times, is_noted: noted.is_some() });
            self.wishes.insert(key, wish);
        }
        match action {
            Action::Issue(issue) => {
                self.people.entry(issue.user.clone()).or_default().expects_key();
                self.open_lane(&issue.service, &issue.ask.endpoint, setting);
                self.add_job(Task::Issue(issue));
            }
            Action::Revoke(mut revoke) if revoke.after_delivery => {
                self.open_lane_of(&mut revoke, setting);
                let user = revoke.user.clone();
                let job = self.push_job(Task::Revoke(revoke));
                self.people.entry(user).or_default().delayed.push(job);
            }
            Action::Revoke(mut revoke) => {
                self.open_lane_of(&mut revoke, setting);
                if revoke.phase != Phase::Revoking {
                    self.journal.push(self.owe(&revoke));
                }
                self.add_job(Task::Revoke(revoke));
            }
            Action::End(end) => {
                let how = match end.how {
                    EndKind::Expired(_) => Move::Expire,
                    EndKind::Lost(_) => Move::Lose,
                };
                self.journal.push(Change::Move { op: end.op.clone(), how });
                let (user, service) = (end.user, Some(end.service));
                let what = What::End(end.how);
                self.outcomes.push(Outcome { user, service, what, found: Found::Done });
            }
            Action::Install(install) => {
                self.people.entry(install.user.clone()).or_default().add(install);
            }
        }
    }

    /// A revoke at the address where the service is now is made as everything there is.
    fn open_lane_of(&mut self, revoke: &mut Revoke, setting: &Setting<'_>) {
        let Revoke { service, ask, .. } = revoke;
        ask.endpoint = setting.registry.present(service, Arc::clone(&ask.endpoint));
        self.open_lane(service, &ask.endpoint, setting);
    }

    fn open_lane(&mut self, service: &ServiceId, endpoint: &Endpoint, setting: &Setting<'_>) {
        let address = Address::new(service, endpoint);
        let shut = self.shut.get(&(service.clone(), endpoint.secret.clone()));
        if let Some(lane) = self.lanes.get_mut(&address) {
            if shut.is_none() {
                lane.reopen(setting.now);
            }
            return;
        }
        let known = setting.registry.service(service);
        let limits = known.map_or_else(Limits::default, |known| known.limits);
        let present = known.is_none_or(|known| Address::new(service, &known.endpoint) == address);
        let trouble = setting.actual.troubles.get(service).filter(|_| present);
        let begun = self.pace.of(&address);
        let mut lane = Lane::new(limits, present, trouble, begun);
        let closed = service_trouble(setting.actual, setting.retry_now, setting.now, service);
        if let Some((until, why)) = closed.filter(|_| present) {
            lane.close(&why, until);
        }
        if let Some(why) = shut {
            lane.close(why, UNTIL_THE_NEXT_PLAN);
        }
        self.lanes.insert(address, lane);
    }

    fn push_job(&mut self, task: Task) -> usize {
        let op = match &task {
            Task::Issue(Issue { op: IssueOp::Resume(op), .. }) => Some(op.clone()),
            Task::Issue(_) => None,
            Task::Revoke(revoke) => Some(revoke.op.clone()),
        };
        let connection = (task.user().clone(), task.service().clone());
        *self.in_work.entry(connection).or_default() += 1;
        self.jobs.push(Job { task, op, writing: false, has_turn: false, done: false });
        self.jobs.len() - 1
    }

    fn add_job(&mut self, task: Task) {
        let job = self.push_job(task);
        self.taken.jobs.push(job);
    }
}
