//! One start of the helper: requests go out as they come, answers come back in any order.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::model::name::AccountName;
use crate::wire::{self, Answer, Asked, HomeFiles, Reply, Request, Said};

use super::Reach;

/// No home takes the helper longer than this to say something about, however many wait.
const SILENCE: Duration = Duration::from_mins(1);
/// No line of the helper's is longer, in bytes.
const LONGEST_LINE: u64 = 8 << 20;
/// So much of what sudo has to say is kept, in bytes.
const LONGEST_COMPLAINT: u64 = 2 << 10;

/// The helper, started.
pub(super) struct Session {
    to: Mutex<UnixStream>,
    heard: Arc<Heard>,
}

/// What the helper has said.
#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: u64,
    answered: u64,
    answers: HashMap<u64, Answer>,
    /// Why nothing more comes.
    ended: Option<Result<(), String>>,
}

impl Session {
    pub(super) fn start(reach: &Reach) -> Result<Self, String> {
        let (stream, child) = match reach {
            Reach::Socket(path) => (connect(path)?, None),
            Reach::Sudo(program) => {
                let mut sudo = Command::new("/usr/bin/sudo");
                sudo.args(["-n", "--"]).arg(program);
                started(sudo)?
            }
            Reach::Started(program) => started(Command::new(program))?,
        };
        let listen = || -> io::Result<Self> {
            stream.set_write_timeout(Some(SILENCE))?;
            let from = stream.try_clone()?;
            let heard = Arc::new(Heard::default());
            let listener = Arc::clone(&heard);
            thread::Builder::new().spawn(move || {
                let mut why = listener.listen(from);
                if let Some(child) = child
                    && let Err(complaint) = complaint_of(child)
                {
                    // What the helper said is the better word.
                    why = why.and(Err(complaint));
                }
                listener.end(why);
            })?;
            Ok(Self { to: Mutex::new(stream), heard })
        };
        listen().map_err(|error| format!("cannot talk to the helper: {error}"))
    }

    /// Asks for all of these at once, and waits for the answers, in the order of the questions.
    pub(super) fn ask<'a>(
        &self,
        questions: impl IntoIterator<Item = (&'a AccountName, Asked<&'a HomeFiles>)>,
    ) -> Vec<Result<Answer, String>> {
        let sent = questions.into_iter().map(|(account, what)| self.send(account, what));
        let sent: Vec<_> = sent.collect();
        sent.into_iter().map(|sent| self.heard.answer(sent?)).collect()
    }

    fn send(&self, account: &AccountName, what: Asked<&HomeFiles>) -> Result<u64, String> {
        let id = {
            let mut state = self.heard.state();
            if let Some(ended) = &state.ended {
                return Err(why_ended(ended));
            }
            state.asked += 1;
            state.asked
        };
        let request = Request { id, account: account.clone(), what };
        let line = wire::line(&request).map_err(|error| error.to_string())?;
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        // Should the helper be gone, it has said why, or will not answer.
        drop(to.write_all(&line));
        Ok(id)
    }

    /// Ends the helper, and says whether it served us.
    pub(super) fn end(self) -> Result<(), String> {
        self.hang_up();
        let mut state = self.heard.state();
        loop {
            if let Some(ended) = &state.ended {
                return ended.clone();
            }
            let (next, time) = self.heard.wait(state);
            state = next;
            if time {
                return Err(silent());
            }
        }
    }

    fn hang_up(&self) {
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails only when the helper has hung up before.
        to.shutdown(Shutdown::Write).ok();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl Heard {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change; says whether there was none for too long.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        let before = state.answered;
        let waited = self.changed.wait_timeout(state, SILENCE);
        let (state, time) = waited.unwrap_or_else(PoisonError::into_inner);
        let silent = time.timed_out() && state.answered == before && state.ended.is_none();
        (state, silent)
    }

    fn answer(&self, id: u64) -> Result<Answer, String> {
        let mut state = self.state();
        loop {
            if let Some(answer) = state.answers.remove(&id) {
                return Ok(answer);
            }
            if let Some(ended) = &state.ended {
                return Err(why_ended(ended));
            }
            let (next, silent) = self.wait(state);
            state = next;
            if silent {
                return Err(self::silent());
            }
        }
    }

    fn end(&self, why: Result<(), String>) {
        self.state().ended = Some(why);
        self.changed.notify_all();
    }

    /// Listens until the helper has no more to say.
    fn listen(&self, from: UnixStream) -> Result<(), String> {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            let read = from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // It ended without reading all that we had said.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(format!("cannot hear the helper: {error}")),
            }
            match serde_json::from_slice(&line) {
                Ok(Said::Reply(Reply { id, answer })) => {
                    let mut state = self.state();
                    state.answered += 1;
                    state.answers.insert(id, answer);
                    self.changed.notify_all();
                }
                Ok(Said::Stopped(why)) => return Err(format!("the helper refuses: {why}")),
                Err(_) => return Err("the helper said something that is no answer".to_owned()),
            }
        }
    }
}

fn why_ended(ended: &Result<(), String>) -> String {
    let early = || "the helper ended before it had answered; its log says why".to_owned();
    ended.as_ref().err().cloned().unwrap_or_else(early)
}

fn silent() -> String {
    format!("the helper said nothing for {} seconds", SILENCE.as_secs())
}

/// Connects to the helper's socket. Whoever is there gets keys, so it must be root.
fn connect(path: &Path) -> Result<UnixStream, String> {
    let at = |why: &dyn std::fmt::Display| {
        format!(
            "the helper's socket {} does not answer: {why}; is service-connector-install.socket \
             started?",
            path.display()
        )
    };
    let stream = UnixStream::connect(path).map_err(|error| at(&error))?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(|errno| at(&errno))?;
    if peer.uid.as_raw() != 0 {
        return Err(format!("{} is not root's: nothing is sent there", path.display()));
    }
    Ok(stream)
}

/// Starts the helper. It gets nothing of our environment, which may hold secrets.
fn started(mut command: Command) -> Result<(UnixStream, Option<Child>), String> {
    let program = command.get_program().to_owned();
    let mut start = || -> io::Result<_> {
        let (ours, theirs) = UnixStream::pair()?;
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs));
        Ok((ours, Some(command.stderr(Stdio::piped()).spawn()?)))
    };
    start().map_err(|error| format!("cannot start {}: {error}", program.display()))
}

/// What sudo or the helper complained about, if it did not end well.
fn complaint_of(mut child: Child) -> Result<(), String> {
    let mut complaint = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // What cannot be read is missing from the message, no more.
        stderr.take(LONGEST_COMPLAINT).read_to_end(&mut complaint).ok();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&complaint);
    let shown: String = text.trim().chars().filter(|c| !c.is_control()).collect();
    Err(format!("the helper: {}", if shown.is_empty() { status.to_string() } else { shown }))
}
