//! Owners and modes: one table of places, and one check of a place.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::process::{getegid, geteuid, getgroups};

use super::owners::{our_name, quoted, user_name};
use super::{Area, Findings, Setup};
use crate::installer::{Homes, Reach};
use crate::model::registry::Registry;
use crate::store::DATABASE;

/// A place, and what is expected of it.
pub(super) type Place = (Area, PathBuf, Rule);

/// What is expected of a place. One that is not there is no matter of owners and modes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    is: Kind,
    owner: Owner,
    /// Bits of the mode that must not be set.
    never: u32,
    /// Bits that must be.
    always: u32,
    /// What we must be able to do with it.
    need: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// We, or root.
    Ours,
    /// Or anybody, when its group is one of ours: the portal and the passes share it.
    Shared,
}

const READ: Access = Access::READ_OK;
const WRITE: Access = Access::READ_OK.union(Access::WRITE_OK);
const LIST: Access = Access::READ_OK.union(Access::EXEC_OK);
const CHANGE: Access = WRITE.union(Access::EXEC_OK);

const fn rule(is: Kind, never: u32, need: Access) -> Rule {
    Rule { is, owner: Owner::Ours, never, always: 0, need }
}

/// Whoever writes these decides where keys go.
const TRUSTED: Rule = rule(Kind::File, 0o022, READ);
const TRUSTED_DIR: Rule = rule(Kind::Directory, 0o022, LIST);
/// Members of the group may read who is connected to what; keys are sealed.
const STATE: Rule = rule(Kind::File, 0o027, WRITE);
const STATE_DIR: Rule = rule(Kind::Directory, 0o022, CHANGE);
const SECRET: Rule = rule(Kind::File, 0o077, READ);
const SECRET_DIR: Rule = rule(Kind::Directory, 0o077, LIST);
const HOMES_DIR: Rule = rule(Kind::Directory, 0o022, CHANGE);
/// Only the group's members ask for keys.
const DESIRED: Rule = Rule { owner: Owner::Shared, ..rule(Kind::File, 0o002, READ) };
const DESIRED_AIDE: Rule = Rule { need: WRITE, ..DESIRED };
const DESIRED_DIR: Rule = Rule { is: Kind::Directory, need: CHANGE, ..DESIRED };

/// Every place that the settings name.
pub(super) fn table(setup: &Setup<'_>, registry: Option<&Registry>) -> Vec<Place> {
    let places = &setup.pass.places;
    let mut table = setup.config.as_deref().map(of_configuration).unwrap_or_default();
    table.extend(of_desired(&places.desired));
    table.extend([
        (Area::People, above(&places.people), TRUSTED_DIR),
        (Area::People, places.people.clone(), TRUSTED),
        (Area::Registry, places.registry.clone(), TRUSTED_DIR),
        (Area::Skills, places.skills.clone(), TRUSTED_DIR),
        (Area::State, places.state.clone(), STATE_DIR),
        (Area::SealingKey, above(&places.sealing_key), TRUSTED_DIR),
        (Area::SealingKey, places.sealing_key.clone(), SECRET),
    ]);
    for name in ["", "-wal", "-shm"] {
        table.push((Area::State, places.state.join(format!("{DATABASE}{name}")), STATE));
    }
    table.push((Area::State, places.state.join(".pass.lock"), STATE));
    table.extend(files_in(&places.registry).map(|path| (Area::Registry, path, TRUSTED)));
    table.extend(files_in(&places.skills).map(|path| (Area::Skills, path, TRUSTED)));
    let services = registry.into_iter().flat_map(Registry::services);
    let authorities = services.filter_map(|service| service.endpoint.ca_file.as_ref());
    table.extend(authorities.map(|path| (Area::Registry, path.into(), TRUSTED)));
    if let Some(dir) = &setup.pass.secrets_dir {
        table.push((Area::Secrets, dir.clone(), SECRET_DIR));
        table.extend(files_in(dir).map(|path| (Area::Secrets, path, SECRET)));
    }
    match setup.homes {
        Homes::Direct { dir, .. } => table.push((Area::Homes, dir.clone(), HOMES_DIR)),
        Homes::Helper(Reach::Socket(path)) => {
            table.push((Area::Homes, above(path), TRUSTED_DIR));
        }
        Homes::Helper(Reach::Sudo(program) | Reach::Started(program)) => {
            table.push((Area::Homes, program.clone(), TRUSTED));
        }
    }
    table
}

pub(super) fn of_configuration(path: &Path) -> Vec<Place> {
    vec![
        (Area::Configuration, above(path), TRUSTED_DIR),
        (Area::Configuration, path.to_owned(), TRUSTED),
    ]
}

