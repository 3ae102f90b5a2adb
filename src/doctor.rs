//! What is wrong with this installation, and how to mend it. Nothing is changed.
//!
//! Each check says what it found of one [`Area`]. What could not be checked says so: it is neither
//! right nor wrong.

mod finding;
mod homes;
mod intent;
mod owners;
mod places;
mod portal;
mod services;
mod state;
mod timer;
mod unit;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};

use crate::causes::chain;
use crate::exchange::Secrets;
use crate::installer::Homes;
use crate::model::name::EnvName;
use crate::reconcile::Pass;

pub use finding::{Area, Finding, State};

use finding::Findings;

/// What is examined.
pub struct Setup<'a> {
    /// The configuration file, if there is one.
    pub config: Option<PathBuf>,
    /// What a pass would work with.
    pub pass: &'a Pass,
    /// How homes are reached.
    pub homes: &'a Homes,
    /// Finds shared secrets, as a pass would.
    pub secrets: &'a dyn Fn(&BTreeSet<EnvName>) -> Secrets,
    /// Whether the configuration says who is asking the portal.
    pub is_portal_open: bool,
}

/// Examines everything, and asks the services' health checks.
pub async fn examine(setup: &Setup<'_>) -> Vec<Finding> {
    let mut findings = Findings::default();
    configuration(&mut findings, setup.config.as_deref());
    let actual = state::look(&mut findings, setup.pass).await;
    let registry = intent::look(&mut findings, setup.pass, actual.as_ref()).await;
    places::look(&mut findings, &places::table(setup, registry.as_ref()));
    homes::look(&mut findings, setup.homes, &setup.pass.installer);
    timer::look(&mut findings);
    portal::look(&mut findings, setup.is_portal_open);
    match &registry {
        Some(registry) => {
            let actual = actual.unwrap_or_default();
            services::secrets(&mut findings, setup, &actual, registry);
            services::health(&mut findings, setup.pass, registry).await;
        }
        None => {
            for area in [Area::Secrets, Area::Services, Area::Clock] {
                findings.not_checked(
                    area,
                    "the registry, which cannot be read, says which services there are",
                );
            }
        }
    }
    findings.told()
}

/// Examines what can be without the configuration, which is not usable.
#[must_use]
pub fn without_configuration(path: &Path, error: &dyn Error, mend: &str) -> Vec<Finding> {
    let mut findings = Findings::default();
    findings.wrong(Area::Configuration, chain(error), mend);
    places::look(&mut findings, &places::of_configuration(path));
    timer::look(&mut findings);
    for area in Area::ALL {
        if !findings.has(area) {
            findings
                .not_checked(area, "the configuration, which is not usable, says where to look");
        }
    }
    findings.told()
}

fn configuration(findings: &mut Findings, path: Option<&Path>) {
    match path {
        Some(path) => findings.ok(Area::Configuration, path.display()),
        None => findings.ok(Area::Configuration, "no file; the defaults count"),
    }
}
