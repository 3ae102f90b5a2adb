//! Golden plans: for each directory of `tests/plans` with a `desired.yaml`, the text of its plan.
//!
//! `UPDATE=1 cargo test --test golden_plans` writes the texts anew; look at the diff before you
//! commit it. For every case, too: planning again after the plan was carried out finds nothing to
//! do, at once and a minute later, and the digests are stable.

mod support;

use std::fs;
use std::path::PathBuf;

use jiff::SignedDuration;
use service_connector::model::action::Action;
use service_connector::model::actual::TroubleKind;
use service_connector::model::guard::{self, Held};
use service_connector::model::home::HomeLook;
use service_connector::model::plan::json::json;
use service_connector::model::plan::text::{Palette, text};
use service_connector::model::plan::{LossKind, Plan, View};

use support::files::key_of;
use support::given::{Given, plans};
use support::services::{Behaviour, Mood, Services};
use support::simulated;

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(plans()).expect("tests/plans");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("desired.yaml").exists())
        .collect();
    cases.sort();
    assert!(cases.len() > 30, "only {} cases were found", cases.len());
    cases
}

/// What may be carried out, and what is held.
fn planned(given: &Given) -> (Plan, Held) {
    let (approved, held) = guard::approve(given.plan(), &given.limits);
    (approved.into_plan(), held)
}

fn view<'a>(given: &'a Given, plan: &'a Plan, held: &'a Held) -> View<'a> {
    View { plan, held, registry: &given.registry, actual: &given.actual, at: given.now }
}

fn shown(given: &Given) -> String {
    let (plan, held) = planned(given);
    text(&view(given, &plan, &held), &Palette::PLAIN)
}

/// Services as the state says they are.
fn services_of(given: &Given) -> Services {
    let mut services = Services::default();
    for (service, trouble) in &given.actual.troubles {
        let mood = match trouble.kind {
            TroubleKind::SecretRefused => Mood::RefusesSecret,
            TroubleKind::Down | TroubleKind::SkewedAndShut => Mood::Silent,
            TroubleKind::ClockSkew => Mood::Well,
        };
        let skewed = trouble.kind.is_skewed();
        let ahead = SignedDuration::from_mins(if skewed { 9 } else { 0 });
        services.set(service.as_str(), Behaviour { mood, ahead, ..Behaviour::default() });
    }
    services
}

#[test]
fn every_plan_reads_as_its_golden_text() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let shown = shown(&Given::load(&case));
        let path = case.join("plan.txt");
        if update {
            fs::write(&path, &shown).expect("write plan.txt");
        } else if fs::read_to_string(&path).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", path.display()));
        }
    }
    let hint = "if that is right: UPDATE=1 cargo test --test golden_plans";
    assert!(wrong.is_empty(), "{}\n{hint}", wrong.join("\n"));
}

#[test]
fn a_plan_after_its_own_apply_is_empty_at_once_and_a_minute_later() {
    let mut wrong = Vec::new();
    for case in cases() {
        let mut given = Given::load(&case);
        let mut services = services_of(&given);
        let mut held = simulated::pass(&mut given, &mut services).held;
        if held.losses.iter().any(|loss| loss.kind == LossKind::Expiry) {
            // What was held and has a successor now may end, one pass later.
            held = simulated::pass(&mut given, &mut services).held;
        }
        for later in [SignedDuration::ZERO, SignedDuration::from_mins(1)] {
            given.now += later;
            let (plan, still_held) = planned(&given);
            // A home that cannot be reached is tried again by each pass, and that is all.
            let unreachable = |look: &HomeLook| matches!(look, HomeLook::Unknown(_));
            let only_puts = plan.actions.iter().all(|action| matches!(action, Action::Install(_)));
            if only_puts && given.actual.homes.values().any(unreachable) {
                continue;
            }
            if !plan.is_empty() || held.digest() != still_held.digest() {
                let (case, shown) = (case.display(), shown(&given));
                wrong.push(format!("{case}, {later} after its apply:\n{shown}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_digest_of_a_plan_does_not_depend_on_the_instant_or_the_backoff() {
    for case in cases() {
        let given = Given::load(&case);
        let (plan, held) = planned(&given);
        let mut other = Given::load(&case);
        other.now += SignedDuration::from_secs(1);
        let (plan_later, held_later) = planned(&other);
        let name = case.display();
        assert_eq!(plan.digest(&given.actual), plan_later.digest(&other.actual), "{name}");
        assert_eq!(held.digest(), held_later.digest(), "{name}");
    }
}

#[test]
fn neither_text_nor_json_shows_a_key() {
    for case in cases() {
        let given = Given::load(&case);
        let (plan, held) = planned(&given);
        let view = view(&given, &plan, &held);
        let json = serde_json::to_string_pretty(&json(&view)).expect("JSON");
        let all = format!("{}{json}", text(&view, &Palette::COLOURED));
        let tokens = given.actual.tokens.values().flat_map(|of| of.values()).flatten();
        for token in tokens {
            assert!(!all.contains(&key_of(&token.op)), "{}", case.display());
        }
        assert!(!all.contains("secretkey"), "{}", case.display());
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    for case in cases() {
        let given = Given::load(&case);
        let (plan, held) = planned(&given);
        let view = view(&given, &plan, &held);
        let coloured = text(&view, &Palette::COLOURED);
        let stripped = anstream::adapter::strip_str(&coloured).to_string();
        assert_eq!(stripped, text(&view, &Palette::PLAIN), "{}", case.display());
    }
}

#[test]
fn the_json_of_a_plan_keeps_its_field_names() {
    let update = std::env::var_os("UPDATE").is_some();
    for case in cases().into_iter().filter(|case| case.join("plan.json").exists()) {
        let given = Given::load(&case);
        let (plan, held) = planned(&given);
        let shown = serde_json::to_string_pretty(&json(&view(&given, &plan, &held)));
        let shown = shown.expect("JSON") + "\n";
        if update {
            fs::write(case.join("plan.json"), &shown).expect("write plan.json");
        }
        let golden = fs::read_to_string(case.join("plan.json")).expect("plan.json");
        assert_eq!(golden, shown, "{}", case.display());
    }
}
