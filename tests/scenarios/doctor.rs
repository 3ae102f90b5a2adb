//! `doctor` on installations that are sound, and on ones where one thing is wrong.

mod around;
mod files;
mod places;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use service_connector::example_service::Kind;

use crate::scene::{Ran, Scene};

const CRM: Kind = Kind::Crm;
const AREAS: [&str; 14] = [
    "configuration",
    "desired",
    "people",
    "registry",
    "skills",
    "state",
    "sealing_key",
    "last_pass",
    "timer",
    "portal",
    "secrets",
    "services",
    "clock",
    "homes",
];

/// An installation with a configuration, a directory of secrets, and one connection.
struct Installation {
    scene: Scene,
}

/// A line that says that something is wrong.
#[derive(Debug)]
struct Wrong {
    area: String,
    what: String,
    mend: String,
}

impl Installation {
    /// All of it as it should be.
    fn sound() -> Self {
        let installation = Self { scene: Scene::new() };
        installation.scene.connect("john", CRM);
        for (name, mode) in [("skills", 0o755), ("secrets", 0o700)] {
            fs::create_dir(installation.path(name)).unwrap();
            set_mode(&installation.path(name), mode);
        }
        let skills = Path::new(env!("CARGO_MANIFEST_DIR")).join("skills");
        for skill in fs::read_dir(skills).unwrap() {
            let skill = skill.unwrap();
            fs::copy(skill.path(), installation.path("skills").join(skill.file_name())).unwrap();
        }
        for kind in crate::scene::KINDS {
            let path = installation.path("secrets").join(kind.secret_variable());
            fs::write(&path, &installation.scene.service(kind).secret).unwrap();
            set_mode(&path, 0o600);
        }
        fs::write(installation.path("config.yaml"), "version: 1\nsecrets: secrets\n").unwrap();
        installation.run(&["reconcile"], |_| {}).expect(0);
        close_to_others(installation.scene.root());
        installation
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scene.path(name)
    }

    fn run(&self, args: &[&str], change: impl FnOnce(&mut Command)) -> Ran {
        self.scene.run_with(args, |command| {
            for kind in crate::scene::KINDS {
                command.env_remove(kind.secret_variable());
            }
            command.env("SC_CONFIG", self.path("config.yaml"));
            command.env("SC_SKILLS", self.path("skills"));
            change(command);
        })
    }

    /// What `doctor --json` finds wrong; the exit code says the same.
    fn wrong_with(&self, change: impl FnOnce(&mut Command)) -> Vec<Wrong> {
        let ran = self.run(&["doctor", "--json"], change);
        let wrong = wrong_in(&ran.json());
        assert_eq!(ran.code, i32::from(!wrong.is_empty()), "{wrong:?}");
        wrong
    }

    fn wrong(&self) -> Vec<Wrong> {
        self.wrong_with(|_| {})
    }

    /// The one thing that is wrong.
    #[track_caller]
    fn one_wrong(&self, area: &str) -> Wrong {
        let mut wrong = self.wrong();
        assert_eq!(wrong.len(), 1, "{wrong:#?}");
        assert_eq!(wrong[0].area, area, "{wrong:#?}");
        wrong.remove(0)
    }

