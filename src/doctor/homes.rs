//! The way to people's homes.

use std::path::{Path, PathBuf};

use super::owners::quoted;
use super::{Area, Findings};

/// How homes are reached.
pub enum Homes {
    /// As directories of this one, which is our own.
    Direct {
        /// It.
        dir: PathBuf,
        /// Whether a home that is not there is made.
        create: bool,
    },
}

/// Whether homes can be reached. Whose the places are is held with all others.
pub(super) fn look(findings: &mut Findings, homes: &Homes) {
    match homes {
        Homes::Direct { dir, create } => direct(findings, dir, *create),
    }
}

fn direct(findings: &mut Findings, dir: &Path, create: bool) {
    let shown = dir.display();
    match dir.try_exists() {
        Ok(true) => findings.ok(Area::Homes, format!("direct, in {shown}")),
        Ok(false) if create => {
            findings.ok(Area::Homes, format!("direct; the first put makes {shown}"));
        }
        Ok(false) => {
            let what = format!("there is no directory {shown}");
            findings.wrong(Area::Homes, what, format!("mkdir -p {}", quoted(dir)));
        }
        Err(_) => {} // said with its owner and mode
    }
}
