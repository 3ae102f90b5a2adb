//! What is there: facts, never contents.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Instant;

use jiff::Timestamp;
use rustix::io::Errno;

use super::beneath::{self, Found, Place};
use super::{ENV, Home, MAX_NAMES, RULES, SEEN, Trouble};
use crate::model::digest::Digest;
use crate::model::env_file;
use crate::model::home::{EnvFacts, FileFacts, HomeFacts, LaptopSeen};
use crate::model::name::{LaptopId, SkillFile};
use crate::wire::MAX_FILE;

/// More names than this in `.service_env_seen` are not looked through.
const MAX_SEEN_NAMES: usize = 1_000;
/// The laptops that count: the last ones heard of.
const MAX_LAPTOPS: usize = 32;
/// More than `generation` and any number.
const MAX_SEEN_FILE: usize = 64;

/// Looks at our files. What is not a regular file is not there for this; [`super::put`] then
/// replaces it, or says what stands in the way.
///
/// # Errors
/// What could not be looked at. Then nothing is known, and nothing may be concluded.
pub fn look(home: &Home, deadline: Instant) -> Result<HomeFacts, Trouble> {
    let env = beneath::find(&home.dir, ENV, MAX_FILE, deadline)?;
    let (skills, rules_mode_ok) = skills(home, deadline)?;
    let in_the_way = in_the_way(home)?;
    Ok(HomeFacts {
        uid: home.owner,
        env: env.map(|found| EnvFacts {
            file: facts(&found, home.owner),
            generation: env_file::summarize(&found.bytes).generation,
        }),
        skills,
        rules_mode_ok,
        in_the_way,
        laptops: laptops(home, deadline).or_else(unreadable_says_nothing)?,
    })
}

fn facts(found: &Found, owner: u32) -> FileFacts {
    FileFacts { digest: Digest::of(&found.bytes), mode_ok: found.is_private(owner) }
}

/// The skills, and whether the mode of their directory is right. What is not the owner's
/// directory has none of our files in it, so nothing there is wrong until we need the name.
fn skills(
    home: &Home,
    deadline: Instant,
) -> Result<(BTreeMap<SkillFile, FileFacts>, bool), Trouble> {
    let Some(rules) = directory(home, RULES)? else { return Ok((BTreeMap::new(), true)) };
    let stat = rustix::fs::fstat(&rules).map_err(|errno| Trouble::os("stat", RULES, errno))?;
    if stat.st_uid != home.owner {
        return Ok((BTreeMap::new(), true));
    }
    let names = beneath::names(&rules, RULES, MAX_NAMES, deadline, is_skill)?
        .ok_or(Trouble::TooManyNames(RULES))?;
    let mut skills = BTreeMap::new();
    for file in names.iter().filter_map(|name| name.parse::<SkillFile>().ok()) {
        if let Some(found) = beneath::find(&rules, file.as_str(), MAX_FILE, deadline)? {
            skills.insert(file, facts(&found, home.owner));
        }
    }
    Ok((skills, stat.st_mode & 0o7777 == 0o700))
}

/// What a put would refuse to touch, whatever it is to put.
fn in_the_way(home: &Home) -> Result<Option<String>, Trouble> {
    let env = beneath::place(&home.dir, ENV)?;
    let rules = beneath::place(&home.dir, RULES)?;
    let told = |name: &str, place: &Place| {
        Some(Trouble::InTheWay { name: name.to_owned(), what: place.describe() }.to_string())
    };
    Ok(match (&env, &rules) {
        (Place::Directory | Place::Mount, _) => told(ENV, &env),
        (_, Place::Empty | Place::Directory) => None,
        (_, Place::Regular(_) | Place::Link | Place::Mount | Place::Other) => told(RULES, &rules),
    })
}

pub(super) fn is_skill(name: &str) -> bool {
    name.parse::<SkillFile>().is_ok()
}

/// Opens a directory of the home; `None` if there is none of that name.
fn directory(home: &Home, name: &'static str) -> Result<Option<OwnedFd>, Trouble> {
    let Place::Directory = beneath::place(&home.dir, name)? else { return Ok(None) };
    match beneath::open_dir(&home.dir, name) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Trouble::os("open", name, errno)),
    }
}

/// What is said of laptops may be lost: without it only the grace counts, which is the longer.
fn unreadable_says_nothing(trouble: Trouble) -> Result<Vec<LaptopSeen>, Trouble> {
    if matches!(trouble, Trouble::Deadline) { Err(trouble) } else { Ok(Vec::new()) }
}

/// What the laptops hold. Whatever is not of the agreed form says nothing.
fn laptops(home: &Home, deadline: Instant) -> Result<Vec<LaptopSeen>, Trouble> {
    let Some(dir) = directory(home, SEEN)? else { return Ok(Vec::new()) };
    let is_laptop = |name: &str| name.parse::<LaptopId>().is_ok();
    let names = beneath::names(&dir, SEEN, MAX_SEEN_NAMES, deadline, is_laptop)?;
    let mut laptops = Vec::new();
    for laptop in names.unwrap_or_default().iter().filter_map(|name| name.parse().ok()) {
        laptops.extend(laptop_seen(&dir, laptop, home.owner, deadline)?);
    }
    laptops.sort_by_key(|seen: &LaptopSeen| std::cmp::Reverse(seen.at));
    laptops.truncate(MAX_LAPTOPS);
    laptops.sort_by(|one, other| one.laptop.cmp(&other.laptop));
    Ok(laptops)
}

fn laptop_seen(
    dir: &OwnedFd,
    laptop: LaptopId,
    owner: u32,
    deadline: Instant,
) -> Result<Option<LaptopSeen>, Trouble> {
    let found = beneath::find(dir, laptop.as_str(), MAX_SEEN_FILE, deadline)?;
    let Some(found) = found.filter(|found| found.stat.st_uid == owner) else { return Ok(None) };
    let nanos = i32::try_from(found.stat.st_mtime_nsec).unwrap_or(0);
    let at = Timestamp::new(found.stat.st_mtime, nanos).ok();
    Ok(at.zip(generation(&found.bytes)).map(|(at, generation)| LaptopSeen {
        laptop,
        generation,
        at,
    }))
}

/// `generation N`, one line and nothing else.
fn generation(bytes: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(bytes).ok().filter(|_| bytes.len() <= MAX_SEEN_FILE)?;
    let number = line.strip_suffix('\n').unwrap_or(line).strip_prefix("generation ")?;
    // `parse` alone would take a sign.
    number.bytes().all(|c| c.is_ascii_digit()).then(|| number.parse().ok())?
}
