//! The files that people write: the desired state, people, the registry and the skills.

use std::path::Path;

use crate::causes::chain;
use crate::desired_file::{DesiredFile, LoadError, Loaded};
use crate::model::actual::Actual;
use crate::model::desired::People;
use crate::model::registry::Registry;
use crate::model::skill_lint;
use crate::observe::{self, Intent, Wanted};
use crate::reconcile::Pass;
use crate::registry_dir::{self, LoadedRegistry};

use super::owners::quoted;
use super::{Area, Findings};

/// How many users without a person are named.
const MOST_NAMED: usize = 10;

/// Examines the files; answers the usable part of the registry, if it can be read at all.
pub(super) async fn look(
    findings: &mut Findings,
    pass: &Pass,
    actual: Option<&Actual>,
) -> Option<Registry> {
    let places = &pass.places;
    let loaded = match registry_dir::load(&places.registry, &places.skills) {
        Ok(loaded) => loaded,
        Err(error) => {
            let is_skills = error.path() == places.skills;
            let area = if is_skills { Area::Skills } else { Area::Registry };
            let is_there = error.path().try_exists().unwrap_or(true);
            let command = if is_there { "namei -l" } else { "mkdir -p" };
            let mend = format!("{command} {}", quoted(error.path()));
            findings.wrong(area, chain(&error), mend);
            let other = if is_skills { Area::Registry } else { Area::Skills };
            findings.not_checked(other, format!("without the {}", area.words()));
            people_and_desired(findings, pass, None, actual).await;
            return None;
        }
    };
    registry(findings, pass, &loaded);
    skills(findings, pass, &loaded.registry);
    people_and_desired(findings, pass, Some(&loaded.registry), actual).await;
    Some(loaded.registry)
}

fn registry(findings: &mut Findings, pass: &Pass, loaded: &LoadedRegistry) {
    for problem in &loaded.problems {
        let what = format!("{}: {}", problem.path.display(), chain(&problem.error));
        findings.wrong(Area::Registry, what, edit(&problem.path));
    }
    let (services, dir) = (loaded.registry.services().count(), &pass.places.registry);
    findings.ok(Area::Registry, format!("services: {services}, in {}", dir.display()));
}

fn skills(findings: &mut Findings, pass: &Pass, registry: &Registry) {
    for service in registry.services() {
        let path = pass.places.skills.join(service.rendition.skill.as_str());
        for what in skill_lint::lint(service) {
            findings.wrong(Area::Skills, what, edit(&path));
        }
    }
    findings.ok(Area::Skills, format!("in {}", pass.places.skills.display()));
}

async fn people_and_desired(
    findings: &mut Findings,
    pass: &Pass,
    registry: Option<&Registry>,
    actual: Option<&Actual>,
) {
    let places = &pass.places;
    let people = match observe::people(&places.people) {
        Ok(people) => Some(people),
        Err(error) => {
            findings.wrong(Area::People, chain(&error), edit(&places.people));
            None
        }
    };
    match settled(pass).await {
        Ok(loaded) => wanted(findings, pass, (registry, people, loaded), actual),
        Err(error) => {
            match mend_desired(&error) {
                Some(mend) => findings.wrong(Area::Desired, chain(&error), mend),
                None => findings.not_checked(Area::Desired, chain(&error)),
            }
            findings.not_checked(
                Area::People,
                "the desired state, which is not usable, says who needs a person",
            );
        }
    }
}

/// What the desired state says, once it has been still, and whether the rest fits it.
fn wanted(
    findings: &mut Findings,
    pass: &Pass,
    (registry, people, mut loaded): (Option<&Registry>, Option<People>, Loaded),
    actual: Option<&Actual>,
) {
    let desired = std::mem::take(&mut loaded.desired);
    match &people {
        Some(people) => {
            let connected = desired.users.iter().filter(|(_, user)| !user.connections.is_empty());
            let nobodies: Vec<String> = connected
                .filter_map(|(user, _)| people.person(user).err().map(|error| error.to_string()))
                .collect();
            without_person(findings, pass, &nobodies);
            let listed = people.listed().count();
            let path = pass.places.people.display();
            findings.ok(Area::People, format!("listed by name: {listed}, in {path}"));
        }
        None => findings.not_checked(Area::People, "who of the connected is a person"),
    }
    let users = desired.users.len();
    let connections: usize = desired.users.values().map(|user| user.connections.len()).sum();
    // A service that only the state knows is no mistake.
    let (Some(registry), Some(actual)) = (registry, actual) else {
        return findings.not_checked(Area::Desired, "whether its services are known");
    };
    let wanted = Wanted { desired, people: people.unwrap_or_default(), loaded };
    let intent = Intent { desired: Ok(wanted), registry: registry.clone(), problems: Vec::new() };
    match intent.checked(&pass.places, actual).desired {
        Ok(_) => {
            let path = pass.places.desired.display();
            let what = format!("users: {users}, connections: {connections}, in {path}");
            findings.ok(Area::Desired, what);
        }
        Err(error) => findings.wrong(Area::Desired, chain(&error), edit(&pass.places.desired)),
    }
}

fn without_person(findings: &mut Findings, pass: &Pass, nobodies: &[String]) {
    let path = &pass.places.people;
    for why in nobodies.iter().take(MOST_NAMED) {
        findings.wrong(Area::People, format!("{why}; nothing is issued"), edit(path));
    }
    if let Some(more) = nobodies.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        let what = format!("and {more} more who are connected are nobody in {}", path.display());
        findings.wrong(Area::People, what, edit(path));
    }
}

/// Reads the desired state, once more if it was changed by hand a moment ago.
async fn settled(pass: &Pass) -> Result<Loaded, LoadError> {
    let file = DesiredFile::new(&pass.places.desired);
    match file.read((pass.clock)()) {
        Err(LoadError::Settling { ready_in, .. }) => {
            tokio::time::sleep(ready_in).await;
            file.read((pass.clock)())
        }
        read => read,
    }
}

/// What to do about a desired state that cannot be used; nothing, where time alone mends it.
fn mend_desired(error: &LoadError) -> Option<String> {
    match error {
        LoadError::Settling { .. } => None,
        LoadError::Missing(path) => Some(format!(
            "write {}, or bring back the newest of {}",
            quoted(path),
            quoted(&path.with_file_name("history"))
        )),
        LoadError::CutOff { path, good, .. } => {
            Some(format!("cp {} {}", quoted(good), quoted(path)))
        }
        LoadError::Read { path, .. } => Some(format!("namei -l {}", quoted(path))),
        LoadError::Invalid { path, .. } => Some(edit(path)),
        LoadError::History(_) => Some("give its history back to who runs passes".to_owned()),
    }
}

fn edit(path: &Path) -> String {
    format!("edit {}, then `service-connector validate`", quoted(path))
}
