//! `install.sh` on a root of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The kit in this checkout.
pub fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/server")
}

/// A system to set up, with nothing in it.
pub struct Root {
    dir: TempDir,
    /// Stands in for programs: what they do is not asked here.
    programs: TempDir,
    /// The kit that is used.
    pub kit: PathBuf,
}

/// What is at a path: owner, group, mode, and what is in it.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Found {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub text: String,
}

impl Root {
    pub fn new() -> Self {
        let (dir, programs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for made in [&dir, &programs] {
            fs::set_permissions(made.path(), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["service-connector", "install-service-env"] {
            let path = programs.path().join(name);
            fs::write(&path, format!("#!/bin/sh\necho {name}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir, programs, kit: kit() }
    }

    /// A path of the system.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok()
    }

    /// `install.sh` with these options, to be run.
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(self.kit.join("install.sh"));
        command.args(options).arg("--root").arg(self.dir.path());
        if !options.contains(&"--uninstall") {
            command.arg("--binaries").arg(self.programs.path());
        }
        command
    }

    /// Runs it; what it says.
    pub fn install(&self, options: &[&str]) -> String {
        success(&mut self.command(options))
    }

    /// Everything below the root.
    pub fn tree(&self) -> BTreeMap<String, Found> {
        let mut tree = BTreeMap::new();
        walk(self.dir.path(), self.dir.path(), &mut tree);
        tree
    }

    /// The uid of a user of the system.
    pub fn uid(&self, name: &str) -> u32 {
        self.id("etc/passwd", name)
    }

    /// The gid of a group of the system.
    pub fn gid(&self, name: &str) -> u32 {
        self.id("etc/group", name)
    }

    fn id(&self, file: &str, name: &str) -> u32 {
        if name == "root" {
            return 0;
        }
        let text = self.read(file);
        let line = text.lines().find(|line| line.starts_with(&format!("{name}:")));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .split(':')
            .nth(2)
            .unwrap()
            .parse()
            .unwrap()
    }
}

/// Runs a program that must succeed; what it says.
pub fn success(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, errors) = both(&output);
    assert!(output.status.success(), "{command:?}: {out}{errors}");
    out
}

/// Runs a program that must fail; what it complains of.
pub fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, errors) = both(&output);
    assert!(!output.status.success(), "{command:?}: {out}{errors}");
    errors
}

fn both(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn walk(root: &Path, dir: &Path, tree: &mut BTreeMap<String, Found>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let text = if meta.is_dir() {
            walk(root, &path, tree);
            String::from("directory")
        } else {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        };
        let found = Found { uid: meta.uid(), gid: meta.gid(), mode: meta.mode() & 0o7777, text };
        tree.insert(format!("/{}", path.strip_prefix(root).unwrap().display()), found);
    }
}
