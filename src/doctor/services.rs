//! The services: their shared secrets, whether they answer, and what time it is there.

use std::collections::BTreeSet;
use std::path::Path;

use crate::exchange::{Exchange, SecretError};
use crate::model::actual::Actual;
use crate::model::name::{EnvName, ServiceId};
use crate::model::outcome::{Failure, FailureKind};
use crate::model::registry::Registry;
use crate::observe::{self, Health};
use crate::reconcile::{Pass, secrets_needed};

use super::owners::quoted;
use super::{Area, Findings, Setup};

/// Whether each shared secret is there and can be sent. It is never shown.
pub(super) fn secrets(
    findings: &mut Findings,
    setup: &Setup<'_>,
    actual: &Actual,
    registry: &Registry,
) {
    let needed = secrets_needed(actual, registry);
    let names: BTreeSet<EnvName> = needed.iter().map(|(_, name)| (*name).clone()).collect();
    let exchange = Exchange::new((setup.secrets)(&names));
    let dir = setup.pass.secrets_dir.as_deref();
    for (service, name) in &needed {
        if let Some(error) = exchange.lacks_secret(name) {
            let what = format!("{service}: the shared secret {name} {error}");
            findings.wrong(Area::Secrets, what, mend_secret(name, error, dir));
        }
        if let Some((next, error)) = exchange.bad_next_secret(name) {
            let what = format!("{service}: the shared secret {next} {error}");
            findings.wrong(Area::Secrets, what, mend_secret(&next, error, dir));
        }
    }
    if let Some(dir) = dir.filter(|dir| !dir.is_dir()) {
        let what = format!("there is no directory {}, which `secrets:` names", dir.display());
        findings.wrong(Area::Secrets, what, format!("mkdir -p -m 700 {}", quoted(dir)));
    }
    findings.ok(Area::Secrets, format!("all {} are there", names.len()));
}

fn mend_secret(name: &EnvName, error: &SecretError, dir: Option<&Path>) -> String {
    match (error, dir) {
        (SecretError::Unreadable { path, .. }, _) => format!("namei -l {}", quoted(path)),
        (_, Some(dir)) => {
            format!("put the secret into {}, mode 600", quoted(&dir.join(name.as_str())))
        }
        (_, None) => format!("set the variable {name}, or name a directory by `secrets:`"),
    }
}

/// Asks every service's health check, and compares clocks.
pub(super) async fn health(findings: &mut Findings, pass: &Pass, registry: &Registry) {
    let answers = observe::health(registry.services()).await;
    for health in &answers {
        let service = &health.service;
        if let Some(failure) = &health.failure {
            let what = format!("{service}: {}", failure.message);
            findings.wrong(Area::Services, what, mend_service(service, failure, pass));
        }
        clock(findings, health);
    }
    match answers.len() {
        0 => findings.not_checked(Area::Clock, "there is no service to compare it with"),
        many => findings.ok(Area::Clock, format!("within 5 minutes of all {many} services'")),
    }
    findings.ok(Area::Services, format!("all {} are well", answers.len()));
}

fn clock(findings: &mut Findings, health: &Health) {
    let service = &health.service;
    match (&health.skew, health.date) {
        (Some(skew), _) => {
            let mend =
                format!("`timedatectl` says how ours is; if it is right, tell {service}'s owner");
            findings.wrong(Area::Clock, format!("{service}: {skew}"), mend);
        }
        (None, Some(_)) => {}
        (None, None) => {
            findings.not_checked(Area::Clock, format!("{service} did not say what time it is"));
        }
    }
}

fn mend_service(service: &ServiceId, failure: &Failure, pass: &Pass) -> String {
    let entry = quoted(&pass.places.registry.join(format!("{service}.yaml")));
    // These are our own words: a service that was not reached said nothing.
    let is_tls = failure.kind == FailureKind::Unreached && failure.message.contains(": TLS: ");
    match failure.kind {
        FailureKind::Unreached if is_tls => format!(
            "have its certificate mended; if its authority is your own, name that by `ca_file` in {entry}"
        ),
        FailureKind::Unreached => format!("see that it runs, or mend `base_url` in {entry}"),
        FailureKind::Rejected => format!("mend its addresses or `ca_file` in {entry}"),
        FailureKind::Unknown | FailureKind::SecretRefused => {
            format!("see its log, then `service-connector health {service}`")
        }
    }
}
