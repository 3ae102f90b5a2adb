//! The readers, each of them the real program but for docker.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::generated::PREFIX;
use crate::{Read, docker, node, python, text};

/// Somebody who reads `.service_env`.
pub struct Reader {
    /// With its version, where that differs between machines.
    pub name: fn() -> String,
    /// The variables that it finds in a file, or why it finds none.
    pub read: fn(&Path) -> Result<Read, String>,
}

pub const READERS: &[Reader] = &[
    Reader { name: || "python-dotenv".to_owned(), read: python_dotenv },
    Reader { name: || "bash".to_owned(), read: |file| shell(&["bash", "--norc"], file) },
    Reader { name: || "dash".to_owned(), read: |file| shell(&["dash"], file) },
    Reader { name: || "busybox sh".to_owned(), read: |file| shell(&["busybox", "sh"], file) },
    Reader { name: || "zsh".to_owned(), read: |file| shell(&["zsh", "-f"], file) },
    Reader { name: || format!("node dotenv {}", node::DOTENV), read: node_dotenv },
    Reader { name: || format!("node {} --env-file", node::NODE), read: node_env_file },
    Reader { name: || "ruby dotenv".to_owned(), read: ruby_dotenv },
    Reader { name: || "systemd".to_owned(), read: systemd },
    Reader { name: || "docker's rules".to_owned(), read: docker::read },
];

/// What a program finds in its environment that a shell starts after it has read the file.
fn shell(shell: &[&str], file: &Path) -> Result<Read, String> {
    let mut command = bare(shell[0]);
    command.args(&shell[1..]).args(["-c", "set -a; . \"$0\"; exec /usr/bin/env -0"]).arg(file);
    pairs(&output(command)?, '\0')
}

fn python_dotenv(file: &Path) -> Result<Read, String> {
    let script = "import dotenv, json, sys; print(json.dumps(dotenv.dotenv_values(sys.argv[1])))";
    let mut command = bare(python::python());
    command.args(["-c", script]).arg(file);
    json(&output(command)?)
}

fn node_dotenv(file: &Path) -> Result<Read, String> {
    let script = "const [library, file] = process.argv.slice(1); \
                  const text = require('fs').readFileSync(file); \
                  console.log(JSON.stringify(require(library).parse(text)))";
    let mut command = bare(node::node());
    command.args(["-e", script]).arg(node::dotenv()).arg(file);
    json(&output(command)?)
}

fn node_env_file(file: &Path) -> Result<Read, String> {
    let mut flag = std::ffi::OsString::from("--env-file=");
    flag.push(file);
    let mut command = bare(node::node());
    command.arg(flag).args(["-e", "console.log(JSON.stringify(process.env))"]);
    json(&output(command)?)
}

fn ruby_dotenv(file: &Path) -> Result<Read, String> {
    let script = "puts JSON.generate(Dotenv::Parser.call(File.read(ARGV[0])))";
    let mut command = bare("ruby");
    command.args(["-rdotenv", "-rjson", "-e", script]).arg(file);
    json(&output(command)?)
}

/// systemd's own reader of such files. A unit's `EnvironmentFile=` needs systemd as the first
/// process; this program of the same package reads `environment.d/*.conf` by the same parser
/// (`parse_env_file_internal` of src/basic/env-file.c) and prints what it found. It also expands
/// `$`, which a unit does not: so a `$` that the writer let through would be found here, too.
fn systemd(file: &Path) -> Result<Read, String> {
    let generator =
        "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator";
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("environment.d");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("service_env.conf"), text(file)).unwrap();
    let mut command = bare(generator);
    command.env("XDG_CONFIG_HOME", home.path());
    pairs(&output(command)?, '\n')
}

/// A program without anything of this process's environment.
fn bare(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("LC_ALL", "C.UTF-8");
    command
}

fn output(mut command: Command) -> Result<String, String> {
    let program = PathBuf::from(command.get_program());
    let program = program.display();
    let output = command.output().unwrap_or_else(|error| {
        panic!("{program} cannot be started ({error}): tests/run installs what is needed")
    });
    if !output.status.success() || !output.stderr.is_empty() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let first: String = errors.lines().next().unwrap_or_default().chars().take(200).collect();
        return Err(format!("{program} ends with {}: {first}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{program}: {error}"))
}

fn pairs(text: &str, end: char) -> Result<Read, String> {
    let parts = text.split_terminator(end);
    let pairs = parts.map(|part| part.split_once('=').ok_or_else(|| format!("{part:?} has no =")));
    let pairs: Result<Vec<_>, _> = pairs.collect();
    Ok(ours(pairs?.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))))
}

fn json(text: &str) -> Result<Read, String> {
    let found: Result<Read, _> = serde_json::from_str(text);
    found.map(ours).map_err(|error| error.to_string())
}

fn ours(found: impl IntoIterator<Item = (String, String)>) -> Read {
    found.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect()
}
