//! Services that answer as they are told, and remember what they issued.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use service_connector::model::name::{OpId, ServiceId};
use service_connector::model::outcome::{
    Answer, Failure, FailureKind, IssueAnswer, RawGrant, RevokeAnswer,
};
use service_connector::model::secret::Secret;
use service_connector::model::token::{Ask, days, later};

use super::files;

/// How one service behaves.
#[derive(Clone, Copy)]
pub struct Behaviour {
    /// How long a call takes.
    pub latency: SignedDuration,
    /// How long a key lives; as asked without.
    pub life: Option<SignedDuration>,
    /// What it says to calls.
    pub mood: Mood,
    /// How far its clock is ahead.
    pub ahead: SignedDuration,
}

/// What a service says to calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Well,
    /// It does it, and the answer is lost.
    LosesAnswers,
    /// It does not do it and does not answer.
    Silent,
    RefusesSecret,
    Rejects,
    Conflicts,
    SaysGone,
    /// A key that cannot stand in an env file.
    BadKey,
}

impl Default for Behaviour {
    fn default() -> Self {
        let zero = SignedDuration::ZERO;
        Self { latency: zero, life: None, mood: Mood::Well, ahead: zero }
    }
}

/// All services.
#[derive(Default)]
pub struct Services {
    pub behaviours: BTreeMap<ServiceId, Behaviour>,
    /// What was issued and not revoked, and when it ends.
    pub alive: BTreeMap<OpId, Timestamp>,
    /// What was revoked, or must never come to be.
    tombs: BTreeSet<OpId>,
}

impl Services {
    pub fn behaviour(&self, service: &ServiceId) -> Behaviour {
        self.behaviours.get(service).copied().unwrap_or_default()
    }

    pub fn set(&mut self, service: &str, behaviour: Behaviour) {
        self.behaviours.insert(service.parse().expect("a service id"), behaviour);
    }

    pub fn issue(
        &mut self,
        service: &ServiceId,
        op: &OpId,
        ask: &Ask,
        now: Timestamp,
    ) -> Answer<IssueAnswer> {
        let Behaviour { life, mood, ahead, .. } = self.behaviour(service);
        let what = match mood {
            Mood::LosesAnswers if self.tombs.contains(op) => {
                IssueAnswer::Failed(failure(Mood::Silent))
            }
            Mood::Well | Mood::BadKey if self.tombs.contains(op) => IssueAnswer::Gone,
            Mood::Well | Mood::BadKey | Mood::LosesAnswers => {
                let end = later(now, life.unwrap_or_else(|| days(ask.ttl_days)));
                let end = *self.alive.entry(op.clone()).or_insert(end);
                grant(op, end, mood)
            }
            Mood::SaysGone => {
                self.bury(op);
                IssueAnswer::Gone
            }
            Mood::Conflicts => IssueAnswer::Conflict("409: it cannot be repeated".to_owned()),
            Mood::Silent | Mood::RefusesSecret | Mood::Rejects => {
                IssueAnswer::Failed(failure(mood))
            }
        };
        Answer { date: Some(later(now, ahead)), what }
    }

    pub fn revoke(
        &mut self,
        service: &ServiceId,
        op: &OpId,
        now: Timestamp,
    ) -> Answer<RevokeAnswer> {
        let Behaviour { mood, ahead, .. } = self.behaviour(service);
        let what = match mood {
            Mood::Silent | Mood::RefusesSecret | Mood::Rejects => {
                RevokeAnswer::Failed(failure(mood))
            }
            _ => {
                self.bury(op);
                if mood == Mood::LosesAnswers {
                    RevokeAnswer::Failed(failure(Mood::Silent))
                } else {
                    RevokeAnswer::Confirmed
                }
            }
        };
        Answer { date: Some(later(now, ahead)), what }
    }
}

impl Services {
    fn bury(&mut self, op: &OpId) {
        self.alive.remove(op);
        self.tombs.insert(op.clone());
    }
}

fn grant(op: &OpId, end: Timestamp, mood: Mood) -> IssueAnswer {
    if mood == Mood::LosesAnswers {
        return IssueAnswer::Failed(failure(Mood::Silent));
    }
    let key = files::key_of(op);
    IssueAnswer::Granted(RawGrant {
        api_key: Secret::new(if mood == Mood::BadKey { format!("{key}\nEVIL=1") } else { key }),
        token_id: format!("t-{}", op.as_str().rsplit(':').next().unwrap_or_default()),
        expires_at: end.to_string(),
        user_email: None,
    })
}

fn failure(mood: Mood) -> Failure {
    let (kind, message) = match mood {
        Mood::RefusesSecret => (FailureKind::SecretRefused, "401"),
        Mood::Rejects => (FailureKind::Rejected, "400"),
        _ => (FailureKind::Unknown, "no answer"),
    };
    Failure { kind, message: message.to_owned(), retry_after: None }
}