/// Where the group writes too, what one of its members makes must be the group's.
fn of_desired(path: &Path) -> Vec<Place> {
    let dir = above(path);
    let is_groups = fs::metadata(&dir).is_ok_and(|meta| meta.mode() & 0o020 != 0);
    let (for_files, for_dirs) = if is_groups { (0o060, 0o2070) } else { (0, 0) };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dir_rule = Rule { always: for_dirs, ..DESIRED_DIR };
    let aide = Rule { always: for_files, ..DESIRED_AIDE };
    let history = dir.join("history");
    vec![
        (Area::Desired, path.to_owned(), Rule { always: for_files, ..DESIRED }),
        (Area::Desired, dir.join(format!(".{name}.lock")), aide),
        (Area::Desired, history.join("log.jsonl"), aide),
        (Area::Desired, history, dir_rule),
        (Area::Desired, dir.join("approvals"), dir_rule),
        (Area::Desired, dir, dir_rule),
    ]
}

fn above(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What lies in a directory under a name that is not hidden. A directory that cannot be read is
/// said to be so by its own row.
fn files_in(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<PathBuf> = shown.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter()
}

/// Holds each place that is there against its rule.
pub(super) fn look(findings: &mut Findings, table: &[Place]) {
    for (area, path, rule) in table {
        match fs::metadata(path) {
            Ok(meta) => hold(findings, *area, path, *rule, &meta),
            Err(error) if is_absence(&error) => {}
            Err(error) => {
                let what = format!("{} cannot be looked at: {error}", path.display());
                findings.wrong(*area, what, format!("namei -l {}", quoted(path)));
            }
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn hold(findings: &mut Findings, area: Area, path: &Path, rule: Rule, meta: &Metadata) {
    let shown = path.display();
    let is_kind = match rule.is {
        Kind::File => meta.is_file(),
        Kind::Directory => meta.is_dir(),
    };
    if !is_kind {
        let kind = if rule.is == Kind::File { "regular file" } else { "directory" };
        let mend = format!("mv {0} {0}.away", quoted(path));
        return findings.wrong(area, format!("{shown} is not a {kind}"), mend);
    }
    if !may_own(rule.owner, meta) {
        let (owner, us) = (user_name(meta.uid()), our_name());
        let what = format!("{shown} is {owner}'s, and should be {us}'s");
        findings.wrong(area, what, format!("chown {us} {}", quoted(path)));
    }
    let mode = meta.mode() & 0o7777;
    let right = (mode & !rule.never) | rule.always;
    if right != mode {
        let what = format!("{shown} {}", mode_trouble(mode, rule));
        findings.wrong(area, what, format!("chmod {right:o} {}", quoted(path)));
    }
    if let Err(errno) = rustix::fs::accessat(CWD, path, rule.need, AtFlags::EACCESS) {
        let (us, need) = (our_name(), need_words(rule));
        let error = io::Error::from(errno);
        let what = format!("{shown} cannot be {need} by {us}: {error}");
        findings.wrong(area, what, way_in(path, rule, meta, &error));
    }
}

fn is_our_group(gid: u32) -> bool {
    let groups = getgroups().unwrap_or_default();
    getegid().as_raw() == gid || groups.iter().any(|group| group.as_raw() == gid)
}

fn may_own(owner: Owner, meta: &Metadata) -> bool {
    let is_ours = meta.uid() == geteuid().as_raw() || meta.uid() == 0;
    is_ours || (owner == Owner::Shared && is_our_group(meta.gid()))
}

fn mode_trouble(mode: u32, rule: Rule) -> String {
    let bad = mode & rule.never;
    if bad == 0 {
        let what =
            if rule.is == Kind::File { "may not be written" } else { "does not hand itself on" };
        return format!("{what} to its group, which shares its directory (mode {mode:04o})");
    }
    let done = match (bad & 0o022, bad & 0o044) {
        (1.., _) => "written",
        (_, 1..) => "read",
        _ => "entered",
    };
    let who = match (bad & 0o070 != 0, bad & 0o007 != 0) {
        (true, true) => "its group and others",
        (true, false) => "its group",
        _ => "others",
    };
    format!("may be {done} by {who} (mode {mode:04o})")
}

fn need_words(rule: Rule) -> &'static str {
    match (rule.need.contains(Access::WRITE_OK), rule.is) {
        (true, _) => "read and written",
        (false, Kind::File) => "read",
        (false, Kind::Directory) => "listed",
    }
}

/// How what we need becomes possible.
fn way_in(path: &Path, rule: Rule, meta: &Metadata, error: &io::Error) -> String {
    let path_text = quoted(path);
    if error.kind() != io::ErrorKind::PermissionDenied {
        return format!("findmnt --target {path_text}");
    }
    let mut bits = String::from("r");
    if rule.need.contains(Access::WRITE_OK) {
        bits.push('w');
    }
    if rule.need.contains(Access::EXEC_OK) {
        bits.push('x');
    }
    if meta.uid() == geteuid().as_raw() {
        format!("chmod u+{bits} {path_text}")
    } else if is_our_group(meta.gid()) && rule.owner == Owner::Shared {
        format!("chmod g+{bits} {path_text}")
    } else {
        format!("chown {} {path_text}", our_name())
    }
}
