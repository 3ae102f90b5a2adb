//! Metrics for Prometheus. Labels are service ids and words that do not change: no person, no secret.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::exchange::seen::Seen;
use crate::model::action::IssueReason;
use crate::model::actual::TroubleKind;
use crate::model::outcome::{Found, Outcome, What};
use crate::model::token::Phase;
use crate::reconcile::Passed;
use crate::store::Fleet;

/// Seconds. From a call on the same machine to the longest timeout.
const CALL_BUCKETS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
/// Seconds. From one user's pass to one that fills a fleet.
const PASS_BUCKETS: [f64; 11] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 900.0];

/// Names and values of labels.
type Labels = Vec<(&'static str, String)>;
/// A number that goes up and down.
type Float = Gauge<f64, AtomicU64>;

/// All of them.
pub(super) struct Metrics {
    registry: Registry,
    tokens: Family<Labels, Gauge>,
    oldest_debt: Family<Labels, Float>,
    next_expiry: Family<Labels, Float>,
    renewals_late: Family<Labels, Gauge>,
    backoffs: Family<Labels, Gauge>,
    orphans: Family<Labels, Gauge>,
    trouble: Family<Labels, Gauge>,
    lists_frozen: Family<Labels, Gauge>,
    held: Gauge,
    drift: Counter,
    actions: Family<Labels, Counter>,
    passes: Family<Labels, Counter>,
    pass_seconds: Family<Labels, Histogram>,
    last_pass: Float,
    last_exit: Gauge,
    last_look: Float,
    call_seconds: Family<Labels, Histogram>,
    /// Held while figures are replaced: whoever asks gets all of them, old or new.
    whole: Mutex<()>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("service_connector");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let build: Family<Labels, Gauge> = Family::default();
        build.get_or_create(&vec![("version", version)]).set(1);
        add(&mut registry, "build_info", "The program that runs", build);
        let mut new = Registrar(registry);
        Self {
            tokens: new.add("tokens", "Tokens that have not ended"),
            oldest_debt: new
                .add("oldest_debt_timestamp_seconds", "Since when the oldest revoke is owed"),
            next_expiry: new.add(
                "next_expiry_timestamp_seconds",
                "When the next key that works ends by itself",
            ),
            renewals_late: new.add(
                "renewals_late",
                "Keys that end within 12 hours and have less than a twelfth of their life left",
            ),
            backoffs: new.add("backoffs", "Connections that failed and wait"),
            orphans: new.add(
                "possible_orphans",
                "Tokens of contract v1 that may exist, and nobody can tell",
            ),
            trouble: new.add("service_trouble", "1 for what is wrong with a service"),
            lists_frozen: new
                .add("list_frozen", "1 where the service's list of tokens cannot be relied on"),
            held: new.add("held_removals", "Removals that the guard holds"),
            drift: new.add("drift_mended", "Homes that were mended"),
            actions: new.add("actions", "Actions that ended"),
            passes: new.add("passes", "Passes that ended, by exit code"),
            pass_seconds: new.add_with("pass_duration_seconds", "How long passes took", || {
                Histogram::new(PASS_BUCKETS)
            }),
            last_pass: new.add("last_pass_timestamp_seconds", "When the last pass ended"),
            last_exit: new.add("last_pass_exit_code", "How the last pass ended"),
            last_look: new.add("last_look_timestamp_seconds", "When everything was last looked at"),
            call_seconds: new.add_with(
                "exchange_duration_seconds",
                "How long calls to services took",
                || Histogram::new(CALL_BUCKETS),
            ),
            registry: new.0,
            whole: Mutex::default(),
        }
    }
}

struct Registrar(Registry);

