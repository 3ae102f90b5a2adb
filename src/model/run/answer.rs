//! What follows from a service's answer: the table of DESIGN, "Tokens", "Answers to exchange".

use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::super::actual::{Backoff, Trouble, TroubleKind};
use super::super::name::{EnvValue, OpId, ServiceId};
use super::super::outcome::{
    Answer, Change, Failure, FailureKind, Found, IssueAnswer, NewGrant, RevokeAnswer,
};
use super::super::plan::waiting::wish_digest;
use super::super::registry::Contract;
use super::super::token::{Move, later};
use super::{Effect, Purpose, Run, Task, Ticket, Tried};

/// A service whose clock is further from ours ends and renews nothing by time.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);
const STILL_SKEWED: &str =
    "its clock disagreed with ours, as far as it has said: nothing is renewed or ended by time";
/// The first wait after a failure; doubled with each further one.
const FIRST_BACKOFF: SignedDuration = SignedDuration::from_secs(15);
/// The longest wait.
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_hours(1);

/// What an answer means for its job.
struct Verdict {
    changes: Vec<Change>,
    found: Found,
    /// Whether, and how, it failed.
    failure: Option<Failure>,
}

impl Run {
    pub(super) fn issued(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        answer: Answer<IssueAnswer>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.calls.remove(&ticket) else { return };
        let Task::Issue(issue) = &self.jobs[job].task else { return };
        let Some(op) = self.jobs[job].op.clone() else { return };
        let resumable = issue.ask.endpoint.contract == Contract::V2;
        let moved = |how: Move| Change::Move { op: op.clone(), how };
        // What v1 cannot be asked about again is lost; what it surely did not do never was.
        let refuse = if resumable { Move::RefuseAnswer } else { Move::Lose };
        let refused = |why: String| Verdict {
            changes: vec![moved(refuse)],
            found: Found::Failed(format!("its answer was refused: {why}")),
            failure: Some(rejected(format!("its answer was refused: {why}"))),
        };
        let verdict = match answer.what {
            IssueAnswer::Granted(raw) => match raw.judge(&issue.binding.email, now) {
                Ok(grant) => match self.misfit(&issue.service, &grant) {
                    None => granted(op, grant),
                    Some(why) => refused(why),
                },
                Err(why) => refused(why),
            },
            IssueAnswer::Gone => Verdict {
                changes: vec![moved(Move::FindGone)],
                found: Found::Failed(
                    "the service says that this ask was revoked; a new one follows".to_owned(),
                ),
                failure: None,
            },
            IssueAnswer::Conflict(why) => refused(why),
            IssueAnswer::Failed(failure) => {
                let end = match failure.kind {
                    _ if resumable => None,
                    FailureKind::Unknown => Some(Move::Lose),
                    FailureKind::Unreached | FailureKind::Rejected | FailureKind::SecretRefused => {
                        Some(Move::FindGone)
                    }
                };
                let changes = end.into_iter().map(moved).collect();
                let found = Found::Failed(failure.message.clone());
                Verdict { changes, found, failure: Some(failure) }
            }
        };
        self.settle(now, job, answer.date, verdict, effects);
    }

    /// Why the key cannot stand where the registry wants it, if it cannot. Once taken, it would
    /// keep every other key out of the home, too.
    fn misfit(&self, service: &ServiceId, grant: &NewGrant) -> Option<String> {
        self.templates.get(service)?.iter().find_map(|(name, template)| {
            let value = Zeroizing::new(template.with(grant.api_key.expose()));
            let error = EnvValue::parse(&value).err()?;
            Some(format!("its api_key cannot stand in {name}: {error}"))
        })
    }

    pub(super) fn revoked(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        answer: Answer<RevokeAnswer>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.calls.remove(&ticket) else { return };
        let Some(op) = self.jobs[job].op.clone() else { return };
        let verdict = match answer.what {
            RevokeAnswer::Confirmed => Verdict {
                changes: vec![Change::Move { op, how: Move::Confirm }],
                found: Found::Done,
                failure: None,
            },
            RevokeAnswer::Failed(failure) => Verdict {
                changes: Vec::new(),
                found: Found::Failed(failure.message.clone()),
                failure: Some(failure),
            },
        };
        self.settle(now, job, answer.date, verdict, effects);
    }

    /// Records what an answer means for its job, its connection and its service.
    fn settle(
        &mut self,
        now: Timestamp,
        job: usize,
        date: Option<Timestamp>,
        mut verdict: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        self.note_backoff(now, job, verdict.failure.as_ref(), &mut verdict.changes);
        self.note_trouble(now, job, date, verdict.failure.as_ref(), &mut verdict.changes);
        if verdict.changes.is_empty() {
            self.finish(job, verdict.found);
        } else {
            self.record(Purpose::Answered(job, verdict.found), verdict.changes, effects);
        }
    }

    fn note_backoff(
        &mut self,
        now: Timestamp,
        job: usize,
        failure: Option<&Failure>,
        changes: &mut Vec<Change>,
    ) {
        let task = &self.jobs[job].task;
        let key = (task.user().clone(), task.service().clone());
        let Tried { times, is_noted } = self.tried.get(&key).copied().unwrap_or_default();
        let backoff = match failure {
            None if !is_noted => return,
            None => None,
            Some(failure) => {
                let wait = wait(times, failure.retry_after, (self.dice)());
                Some(Backoff {
                    until: later(now, wait),
                    tries: times + 1,
                    wish: self.wishes.get(&key).copied().unwrap_or_else(|| {
                        wish_digest(None) // every job's wish was noted when it was taken
                    }),
                    message: failure.message.clone(),
                })
            }
        };
        let times = backoff.as_ref().map_or(0, |backoff| backoff.tries);
        self.tried.insert(key.clone(), Tried { times, is_noted: backoff.is_some() });
        changes.push(Change::Backoff { user: key.0, service: key.1, backoff });
    }