    #[track_caller]
    fn is_sound(&self) {
        let wrong = self.wrong();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// What `doctor --json` says of an area, wrong or not.
    fn said_of(&self, area: &str) -> Vec<(String, String)> {
        let json = self.run(&["doctor", "--json"], |_| {}).json();
        let of_area = json["findings"].as_array().unwrap().iter().filter(|f| f["area"] == area);
        of_area.map(|f| (text(&f["state"]), text(&f["what"]))).collect()
    }
}

fn wrong_in(json: &Value) -> Vec<Wrong> {
    let findings = json["findings"].as_array().unwrap().iter();
    let wrong = findings.filter(|finding| finding["state"] == "wrong");
    let wrong = wrong.map(|finding| Wrong {
        area: text(&finding["area"]),
        what: text(&finding["what"]),
        mend: text(&finding["mend"]),
    });
    wrong.collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Wrong {
    #[track_caller]
    fn names(self, path: &Path) -> Self {
        assert!(self.what.contains(path.to_str().unwrap()), "{} in {self:?}", path.display());
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Self {
        assert!(self.what.contains(words), "{words:?} in {self:?}");
        self
    }

    #[track_caller]
    fn mended_by(self, words: &str) -> Self {
        assert!(self.mend.contains(words), "{words:?} in {self:?}");
        self
    }

    /// Does what the line says.
    #[track_caller]
    fn obey(self) {
        let done = Command::new("sh").args(["-c", &self.mend]).output().unwrap();
        assert!(done.status.success(), "{self:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whatever the umask of who runs the tests.
fn close_to_others(dir: &Path) {
    set_mode(dir, mode(dir) & !0o022);
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            close_to_others(&path);
        } else {
            set_mode(&path, mode(&path) & !0o022);
        }
    }
}

/// Runs the command, or this other copy of the program, by another.
fn wrap(command: &mut Command, by: &str, args: &[&str], program: Option<&Path>) {
    let mut wrapped = Command::new(by);
    wrapped.args(args);
    match program {
        Some(program) => wrapped.arg(program),
        None => wrapped.arg(command.get_program()),
    };
    wrapped.args(command.get_args()).env_clear();
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped.current_dir(command.get_current_dir().unwrap());
    *command = wrapped;
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_sound_installation_is_told_in_one_line_for_each_area() {
    let installation = Installation::sound();
    let ran = installation.run(&["doctor"], |_| {}).expect(0);
    assert_eq!(ran.stdout.lines().count(), AREAS.len(), "{}", ran.stdout);
    ran.says("ok  registry: services: 3").says("ok  desired state: users: 1, connections: 1");
    ran.says("ok  last pass: ").says("ok  services: all 3 are well").does_not_say("!!");
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_json_form_says_the_same_of_each_area() {
    let installation = Installation::sound();
    let json = installation.run(&["doctor", "--json"], |_| {}).expect(0).json();
    assert_eq!((&json["version"], &json["ok"]), (&1.into(), &true.into()));
    let findings = json["findings"].as_array().unwrap();
    let areas: Vec<&str> = findings.iter().map(|f| f["area"].as_str().unwrap()).collect();
    assert_eq!(areas, AREAS);
    let states = findings.iter().map(|f| f["state"].as_str().unwrap());
    assert!(states.clone().all(|state| ["ok", "not_checked"].contains(&state)), "{json}");
    assert!(states.filter(|state| *state == "ok").count() >= AREAS.len() - 1, "{json}");

    set_mode(&installation.path("state/sealing.key"), 0o644);
    let json = installation.run(&["doctor", "--json"], |_| {}).expect(1).json();
    assert_eq!(json["ok"], false);
    assert_eq!(wrong_in(&json).len(), 1);
}

#[test]
fn it_changes_nothing_also_where_things_are_wrong() {
    let installation = Installation::sound();
    edit(&installation.path("registry/crm.yaml"), "contract: v2", "contract: v9");
    set_mode(&installation.path("people.yaml"), 0o666);
    fs::remove_file(installation.path("secrets/SC_SECRET_CRM")).unwrap();
    let before = (installation.scene.files(), installation.scene.dump());
    assert!(installation.wrong().len() >= 3);
    assert_eq!(before, (installation.scene.files(), installation.scene.dump()));
    assert_eq!(installation.scene.calls(Kind::Invoicing), (0, 0), "no secret is sent");
}

#[test]
fn a_path_that_would_steer_the_terminal_or_the_shell_is_told_harmlessly() {
    let installation = Installation::sound();
    let path = installation.path("secrets/it's \u{1b}[31m\nok  people: fine");
    fs::write(&path, "").unwrap();
    set_mode(&path, 0o644);
    let ran = installation.run(&["doctor"], |_| {}).expect(1);
    assert!(!ran.text().contains('\u{1b}'));
    assert_eq!(ran.stdout.lines().count(), AREAS.len(), "{}", ran.stdout);
    ran.says(r"it's \u{1b}[31m\nok");
    let named = installation.path("secrets/it's");
    fs::rename(path, &named).unwrap();
    installation.one_wrong("secrets").names(&named).obey();
    installation.is_sound();
}