impl Registrar {
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        add(&mut self.0, name, help, M::default())
    }

    fn add_with(
        &mut self,
        name: &str,
        help: &str,
        make: fn() -> Histogram,
    ) -> Family<Labels, Histogram> {
        let family = Family::new_with_constructor(make);
        add(&mut self.0, name, help, family)
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// The text of `OpenMetrics` 1.0.
    pub(super) fn text(&self) -> String {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // A string takes whatever is written to it.
        encode(&mut text, &self.registry).ok();
        text
    }

    pub(super) fn called(&self, seen: &Seen) {
        let labels = vec![
            ("service", seen.service.to_string()),
            ("call", seen.call.word().to_owned()),
            ("result", seen.result.to_owned()),
        ];
        self.call_seconds.get_or_create(&labels).observe(seen.took.as_secs_f64());
    }

    pub(super) fn outcome(&self, outcome: &Outcome) {
        let what = match &outcome.what {
            What::Issue(IssueReason::Missing) => "reissue",
            What::Issue(_) => "issue",
            What::Install(_) => "install",
            What::Revoke(_) => "revoke",
            What::End(_) => "end",
        };
        let found = match outcome.found {
            Found::Done => "done",
            Found::Already => "already",
            Found::Failed(_) => "failed",
        };
        let labels = vec![("what", what.to_owned()), ("found", found.to_owned())];
        self.actions.get_or_create(&labels).inc();
    }

    pub(super) fn failed(&self) {
        self.ended(1);
    }

    pub(super) fn passed(&self, passed: &Passed) {
        let _whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended(passed.exit.code());
        let scope = if passed.of_all { "all" } else { "users" };
        let labels = vec![("scope", scope.to_owned())];
        self.pass_seconds.get_or_create(&labels).observe(passed.took.as_secs_f64());
        if passed.of_all {
            self.last_look.set(seconds(Timestamp::now()));
        }
        let mended = passed.executed.outcomes.iter().filter(|outcome| {
            matches!(&outcome.what, What::Install(account) if passed.planned.drifted.contains(account))
                && outcome.found == Found::Done
        });
        self.drift.inc_by(mended.count() as u64);
        self.fleet(&passed.fleet);
        self.trouble.clear();
        self.lists_frozen.clear();
        for (service, health) in &passed.health.services {
            let labels = vec![("service", service.to_string())];
            if let Some(trouble) = &health.trouble {
                let kinds: &[&str] = match trouble.kind {
                    TroubleKind::SecretRefused => &["secret_refused"],
                    TroubleKind::Down => &["down"],
                    TroubleKind::ClockSkew => &["clock_skew"],
                    TroubleKind::SkewedAndShut => &["clock_skew", "down"],
                };
                for kind in kinds {
                    let labels = [labels.clone(), vec![("kind", (*kind).to_owned())]].concat();
                    self.trouble.get_or_create(&labels).set(1);
                }
            }
            let frozen = i64::from(health.list_frozen.is_some());
            self.lists_frozen.get_or_create(&labels).set(frozen);
        }
    }

    fn ended(&self, exit: u8) {
        self.passes.get_or_create(&vec![("exit", exit.to_string())]).inc();
        self.last_pass.set(seconds(Timestamp::now()));
        self.last_exit.set(i64::from(exit));
    }

    /// What is not there any more is not told any more.
    fn fleet(&self, fleet: &Fleet) {
        self.held.set(count(fleet.held));
        for family in [&self.tokens, &self.renewals_late, &self.backoffs, &self.orphans] {
            family.clear();
        }
        self.oldest_debt.clear();
        self.next_expiry.clear();
        for (service, figures) in &fleet.services {
            let labels: Labels = vec![("service", service.to_string())];
            for phase in [Phase::Issuing, Phase::Active, Phase::Retiring, Phase::Revoking] {
                let labels = [labels.clone(), vec![("phase", phase.as_str().to_owned())]].concat();
                let tokens = figures.tokens.get(&phase).copied().unwrap_or(0);
                self.tokens.get_or_create(&labels).set(count(tokens));
            }
            if let Some(since) = figures.oldest_debt {
                self.oldest_debt.get_or_create(&labels).set(seconds(since));
            }
            if let Some(at) = figures.next_expiry {
                self.next_expiry.get_or_create(&labels).set(seconds(at));
            }
            self.renewals_late.get_or_create(&labels).set(count(figures.renewals_late));
            self.backoffs.get_or_create(&labels).set(count(figures.backoffs));
            self.orphans.get_or_create(&labels).set(count(figures.possible_orphans));
        }
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "exact to a microsecond for 200 years")]
fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}