    fn note_trouble(
        &mut self,
        now: Timestamp,
        job: usize,
        date: Option<Timestamp>,
        failure: Option<&Failure>,
        changes: &mut Vec<Change>,
    ) {
        let address = self.jobs[job].task.address();
        let Some(lane) = self.lanes.get_mut(&address) else { return };
        let kind = failure.map(|failure| failure.kind);
        let no_answer = matches!(kind, Some(FailureKind::Unreached | FailureKind::Unknown));
        let silent = lane.ended(!no_answer);
        let message = failure.map(|failure| failure.message.clone()).unwrap_or_default();
        if !lane.present {
            if silent || kind == Some(FailureKind::SecretRefused) {
                let until = later(now, wait(0, None, (self.dice)()));
                let waiting = lane.close(&message, until);
                self.give_up(waiting, &message);
            }
            return;
        }
        let service = &address.service;
        let skew = date.and_then(|date| clock_skew(date, now));
        // Only a date that agrees says that clocks do: nothing is ended by time until then, whatever
        // else goes wrong there.
        let former = lane.trouble.as_ref().map(|trouble| trouble.kind);
        let was_skewed = former.is_some_and(TroubleKind::is_skewed);
        let stays_skewed = was_skewed && (date.is_none() || skew.is_some());
        let is_skewed = stays_skewed || skew.is_some();
        let (kind, message) = match (kind, skew) {
            (Some(FailureKind::SecretRefused), _) => {
                (TroubleKind::SecretRefused, format!("it refuses our shared secret: {message}"))
            }
            (_, _) if silent => (TroubleKind::Down, format!("it does not answer: {message}")),
            (_, Some(message)) => (TroubleKind::ClockSkew, message),
            // It is called again, and has not said what time it is.
            (_, None)
                if !no_answer && former == Some(TroubleKind::SkewedAndShut) && stays_skewed =>
            {
                (TroubleKind::ClockSkew, STILL_SKEWED.to_owned())
            }
            // A single failure says nothing of the service as a whole, nor that it is well.
            (_, None) if no_answer || stays_skewed => return,
            (_, None) => {
                if lane.trouble.take().is_some() {
                    changes.push(Change::Trouble { service: service.clone(), trouble: None });
                }
                return;
            }
        };
        if lane.closed().is_some() {
            return; // one of several that were under way: the trouble is noted
        }
        let retry_after = failure.and_then(|failure| failure.retry_after);
        let is_shut = kind.is_shut();
        let kind = if is_skewed && is_shut { TroubleKind::SkewedAndShut } else { kind };
        let same = lane.trouble.as_ref().filter(|trouble| trouble.kind == kind);
        if kind == TroubleKind::ClockSkew && same.is_some_and(|trouble| trouble.until > now) {
            return;
        }
        let tries = same.map_or(0, |trouble| trouble.tries);
        let until = later(now, wait(tries, retry_after, (self.dice)()));
        let trouble = Trouble { kind, until, tries: tries + 1, message: message.clone() };
        lane.trouble = Some(trouble.clone());
        changes.push(Change::Trouble { service: service.clone(), trouble: Some(trouble) });
        let waiting = if is_shut {
            lane.close(&message, until)
        } else {
            let jobs = &self.jobs;
            lane.withdraw(|job| is_time_driven(&jobs[job].task))
        };
        self.give_up(waiting, &message);
    }
}

fn granted(op: OpId, grant: NewGrant) -> Verdict {
    Verdict { changes: vec![Change::Grant { op, grant }], found: Found::Done, failure: None }
}

fn rejected(message: String) -> Failure {
    Failure { kind: FailureKind::Rejected, message, retry_after: None }
}

/// What is wrong with a service's clock, if it is more than 5 minutes from ours.
#[must_use]
pub fn clock_skew(date: Timestamp, now: Timestamp) -> Option<String> {
    let skew = date.duration_since(now);
    let which = if skew.is_negative() { "behind" } else { "ahead of" };
    let minutes = skew.abs().as_secs() / 60;
    (skew.abs() > MAX_SKEW).then(|| {
        format!("its clock is {minutes} minutes {which} ours: nothing is renewed or ended by time")
    })
}

/// Whether only the time asks for this.
pub(super) fn is_time_driven(task: &Task) -> bool {
    match task {
        Task::Issue(issue) => issue.why.is_time_driven(),
        Task::Revoke(_) => false,
    }
}

/// How long to wait after a failure: doubled with each, spread by a fifth either way, and never
/// shorter than the service asks for.
fn wait(tries: u32, retry_after: Option<SignedDuration>, random: u128) -> SignedDuration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << tries.min(12)).min(LONGEST_BACKOFF);
    let percent = 80 + i32::try_from(random % 41).unwrap_or(20); // 80 to 120: always fits
    let spread = doubled * percent / 100;
    // A service that asks for a month is asked again within a day.
    spread.max(retry_after.unwrap_or_default().min(SignedDuration::from_hours(24)))
}
