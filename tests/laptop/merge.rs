//! The merge as a property: whatever stood in `.env`, every byte that is not ours stays, a second
//! sync changes nothing, and after a disconnect the file is as it was.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use fastrand::Rng;

use crate::case::Case;
use crate::kit::{AWKS, Files, SCRIPT, SHELLS, bin_with_awk, program};

/// Files in all, over every shell with every awk: a quarter of them but with `tests/run --full`.
const CASES: usize = 10_000;

/// Of so many one is synced once more before the disconnect.
const AGAIN: usize = 3;

/// Runs the script on the project of each case, without a process for each: connected, the same once
/// more, disconnected. What it leaves is kept beside it.
const DRIVER: &str = r#"
SC_SYNC_FUNCTIONS_ONLY=1
. "$SCRIPT"
ssh() {
  for last; do :; done
  case $last in *N=*) ;; *) return 0 ;; esac
  last=${last#*N=}
  printf 'Welcome\nservice-connector %s begin\n' "${last%%;*}"
  cat "$serves"
  printf 'service-connector %s end\n' "${last%%;*}"
}
sync() { ( main --quiet ) >>../said 2>&1 || echo failed >../failed; }
for project in "$CASES"/*/project; do
  cd "$project" || exit 9
  serves=../connected
  sync
  ln .env ../first
  if [ -e ../again ]; then
    sync
    ln .env ../second
  fi
  serves=../../disconnected
  sync
done
"#;

#[test]
fn a_sync_keeps_every_foreign_byte_and_a_disconnect_leaves_the_file_as_it_was() {
    let seed = fastrand::u64(..);
    let combinations = SHELLS.iter().flat_map(|shell| AWKS.map(|awk| (*shell, awk)));
    let jobs: Vec<_> = combinations.enumerate().collect();
    let is_full = std::env::var_os("SC_TESTS_FULL").is_some();
    let share = if is_full { CASES } else { CASES / 4 } / jobs.len();
    let (jobs, wrong) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let work = || {
        while let Some((number, (shell, awk))) = { jobs.lock().unwrap().pop() } {
            let rng = Rng::with_seed(seed.wrapping_add(number as u64));
            let found = Batch::new(rng, share).run(shell, awk);
            wrong.lock().unwrap().extend(found);
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let few: String = wrong.iter().take(3).map(String::as_str).collect();
    assert!(wrong.is_empty(), "seed {seed}: {} are wrong, the first of them:\n{few}", wrong.len());
}

/// The cases of one shell with one awk.
struct Batch {
    dir: tempfile::TempDir,
    cases: Vec<(Case, Files)>,
}

impl Batch {
    fn new(mut rng: Rng, count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cases = dir.path().join("cases");
        fs::create_dir(&cases).unwrap();
        let batch = Self { cases: (0..count).map(|_| generate(&mut rng)).collect(), dir };
        let nobodys = Files { generation: 9, ..Files::default() };
        fs::write(cases.join("disconnected"), nobodys.document()).unwrap();
        for (number, (case, files)) in batch.cases.iter().enumerate() {
            let project = batch.case(number).join("project");
            fs::create_dir_all(&project).unwrap();
            fs::write(batch.case(number).join("connected"), files.document()).unwrap();
            if number % AGAIN == 0 {
                fs::write(batch.case(number).join("again"), "").unwrap();
            }
            if let Some(bytes) = case.bytes() {
                fs::write(project.join(".env"), bytes).unwrap();
            }
        }
        batch
    }

    fn case(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("cases/{number:05}"))
    }

    /// What went wrong, for people.
    fn run(&self, shell: &[&str], awk: &str) -> Vec<String> {
        let bin = self.dir.path().join("bin");
        bin_with_awk(&bin, awk);
        let driver = self.dir.path().join("driver");
        program(&driver, DRIVER);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let ran = Command::new(shell[0])
            .args(&shell[1..])
            .arg(&driver)
            .env_clear()
            .env("PATH", path)
            .env("SCRIPT", SCRIPT)
            .env("CASES", self.dir.path().join("cases"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && errors.is_empty(), "{shell:?}: {errors}");
        let wrong = self.cases.iter().enumerate().filter_map(|(number, (case, files))| {
            let why = differs(&self.case(number), case, files)?;
            let said = fs::read_to_string(self.case(number).join("said")).unwrap_or_default();
            let before = case.bytes().map(|bytes| bytes.escape_ascii().to_string());
            let form = case.form;
            Some(format!("{shell:?} with {awk}, {form}: {why}\n{said}\nbefore: {before:?}\n"))
        });
        wrong.collect()
    }
}

fn generate(rng: &mut Rng) -> (Case, Files) {
    let names = ["PO_API_KEY", "PO_BASE_URL", "CRM_API_KEY", "INV_API_KEY", "INV_REGION"];
    let some = |rng: &mut Rng| -> Vec<&str> {
        let mut some: Vec<&str> = names.iter().copied().filter(|_| rng.bool()).collect();
        if some.is_empty() {
            some.push(names[0]);
        }
        some
    };
    let skills: &[&str] = if rng.u8(..4) == 0 { &["sc_crm.md", "sc_po.md"] } else { &[] };
    let (old, new) = (some(rng), some(rng));
    let case = Case::generate(rng, &Files::new(2, &old, skills));
    (case, Files::new(3, &new, skills))
}

fn differs(dir: &Path, case: &Case, files: &Files) -> Option<String> {
    let read = |name: &str| fs::read(dir.join(name)).ok();
    let shown = |bytes: Option<Vec<u8>>| bytes.map(|bytes| bytes.escape_ascii().to_string());
    if dir.join("failed").exists() {
        return Some("it failed".to_owned());
    }
    let (first, with_us) = (read("first"), case.with_us(files));
    if first.as_ref() != Some(&with_us) {
        let with_us = shown(Some(with_us));
        return Some(format!("connected: {:?}\nand not {with_us:?}", shown(first)));
    }
    let meta = fs::metadata(dir.join("first")).unwrap();
    if meta.permissions().mode() & 0o7777 != 0o600 {
        return Some("its mode is not 600".to_owned());
    }
    let second = dir.join("again").exists().then(|| fs::metadata(dir.join("second")).unwrap());
    if second.is_some_and(|second| second.ino() != meta.ino()) {
        return Some("the same once more changed it".to_owned());
    }
    let (last, without_us) = (read("project/.env"), case.without_us(files));
    if last != without_us {
        return Some(format!("disconnected: {:?}, not {:?}", shown(last), shown(without_us)));
    }
    let names = fs::read_dir(dir.join("project")).unwrap();
    let left = names.map(|entry| entry.unwrap().file_name()).filter(|name| name != ".env");
    let left: Vec<_> = left.filter(|name| name != ".claude").collect();
    (!left.is_empty()).then(|| format!("left over: {left:?}"))
}
