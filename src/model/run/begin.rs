//! Beginning: whose turn it is at each service, and the op id on disk before it is asked with.

use jiff::Timestamp;

use super::super::action::IssueReason;
use super::super::name::OpId;
use super::super::outcome::Change;
use super::super::registry::Contract;
use super::answer::is_time_driven;
use super::lane::Turn;
use super::{Effect, PUTS, Purpose, Run, Task};

impl Run {
    /// Begins whatever may begin now.
    pub(super) fn advance(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let (mut turns, mut soon) = (Vec::new(), Vec::new());
        for lane in self.lanes.values_mut() {
            loop {
                match lane.turn(now) {
                    Turn::Job(job) => turns.push(job),
                    Turn::NotBefore(time) => {
                        effects.push(Effect::Wake(time));
                        break;
                    }
                    Turn::Nobody => {
                        soon.extend(lane.soon());
                        break;
                    }
                }
            }
        }
        for job in turns {
            self.begin(job, now, effects);
        }
        for job in soon {
            self.prepare(job, now, effects);
        }
        while self.wakes.first().is_some_and(|(time, _)| *time <= now) {
            self.touched.extend(self.wakes.pop_first().map(|(_, user)| user));
        }
        while self.puts.len() < PUTS
            && let Some(user) = self.touched.pop_first()
        {
            self.put_if_due(user, now, effects);
        }
    }

    fn begin(&mut self, job: usize, now: Timestamp, effects: &mut Vec<Effect>) {
        self.jobs[job].has_turn = true;
        self.name(job, now, effects);
        if !self.jobs[job].writing {
            self.call(job, effects);
        }
    }

    /// Names a job that will have its turn soon, so that the turn does not wait for the disk. Not
    /// with v1, where one that is named and never asked with may exist for all that anybody knows;
    /// and not a renewal, which may have to wait until the clocks agree: named, it would be resumed.
    fn prepare(&mut self, job: usize, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Task::Issue(issue) = &self.jobs[job].task
            && issue.ask.endpoint.contract == Contract::V2
            && !is_time_driven(&self.jobs[job].task)
        {
            self.name(job, now, effects);
        }
    }

    /// Gives an op id to a job that asks for a token and has none.
    fn name(&mut self, job: usize, now: Timestamp, effects: &mut Vec<Effect>) {
        let job_id = job;
        let job = &mut self.jobs[job];
        let (Task::Issue(issue), None) = (&mut job.task, &job.op) else { return };
        let op = OpId::new(&self.instance, (self.dice)());
        issue.ask.at = now;
        let begin = Change::Begin {
            op: op.clone(),
            user: issue.user.clone(),
            service: issue.service.clone(),
            binding: issue.binding.clone(),
            ask: issue.ask.clone(),
        };
        let mut changes = vec![begin];
        if issue.why == IssueReason::Missing {
            let (user, service) = (issue.user.clone(), issue.service.clone());
            changes.push(Change::Reissued { user, service });
        }
        job.op = Some(op);
        job.writing = true;
        self.record(Purpose::Begun(job_id), changes, effects);
    }

    /// The op id is on disk.
    pub(super) fn begun(&mut self, job: usize, effects: &mut Vec<Effect>) {
        self.jobs[job].writing = false;
        if self.jobs[job].has_turn {
            self.call(job, effects);
        }
    }

    fn call(&mut self, job: usize, effects: &mut Vec<Effect>) {
        let ticket = self.ticket();
        let Some(op) = self.jobs[job].op.clone() else { return };
        self.calls.insert(ticket, job);
        let task = &self.jobs[job].task;
        let of = (task.user().clone(), task.service().clone());
        effects.push(match task {
            Task::Issue(issue) => {
                let (ask, email) = (issue.ask.clone(), issue.binding.email.clone());
                Effect::Issue { ticket, op, ask, email, of }
            }
            Task::Revoke(_) => Effect::Revoke { ticket, op, of },
        });
    }
}
