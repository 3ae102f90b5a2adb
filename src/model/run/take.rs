//! Taking a plan over: each action becomes a job of its service's lane, a put of its user, or an
//! entry of the journal.

use super::super::action::{Action, EndKind, Issue, IssueOp};
use super::super::name::ServiceId;
use super::super::outcome::{Change, Found, Outcome, What};
use super::super::plan::waiting::{service_trouble, wish_digest};
use super::super::registry::Limits;
use super::super::token::{Move, Phase};
use super::lane::Lane;
use super::{Job, Run, Setting, Task};

impl Run {
    pub(super) fn take(&mut self, action: Action, setting: &Setting<'_>) {
        if let Some(service) = action.service() {
            let key = (action.user().clone(), service.clone());
            let user = setting.desired.and_then(|desired| desired.users.get(&key.0));
            let wish = wish_digest(user.and_then(|user| user.connections.get(&key.1)));
            let backoffs = setting.actual.backoffs.get(&key.0);
            let same = backoffs.and_then(|of| of.get(&key.1)).filter(|b| b.wish == wish);
            self.backoffs.insert(key.clone(), same.map_or(0, |backoff| backoff.tries));
            self.wishes.insert(key, wish);
            self.open_lane(service, setting);
        }
        match action {
            Action::Issue(issue) => {
                self.people.entry(issue.user.clone()).or_default().expects_key();
                self.add_job(Task::Issue(issue));
            }
            Action::Revoke(revoke) if revoke.after_delivery => {
                let user = revoke.user.clone();
                let job = self.push_job(Task::Revoke(revoke));
                self.people.entry(user).or_default().delayed.push(job);
            }
            Action::Revoke(revoke) => {
                if revoke.phase != Phase::Revoking {
                    self.journal.push(Change::Move { op: revoke.op.clone(), how: Move::Unwant });
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

    fn open_lane(&mut self, service: &ServiceId, setting: &Setting<'_>) {
        if self.lanes.contains_key(service) {
            return;
        }
        let known = setting.registry.service(service);
        let trouble = setting.actual.troubles.get(service);
        let mut lane = Lane::new(known.map_or_else(Limits::default, |known| known.limits), trouble);
        if let Some((_, why)) =
            service_trouble(setting.actual, setting.retry_now, setting.now, service)
        {
            lane.close(&why);
        }
        self.lanes.insert(service.clone(), lane);
    }

    fn push_job(&mut self, task: Task) -> usize {
        let op = match &task {
            Task::Issue(Issue { op: IssueOp::Resume(op), .. }) => Some(op.clone()),
            Task::Issue(_) => None,
            Task::Revoke(revoke) => Some(revoke.op.clone()),
        };
        self.jobs.push(Job { task, op, done: false });
        self.jobs.len() - 1
    }

    fn add_job(&mut self, task: Task) {
        let service = task.service().clone();
        let job = self.push_job(task);
        if let Some(lane) = self.lanes.get_mut(&service) {
            lane.enqueue(job);
        }
    }
}
