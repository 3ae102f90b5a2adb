//! Which laptop holds what.

use jiff::Timestamp;
use serde::Serialize;

use crate::model::action::shown;
use crate::model::actual::Actual;
use crate::model::home::LaptopSeen;
use crate::model::name::{LaptopId, UserId};

/// A laptop, and what it last said that it holds.
#[derive(Serialize)]
pub(in crate::cli) struct LaptopJson {
    pub(in crate::cli) user: UserId,
    laptop: LaptopId,
    generation: u64,
    at: Timestamp,
    /// Whether that is the newest that was put into the user's home.
    current: bool,
}

/// The laptops of everybody who is spoken of.
pub(in crate::cli) fn laptops(actual: &Actual) -> Vec<LaptopJson> {
    let of_user = |(user, laptops): (&UserId, &Vec<LaptopSeen>)| -> Vec<LaptopJson> {
        let newest = newest_put(actual, user);
        let laptop = |seen: &LaptopSeen| LaptopJson {
            user: user.clone(),
            laptop: seen.laptop.clone(),
            generation: seen.generation,
            at: seen.at,
            current: newest.is_some_and(|newest| seen.generation >= newest),
        };
        laptops.iter().map(laptop).collect()
    };
    actual.laptops.iter().flat_map(of_user).collect()
}

fn newest_put(actual: &Actual, user: &UserId) -> Option<u64> {
    let homes = actual.installed.get(user)?.values();
    homes.filter(|home| home.confirmed).map(|home| home.generation).max()
}

impl LaptopJson {
    /// For people.
    pub(in crate::cli) fn line(&self) -> String {
        let Self { user, laptop, generation, at, current } = self;
        let newest = if *current { ", the newest" } else { "; a newer one is in the home" };
        format!(
            "laptop {laptop} of {user} holds generation {generation}{newest}; seen {}",
            shown(*at)
        )
    }
}
