//! Where everything is that may hold a key or a secret, and the look that is taken at it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};

use rusqlite::types::ValueRef;
use service_connector::example_service::{Contract, Kind};
use service_connector::model::secret::Secret;

use super::marker::Marker;
use super::processes;
use crate::scene::{KINDS, Ran, Scene};

/// The service that keeps the first version of the contract; the others keep the second.
const V1: Kind = Kind::PurchaseOrders;

/// Where a marker was found that does not belong there, and in which form; never the marker.
pub type Leaks = Vec<String>;

/// A scene in which every key and every shared secret carries a marker.
pub struct Canary {
    pub scene: Scene,
    pub keys: Marker,
    pub secrets: Marker,
}

impl Canary {
    pub fn new() -> Self {
        let (keys, secrets) = (Marker::new("a key"), Marker::new("a shared secret"));
        let scene = Scene::with(|config| {
            if config.kind == V1 {
                config.contract = Contract::V1;
            }
            config.key_prefix = keys.text();
            let secret = format!("{}{:08x}", secrets.text(), fastrand::u32(..));
            config.secret = Secret::new(secret);
        });
        for part in ["tmp", "secrets"] {
            fs::create_dir(scene.path(part)).unwrap();
        }
        for kind in KINDS {
            let path = scene.path("secrets").join(kind.secret_variable());
            fs::write(path, &scene.service(kind).secret).unwrap();
        }
        scene.entry(V1, "contract: v2", "contract: v1");
        Self { scene, keys, secrets }
    }

    /// The shared secrets come in files: so no process at all may have one in its environment.
    fn surround(&self, command: &mut Command) {
        for kind in KINDS {
            command.env_remove(kind.secret_variable());
        }
        command.env("SC_SECRETS", self.scene.path("secrets"));
        command.env("TMPDIR", self.scene.path("tmp"));
        command.env("SC_LOG", "trace");
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.scene.start_with(args, |command| self.surround(command))
    }

    /// Runs a command to its end; nothing of what it says may hold a marker.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        let ran = self.scene.run_with(args, |command| self.surround(command));
        let leaks = self.leaks_in_output(args, ran.stdout.as_bytes(), ran.stderr.as_bytes());
        assert!(leaks.is_empty(), "{leaks:#?}");
        ran
    }

    pub fn leaks_in_output(&self, args: &[&str], stdout: &[u8], stderr: &[u8]) -> Leaks {
        let command = args.join(" ");
        let mut leaks = self.leaks_in(&format!("the standard output of {command}"), stdout);
        leaks.extend(self.leaks_in(&format!("the log or errors of {command}"), stderr));
        leaks
    }

    pub fn retry(&self) -> Ran {
        self.run(&["reconcile", "--retry-now"])
    }

    fn leaks_in(&self, place: &str, bytes: &[u8]) -> Leaks {
        let markers = [&self.keys, &self.secrets];
        let found = markers.into_iter().flat_map(|marker| marker.found_in(bytes));
        found.map(|form| format!("{form} is in {place}")).collect()
    }

    /// All that is on disk, and every process of ours.
    pub fn leaks_anywhere(&self) -> Leaks {
        let mut leaks = self.leaks_in_files();
        leaks.extend(self.leaks_in_tables());
        leaks.extend(processes::leaks(&[&self.keys, &self.secrets]));
        leaks
    }

    #[track_caller]
    pub fn assert_nothing_leaked(&self) {
        let leaks = self.leaks_anywhere();
        assert!(leaks.is_empty(), "{leaks:#?}");
    }

    /// Every file of the scene: desired state and history, state directory with the database's own
    /// files, plans, journals and reports, temporary files, homes.
    pub fn leaks_in_files(&self) -> Leaks {
        let mut leaks = Leaks::new();
        let mut directories = vec![self.scene.root().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                if metadata.is_dir() {
                    directories.push(path);
                    continue;
                }
                let inside = path.strip_prefix(self.scene.root()).unwrap();
                let place = inside.display().to_string();
                leaks.extend(self.leaks_in(&format!("the name of {place}"), place.as_bytes()));
                // This is how the secrets are given.
                if inside.starts_with("secrets") {
                    continue;
                }
                let bytes = fs::read(&path).unwrap();
                // A key belongs into the user's file, also while that is being written.
                let of_the_user = inside.starts_with("homes")
                    && path
                        .file_name()
                        .is_some_and(|name| name.to_string_lossy().contains("service_env"))
                    && metadata.permissions().mode() & 0o777 == 0o600;
                let markers =
                    if of_the_user { vec![&self.secrets] } else { vec![&self.keys, &self.secrets] };
                let found = markers.iter().flat_map(|marker| marker.found_in(&bytes));
                leaks.extend(found.map(|form| format!("{form} is in {place}")));
            }
        }
        leaks
    }

    /// Each value on its own: on disk a long one may be cut into pieces.
    pub fn leaks_in_tables(&self) -> Leaks {
        let database = self.scene.database();
        let mut leaks = Leaks::new();
        let mut names =
            database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").unwrap();
        for table in names.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            let table = table.unwrap();
            let mut statement = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                for column in 0..columns {
                    if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) =
                        row.get_ref(column).unwrap()
                    {
                        leaks.extend(self.leaks_in(&format!("the table {table}"), bytes));
                    }
                }
            }
        }
        leaks
    }
}
