//! A directory of homes, one home in it, and a tree outside that nothing may touch.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use service_connector::installer::Installer;
use service_connector::model::digest::Digest;
use service_connector::model::env_file::EnvFile;
use service_connector::model::home::{HomeFacts, HomeLook};
use service_connector::model::name::{AccountName, EnvValue, SkillFile};
use service_connector::wire::{HomeFiles, PutError};
use tempfile::TempDir;

pub struct Scene {
    dir: TempDir,
    before: Vec<String>,
}

impl Scene {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("homes/john")).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("rules")).unwrap();
        for (name, mode) in
            [("secret", 0o640), ("rules/sc_other.md", 0o644), ("rules/km_a.md", 0o600)]
        {
            fs::write(outside.join(name), random_text()).unwrap();
            chmod(&outside.join(name), mode);
        }
        let before = snapshot(&outside);
        Self { dir, before }
    }

    pub fn homes(&self) -> PathBuf {
        self.dir.path().join("homes")
    }

    pub fn home(&self) -> PathBuf {
        self.homes().join("john")
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    pub fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join("outside").join(name)
    }

    pub fn put(&self, files: &HomeFiles) -> Result<HomeFacts, PutError> {
        Installer::direct(self.homes(), false).put(&john(), None, files).map(|done| done.facts)
    }

    pub fn look(&self) -> HomeLook {
        Installer::direct(self.homes(), false).look(&[&john()]).remove(&john()).unwrap()
    }

    pub fn seen(&self) -> HomeFacts {
        match self.look() {
            HomeLook::Seen(facts) => facts,
            other => panic!("{other:?}"),
        }
    }

    /// The put is refused or fails, and says both of these.
    pub fn refuses(&self, files: &HomeFiles, name: &str, why: &str) {
        let text = self.put(files).unwrap_err().to_string();
        assert!(text.contains(name) && text.contains(why), "{text}");
        assert!(text.contains(self.home().to_str().unwrap()), "{text}");
    }

    /// The files in the home are exactly these.
    pub fn holds(&self, files: &HomeFiles) {
        assert!(fs::read_to_string(self.at(".service_env")).unwrap() == *files.env);
        assert_eq!(mode(&self.at(".service_env")), 0o100_600);
        let facts = self.seen();
        matches_put(&facts, files);
        for (file, text) in &files.skills {
            let path = self.at(".claude_rules").join(file.as_str());
            assert_eq!(fs::read_to_string(&path).unwrap(), *text);
            assert_eq!(mode(&path), 0o100_600);
        }
    }

    pub fn names(&self, name: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.at(name))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(
                self.before,
                snapshot(&self.dir.path().join("outside")),
                "the tree outside has changed"
            );
        }
    }
}

pub fn john() -> AccountName {
    "john".parse().unwrap()
}

/// What a look after this put must say.
pub fn matches_put(facts: &HomeFacts, files: &HomeFiles) {
    let env = facts.env.unwrap();
    assert!(env.file.digest == Digest::of(files.env.as_bytes()) && env.file.mode_ok);
    let digests: BTreeMap<_, _> =
        facts.skills.iter().map(|(file, facts)| (file.clone(), facts.digest)).collect();
    let wanted: BTreeMap<_, _> =
        files.skills.iter().map(|(file, text)| (file.clone(), Digest::of(text))).collect();
    assert_eq!(digests, wanted);
    assert!(facts.rules_mode_ok && facts.skills.values().all(|facts| facts.mode_ok));
}

/// A set of files with made-up contents, marked with a generation.
pub fn files(generation: u64, skills: &[&str]) -> HomeFiles {
    let text = |file: &&str| (skill(file), format!("# {generation} {file}\n{}\n", random_text()));
    let skills: BTreeMap<_, _> = skills.iter().map(text).collect();
    let key = EnvValue::parse(&random_text()).unwrap();
    let env = EnvFile {
        generation,
        skills: skills.iter().map(|(file, text)| (file.clone(), Digest::of(text))).collect(),
        variables: vec![("PO_API_KEY".parse().unwrap(), key)],
    };
    HomeFiles { env: env.render(), skills }
}

pub fn skill(file: &str) -> SkillFile {
    file.parse().unwrap()
}

pub fn random_text() -> String {
    format!("{:032x}", fastrand::u128(..))
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode()
}

pub fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a test that needs root can run; says so loudly if not, and fails where it must run.
pub fn root_or_say_so(test: &str) -> bool {
    if !is_root() {
        assert!(std::env::var("CI").is_err(), "{test} needs root, and CI must run it");
        eprintln!("!!!! NOT TESTED: {test} needs root");
    }
    is_root()
}

/// Every entry of a tree: name, owner, mode, times, contents.
fn snapshot(path: &Path) -> Vec<String> {
    let meta = fs::symlink_metadata(path).unwrap();
    let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    let (owner, mode) = ((meta.uid(), meta.gid()), meta.mode());
    let contents = fs::read_to_string(path).ok();
    let mut entries = vec![format!("{path:?} {owner:?} {mode:o} {times:?} {contents:?}")];
    if meta.is_dir() {
        let mut children: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        children.sort();
        entries.extend(children.iter().flat_map(|child| snapshot(child)));
    }
    entries
}

/// What an ignored test of this binary is told about the scene it runs in.
pub const PLACE: &str = "HOMES_TEST_PLACE";

/// An ignored test of this binary, to be run through a program that sets the stage for it.
pub fn child(through: &[&str], test: &str, place: &Path) -> Command {
    child_of(&std::env::current_exe().unwrap(), through, test, place)
}

/// The same of a copy of this binary.
pub fn child_of(exe: &Path, through: &[&str], test: &str, place: &Path) -> Command {
    let mut words = through.iter().map(std::ffi::OsStr::new).chain([exe.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", "--ignored", "--nocapture", test]).env(PLACE, place);
    command
}

pub fn passes(mut child: Command) {
    let Output { status, stdout, stderr } = child.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
}

pub fn place() -> PathBuf {
    std::env::var_os(PLACE).expect("it runs only as the child of another test").into()
}
