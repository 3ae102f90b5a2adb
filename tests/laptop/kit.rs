//! A laptop and a server in scratch directories: `ssh` runs what it is given in the server's home.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use service_connector::model::digest::Digest;
use service_connector::model::env_file::EnvFile;
use service_connector::model::name::EnvValue;
use tempfile::TempDir;

pub const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/laptop/sync_service_env.sh");
pub const START: &str = "# --- SERVICE CONNECTOR START ---\n";
pub const END: &str = "# --- SERVICE CONNECTOR END ---\n";

/// The shells that laptops have, each with the words that start it.
pub const SHELLS: [&[&str]; 4] = [&["dash"], &["bash", "--posix"], &["busybox", "sh"], &["zsh"]];
/// The awks that laptops have: Linux's, macOS's (the original one), busybox's.
pub const AWKS: [&str; 4] = ["gawk", "mawk", "busybox", "original-awk"];

/// One generation of somebody's files.
#[derive(Clone, Default)]
pub struct Files {
    pub generation: u64,
    pub variables: Vec<(String, String)>,
    pub skills: Vec<(String, String)>,
}

impl Files {
    /// Of these variables and skills, with values made up now.
    pub fn new(generation: u64, names: &[&str], skills: &[&str]) -> Self {
        let value = |name: &&str| ((*name).to_owned(), format!("key-{:032x}", fastrand::u128(..)));
        let skill = |name: &&str| {
            let text = format!("# {name} of generation {generation}\n\nactive until 2027-02-18.\n");
            ((*name).to_owned(), text)
        };
        let variables = names.iter().map(value).collect();
        Self { generation, variables, skills: skills.iter().map(skill).collect() }
    }

    /// The text of `.service_env`, by the program's own renderer.
    pub fn env(&self) -> String {
        let skills = self.skills.iter();
        let skills = skills.map(|(name, text)| (name.parse().unwrap(), Digest::of(text)));
        let variables = self.variables.iter();
        let variables =
            variables.map(|(name, value)| (name.parse().unwrap(), EnvValue::parse(value).unwrap()));
        let (skills, variables) = (skills.collect(), variables.collect());
        EnvFile { generation: self.generation, skills, variables }.render().to_string()
    }

    /// What the server's end sends between its first and its last line.
    pub fn document(&self) -> String {
        let env = self.env();
        let mut document = format!("env {}\n", env.len());
        for (name, text) in &self.skills {
            writeln!(document, "skill {name} {}", text.len()).unwrap();
        }
        document += "data\n";
        for part in [&env].into_iter().chain(self.skills.iter().map(|(_, text)| text)) {
            document += part;
            document += "\n";
        }
        document
    }

    /// The block that the script writes for it.
    pub fn block(&self, flags: &str) -> String {
        let names: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(" ");
        format!("{START}# Kept by sync_service_env.sh: {names}\n{flags}{}{END}", self.env())
    }

    /// Puts them into a home, as the helper does.
    pub fn put(&self, home: &Path) {
        let rules = home.join(".claude_rules");
        fs::create_dir_all(&rules).unwrap();
        for entry in fs::read_dir(&rules).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, text) in &self.skills {
            fs::write(rules.join(name), text).unwrap();
        }
        fs::write(home.join(".service_env"), self.env()).unwrap();
    }
}

/// A directory for `PATH` in which `awk` is this one.
pub fn bin_with_awk(dir: &Path, awk: &str) {
    fs::create_dir_all(dir).unwrap();
    let found = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", awk]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(!found.is_empty(), "{awk} is not there (Debian: gawk mawk busybox original-awk)");
    symlink(found.trim_end(), dir.join("awk")).unwrap();
}

/// Puts an executable script there.
pub fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A laptop with a project, and the server's home.
pub struct Laptop {
    dir: TempDir,
    home: PathBuf,
    shell: &'static [&'static str],
}

/// What the script did.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Laptop {
    /// With this shell and this awk.
    pub fn with(shell: &'static [&'static str], awk: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let laptop = Self { home: dir.path().join("home"), dir, shell };
        for part in ["project", "home", "config"] {
            fs::create_dir(laptop.path(part)).unwrap();
        }
        bin_with_awk(&laptop.path("bin"), awk);
        laptop.ssh("cd \"$SERVERS_HOME\" && HOME=$SERVERS_HOME exec sh -c \"$last\"");
        laptop
    }

    pub fn new() -> Self {
        Self::with(SHELLS[0], "mawk")
    }

    /// Whose server's home is this one.
    pub fn of_home(home: PathBuf) -> Self {
        Self { home, ..Self::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn home(&self) -> PathBuf {
        self.home.clone()
    }

    /// What `ssh` does; `$last` is the command for the other side.
    pub fn ssh(&self, does: &str) {
        let counting = "echo \"$*\" >>\"$LAPTOP/calls\"";
        let text = format!("#!/bin/sh\nfor last; do :; done\n{counting}\n{does}\n");
        program(&self.path("bin/ssh"), &text);
    }

    /// How often `ssh` was started since this was asked last.
    pub fn connections(&self) -> usize {
        let calls = self.path("calls");
        let text = fs::read_to_string(&calls).unwrap_or_default();
        fs::write(&calls, "").unwrap();
        // A call is as many lines as its command has: it has one.
        text.lines().count()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.shell[0]);
        let path = std::env::var("PATH").unwrap();
        command
            .args(&self.shell[1..])
            .arg(SCRIPT)
            .args(words)
            .current_dir(self.path("project"))
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.path("config"))
            .env("LAPTOP", self.dir.path())
            .env("SERVERS_HOME", self.home());
        command
    }

    pub fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&self.command(words).output().unwrap())
    }

    /// A sync that must succeed.
    #[track_caller]
    pub fn sync(&self) -> Ran {
        self.run(&[]).expect(0)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path("project").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// A file of the project, if it is there.
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path("project").join(name)).ok()
    }

    pub fn env(&self) -> String {
        self.read(".env").map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
    }

    /// Every file and link of the project but git's, with what is in it.
    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        list(&self.path("project"), &mut found);
        found.sort();
        found
    }

    /// What the laptop said that it holds: the files of `.service_env_seen`.
    pub fn seen(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home().join(".service_env_seen"));
        let entries = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.map(|path| fs::read_to_string(path).unwrap()).collect()
    }
}

fn list(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            if path.file_name().unwrap() != ".git" {
                list(&path, found);
            }
        } else if meta.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            found.push((path, to.into_os_string().into_encoded_bytes()));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    /// Whether all it said has this in it.
    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        let said = format!("{}{}", self.stdout, self.stderr);
        assert!(said.contains(part), "{part:?} is not in {said}");
        self
    }
}
