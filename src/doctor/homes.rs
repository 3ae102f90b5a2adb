//! The way to people's homes.

use std::path::Path;

use super::owners::quoted;
use super::{Area, Findings};
use crate::installer::{Homes, Installer, Reach};

/// Whether homes can be reached. Whose the places are is held with all others.
pub(super) fn look(findings: &mut Findings, homes: &Homes, installer: &Installer) {
    match homes {
        Homes::Direct { dir, create } => direct(findings, dir, *create),
        Homes::Helper(reach) => helper(findings, reach, installer),
    }
}

fn helper(findings: &mut Findings, reach: &Reach, installer: &Installer) {
    let (way, mend) = match reach {
        Reach::Socket(path) => (
            format!("the helper's socket {}", path.display()),
            "systemctl enable --now service-connector-install.socket, as the user of passes listed \
             under `callers` in helper.conf",
        ),
        Reach::Sudo(program) => (
            format!("`sudo -n {}`", program.display()),
            "put the rule of /etc/sudoers.d/service-connector back, and list the user of passes \
             under `callers` in helper.conf",
        ),
        Reach::Started(program) => {
            (program.display().to_string(), "run as root, or reach the helper by its socket")
        }
    };
    match installer.probe() {
        Ok(()) => findings.ok(Area::Homes, format!("{way} answers")),
        Err(why) => findings.wrong(Area::Homes, why, mend),
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
