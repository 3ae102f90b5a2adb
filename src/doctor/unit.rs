//! A unit of systemd's, as systemctl tells of it.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// It is there while systemd runs (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether systemd runs here.
pub(super) fn systemd_runs() -> bool {
    Path::new(BOOTED).is_dir()
}

/// A unit, in the words of `systemctl is-enabled` and `is-active`.
pub(super) struct Unit {
    name: &'static str,
    enabled: String,
    active: String,
}

impl Unit {
    pub(super) fn ask(name: &'static str) -> io::Result<Self> {
        let (enabled, active) = (systemctl("is-enabled", name)?, systemctl("is-active", name)?);
        Ok(Self { name, enabled, active })
    }

    pub(super) fn is_there(&self) -> bool {
        !matches!(&*self.enabled, "not-found" | "")
    }

    pub(super) fn is_enabled(&self) -> bool {
        matches!(&*self.enabled, "enabled" | "enabled-runtime")
    }

    /// It runs, now and after the next boot.
    pub(super) fn is_on(&self) -> bool {
        self.is_enabled() && matches!(&*self.active, "active" | "reloading")
    }

    pub(super) fn how_it_is(&self) -> String {
        let Self { name, enabled, active } = self;
        let active = if active.is_empty() { "unknown" } else { active };
        format!("{name} is {enabled} and {active}")
    }

    /// How one that is to run, and does not, is mended.
    pub(super) fn restart(&self) -> String {
        let name = self.name;
        format!("journalctl -u {name} says why; then systemctl restart {name}")
    }

    /// The command that turns it on.
    pub(super) fn mend(&self) -> String {
        let name = self.name;
        match &*self.enabled {
            "masked" | "masked-runtime" => {
                format!("systemctl unmask {name} && systemctl enable --now {name}")
            }
            _ => format!("systemctl enable --now {name}"),
        }
    }
}

/// The one word that it says.
fn systemctl(question: &str, unit: &str) -> io::Result<String> {
    let mut asked = Command::new("systemctl");
    // Our own environment may hold shared secrets.
    asked.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    asked.args([question, unit]);
    asked.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = asked.spawn()?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other("no answer within 10 s"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}
