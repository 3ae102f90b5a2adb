//! Whether the loop does what it is there for. Reasons name no person: whoever has an account on the
//! server may ask. The log has the rest.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::model::actual::TroubleKind;
use crate::model::name::ServiceId;
use crate::reconcile::Passed;

/// After so many times without a look at everything, something keeps it from looking.
const LOOKS: u32 = 3;

/// What the last passes came to.
pub(super) struct Readiness {
    look_every: Duration,
    began: Instant,
    looked: Option<Instant>,
    has_failed: bool,
    desired_unusable: bool,
    skewed: Vec<ServiceId>,
    warnings: Vec<Reason>,
}

/// Why it is not ready, or what somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    /// A word that does not change.
    code: &'static str,
    /// Which service.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<ServiceId>,
    /// For people.
    text: String,
}

/// What `/readyz` says.
#[derive(Serialize)]
pub(super) struct Answer {
    pub(super) ready: bool,
    /// Why not.
    reasons: Vec<Reason>,
    /// Ready all the same.
    warnings: Vec<Reason>,
}

fn reason(code: &'static str, service: Option<&ServiceId>, text: impl Into<String>) -> Reason {
    Reason { code, service: service.cloned(), text: text.into() }
}

impl Readiness {
    pub(super) fn new(look_every: Duration) -> Self {
        Self {
            look_every,
            began: Instant::now(),
            looked: None,
            has_failed: false,
            desired_unusable: false,
            skewed: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn failed(&mut self) {
        self.has_failed = true;
    }

    pub(super) fn passed(&mut self, passed: &Passed) {
        self.has_failed = passed.executed.broken.is_some();
        self.desired_unusable = passed.planned.intent_error.is_some();
        if passed.of_all {
            self.looked = Some(Instant::now());
        }
        (self.skewed, self.warnings) = (Vec::new(), Vec::new());
        for (service, health) in &passed.health.services {
            let kind = health.trouble.as_ref().map(|trouble| trouble.kind);
            if kind.is_some_and(TroubleKind::is_skewed) {
                self.skewed.push(service.clone());
            }
            match kind {
                Some(TroubleKind::Down | TroubleKind::SkewedAndShut) => {
                    self.warn("service_down", Some(service), "it does not answer");
                }
                Some(TroubleKind::SecretRefused) => {
                    self.warn("secret_refused", Some(service), "it refuses our shared secret");
                }
                Some(TroubleKind::ClockSkew) | None => {}
            }
            if health.list_frozen.is_some() {
                let text = "its list of tokens cannot be relied on";
                self.warn("list_frozen", Some(service), text);
            }
        }
        if passed.fleet.held > 0 {
            let text = format!("the guard holds {} removals", passed.fleet.held);
            self.warnings.push(reason("held", None, text));
        }
    }

    fn warn(&mut self, code: &'static str, service: Option<&ServiceId>, text: &str) {
        self.warnings.push(reason(code, service, text));
    }

    /// As of now.
    pub(super) fn answer(&self) -> Answer {
        let mut reasons = Vec::new();
        let mut not = |code, text: &str| reasons.push(reason(code, None, text));
        if self.has_failed {
            not("pass_failed", "the last pass could not be made; the log says why");
        } else if self.looked.is_none() {
            not("no_pass_yet", "the first pass has not ended yet");
        }
        if self.desired_unusable {
            let text = "the desired state cannot be used, only debts are paid; the log says why";
            not("desired_unusable", text);
        }
        let longest = self.look_every * LOOKS;
        let ago = self.looked.unwrap_or(self.began).elapsed();
        if ago > longest {
            let text = format!("everything was last looked at {} seconds ago", ago.as_secs());
            not("look_overdue", &text);
        }
        for service in &self.skewed {
            let text = "its clock and ours are more than 5 minutes apart: nothing is renewed or \
                        ended by time";
            reasons.push(reason("clock_skew", Some(service), text));
        }
        Answer { ready: reasons.is_empty(), reasons, warnings: self.warnings.clone() }
    }
}
