//! Talking to the helper as its callers do.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use service_connector::model::digest::Digest;
use service_connector::model::env_file::EnvFile;
use service_connector::model::home::{Absence, HomeFacts, HomeLook};
use service_connector::model::name::{EnvValue, SkillFile};
use service_connector::wire::{
    Answer, Asked, HomeFiles, PutDone, PutError, Reply, Request, Said, line,
};

use crate::server::{ANALYSTS, RECONCILER, Server, install as install_program};

/// Where a package puts the helper.
pub const HELPER: &str = "/usr/sbin/install-service-env";
pub const CONFIG: &str = "/etc/service-connector/helper.conf";

/// Installs the helper of this build, with a configuration.
pub fn install(server: &Server) {
    install_program(Path::new(env!("CARGO_BIN_EXE_install-service-env")), HELPER);
    server.root_file(CONFIG, &format!("group = {ANALYSTS}\ncallers = {RECONCILER}\n"));
}

/// What the helper said to these lines, called by root.
pub fn say(input: &[u8]) -> Vec<Said> {
    said(&run(Command::new(HELPER), input))
}

/// Runs it with this standard input.
pub fn run(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A helper that refuses its caller does not read what it is told.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

pub fn said(output: &Output) -> Vec<Said> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn look_line(id: u64, account: &str) -> Vec<u8> {
    let what: Asked<&HomeFiles> = Asked::Look;
    line(&Request { id, account: account.parse().unwrap(), what }).unwrap().to_vec()
}

pub fn put_line(id: u64, account: &str, files: &HomeFiles) -> Vec<u8> {
    let what = Asked::Put { uid: None, files };
    line(&Request { id, account: account.parse().unwrap(), what }).unwrap().to_vec()
}

pub fn look(account: &str) -> HomeLook {
    match only(say(&look_line(1, account))) {
        Answer::Look(look) => look,
        Answer::Put(_) => panic!("another kind of answer"),
    }
}

pub fn seen(account: &str) -> HomeFacts {
    match look(account) {
        HomeLook::Seen(facts) => facts,
        other => panic!("{other:?}"),
    }
}

pub fn absence(account: &str) -> Absence {
    match look(account) {
        HomeLook::Absent(absence) => absence,
        other => panic!("{other:?}"),
    }
}

pub fn put(account: &str, files: &HomeFiles) -> Result<PutDone, PutError> {
    match only(say(&put_line(1, account, files))) {
        Answer::Put(done) => done,
        Answer::Look(_) => panic!("another kind of answer"),
    }
}

fn only(mut said: Vec<Said>) -> Answer {
    match (said.pop(), said.pop()) {
        (Some(Said::Reply(Reply { answer, .. })), None) => answer,
        other => panic!("{other:?}"),
    }
}

/// A set of files with made-up contents.
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

/// The files in the home are exactly these, the account's alone.
pub fn holds(home: &Path, uid: u32, files: &HomeFiles) {
    let is_file = |path: &Path, text: &str| {
        let meta = std::fs::symlink_metadata(path).unwrap();
        assert_eq!(
            (meta.mode(), meta.uid(), meta.nlink()),
            (0o100_600, uid, 1),
            "{}",
            path.display()
        );
        assert!(std::fs::read_to_string(path).unwrap() == text, "{}", path.display());
    };
    is_file(&home.join(".service_env"), &files.env);
    let rules = home.join(".claude_rules");
    if let Ok(meta) = std::fs::symlink_metadata(&rules) {
        assert_eq!((meta.mode(), meta.uid()), (0o40_700, uid));
    }
    for (file, text) in &files.skills {
        is_file(&rules.join(file.as_str()), text);
    }
}
