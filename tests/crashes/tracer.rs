//! Runs a command under ptrace and kills it, all threads at once, at the system call of a given
//! number.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::calls::Calls;

/// Before the call has any effect, or after it had all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Entry,
    Exit,
}

/// Where to kill: at the call of this number, from 1.
#[derive(Debug, Clone, Copy)]
pub struct Kill {
    pub at: usize,
    pub when: When,
}

/// What became of a run.
pub struct Traced {
    /// How many calls that count were begun.
    pub calls: Vec<String>,
    /// Whether it was killed; else it ended by itself.
    pub killed: bool,
}

/// Begins when told to, so that the tracer is there first. The umask is one that no mode of ours
/// agrees with by accident.
const STARTER: &str = "read -r go; umask 027; exec \"$@\" </dev/null";

/// Where a thread is.
enum At {
    OutsideCalls,
    InCall { kill_after: bool },
}

/// Runs this command to its end, or to where it is to be killed.
///
/// # Errors
/// The system does not let us trace.
pub fn run(command: &Command, root: &Path, at: Option<Kill>) -> io::Result<Traced> {
    let mut starter = Command::new("/bin/sh");
    starter.args(["-c", STARTER, "starter"]).arg(command.get_program()).args(command.get_args());
    starter.env_clear();
    starter.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        starter.current_dir(directory);
    }
    let output = std::fs::File::create(root.with_extension("output"))?;
    starter.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
    let mut child = starter.spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let options = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_EXITKILL;
    if let Err(error) = ptrace::seize(pid, options) {
        child.kill()?;
        child.wait()?;
        return Err(error.into());
    }
    child.stdin.take().unwrap().write_all(b"\n")?;
    let tracer = Tracer {
        process: pid,
        calls: Calls::new(root),
        at,
        threads: HashMap::new(),
        traced: Traced { calls: Vec::new(), killed: false },
    };
    Ok(tracer.follow())
}

struct Tracer {
    process: Pid,
    calls: Calls,
    at: Option<Kill>,
    threads: HashMap<Pid, At>,
    traced: Traced,
}

impl Tracer {
    fn follow(mut self) -> Traced {
        // The other tests' processes are children of other threads.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let mut is_ours = false;
        loop {
            match waitpid(Pid::from_raw(-1), Some(flags)) {
                // The process's own end is reported after those of all its other threads.
                Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..)) => {
                    self.threads.remove(&thread);
                    if thread == self.process {
                        return self.traced;
                    }
                }
                Ok(WaitStatus::PtraceSyscall(thread)) => self.at_call(thread),
                Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                    if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 {
                        is_ours = true; // what came before was the shell's
                        self.threads.insert(thread, At::InCall { kill_after: false });
                    }
                    resume(thread, is_ours, None);
                }
                Ok(WaitStatus::Stopped(thread, signal)) => resume(thread, is_ours, Some(signal)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => panic!("the traced process is gone: {error}"),
            }
        }
    }

    fn at_call(&mut self, thread: Pid) {
        let was = self.threads.insert(thread, At::OutsideCalls);
        if let Some(At::InCall { kill_after }) = was {
            if kill_after {
                return self.kill();
            }
        } else {
            let mut kill_after = false;
            if let Some(call) = self.calls.entered(thread) {
                self.traced.calls.push(call);
                let here = self.at.filter(|kill| kill.at == self.traced.calls.len());
                match here.map(|kill| kill.when) {
                    Some(When::Entry) => return self.kill(),
                    Some(When::Exit) => kill_after = true,
                    None => {}
                }
            }
            self.threads.insert(thread, At::InCall { kill_after });
        }
        resume(thread, true, None);
    }

    /// A call that is stopped at its entry is not made any more.
    fn kill(&mut self) {
        kill(self.process, Signal::SIGKILL).unwrap();
        self.traced.killed = true;
    }
}

fn resume(thread: Pid, to_next_call: bool, signal: Option<Signal>) {
    let resumed =
        if to_next_call { ptrace::syscall(thread, signal) } else { ptrace::cont(thread, signal) };
    match resumed {
        Ok(()) | Err(Errno::ESRCH) => {} // it may have died meanwhile, with the process
        Err(error) => panic!("thread {thread} cannot go on: {error}"),
    }
}
