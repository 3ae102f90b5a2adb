//! The children under way: each does one request as its user, within its time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Pid;
use serde_json::value::RawValue;

use super::account::Account;
use super::config::Rule;
use super::fork::{self, Child};
use super::user;
use crate::install::{self, Home, PATIENCE};
use crate::model::env_file;
use crate::model::home::HomeLook;
use crate::model::name::AccountName;
use crate::wire::{self, Answer, Asked, HomeFiles, PutDone, PutError, Reply, Request};

/// Children at once. They wait for the disk more than they work.
const AT_ONCE: usize = 16;
/// A child that has not noticed its deadline by then was stopped by somebody, or hangs.
const OVER: Duration = Duration::from_secs(1);
/// So many killed children that do not go are a file system that hangs: no more are sent there.
const HANGING: usize = 64;
/// No answer is longer, in bytes: 10,000 skills with their digests fit.
const LONGEST_ANSWER: usize = 4 << 20;

pub(super) struct Pool<'a> {
    rule: &'a Rule,
    us: Option<Pid>,
    running: Vec<Running>,
    /// Killed or done, and not yet gone.
    leaving: Vec<Child>,
    /// Answers that needed no child.
    answered: Vec<Reply>,
}

struct Running {
    id: u64,
    is_put: bool,
    child: Child,
    answer: Vec<u8>,
    deadline: Instant,
}

impl<'a> Pool<'a> {
    pub(super) fn new(rule: &'a Rule) -> Self {
        let us = Some(rustix::process::getpid());
        Self { rule, us, running: Vec::new(), leaving: Vec::new(), answered: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.running.len() >= AT_ONCE
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.answered.is_empty()
    }

    /// Starts on a request. `forget_the_rest` is done in the child: what others have asked for is
    /// not for its user's process to have.
    pub(super) fn start(&mut self, request: &Request<&RawValue>, forget_the_rest: impl FnOnce()) {
        let is_put = matches!(request.what, Asked::Put { .. });
        if self.leaving.len() >= HANGING {
            let why = "too many homes hang: is their file system?";
            return self.answered.push(failed(request.id, is_put, why));
        }
        let (rule, us) = (self.rule, self.us);
        let started = fork::child(|out| {
            forget_the_rest();
            say(&out, &answer(rule, us, request));
        });
        match started {
            Ok(child) => self.running.push(Running {
                id: request.id,
                is_put,
                child,
                answer: Vec::new(),
                deadline: Instant::now() + PATIENCE + OVER,
            }),
            Err(error) => {
                let why = format!("cannot start a process: {error}");
                self.answered.push(failed(request.id, is_put, &why));
            }
        }
    }

    /// Waits until there are answers, or there is something to read from `input`; says whether
    /// there is.
    pub(super) fn wait(&mut self, input: Option<BorrowedFd<'_>>) -> io::Result<(Vec<Reply>, bool)> {
        let now = Instant::now();
        let next = self.running.iter().map(|running| running.deadline).min();
        let time = if self.answered.is_empty() {
            next.map(|deadline| deadline.saturating_duration_since(now))
        } else {
            Some(Duration::ZERO)
        };
        let children = self.running.iter().map(|running| running.child.answer.as_fd());
        let ends = self.leaving.iter().map(Child::end);
        let handles: Vec<BorrowedFd<'_>> = children.chain(ends).chain(input).collect();
        let mut ready = fork::readable(&handles, time)?;
        let has_input = input.is_some() && ready.pop() == Some(true);
        ready.truncate(self.running.len());
        self.leaving.retain(|child| !child.is_gone());
        let mut replies = std::mem::take(&mut self.answered);
        for (place, ready) in ready.into_iter().enumerate().rev() {
            let running = &mut self.running[place];
            if let Some(reply) = running.answered(ready) {
                let done = self.running.swap_remove(place);
                // After its answer it has nothing more to do, whatever its user makes of it.
                done.child.kill();
                self.leaving.push(done.child);
                replies.push(reply);
            }
        }
        Ok((replies, has_input))
    }
}

impl Running {
    /// The reply, when it is there or comes no more.
    fn answered(&mut self, ready: bool) -> Option<Reply> {
        let ended = ready && self.read();
        let whole = self.answer.strip_suffix(b"\n").and_then(|line| self.parse(line));
        if let Some(answer) = whole {
            return Some(Reply { id: self.id, answer });
        }
        if ended {
            return Some(failed(self.id, self.is_put, "its process ended early; was it killed?"));
        }
        (Instant::now() >= self.deadline).then(|| {
            let why = "it took longer than allowed: was its process stopped, or does its file \
                       system hang?";
            failed(self.id, self.is_put, why)
        })
    }

    /// Reads what is there; says whether that was all.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 16 << 10];
        match rustix::io::read(&self.child.answer, &mut bytes) {
            Ok(0) => true,
            Ok(count) => {
                self.answer.extend_from_slice(&bytes[..count]);
                self.answer.len() > LONGEST_ANSWER
            }
            Err(Errno::INTR | Errno::AGAIN) => false,
            Err(_) => true,
        }
    }

    /// The child is its user's process: what it says is read as from a stranger.
    fn parse(&self, line: &[u8]) -> Option<Answer> {
        let answer = serde_json::from_slice(line).ok()?;
        (matches!(answer, Answer::Put(_)) == self.is_put).then_some(answer)
    }
}

fn failed(id: u64, is_put: bool, why: &str) -> Reply {
    let answer = if is_put {
        Answer::Put(Err(PutError::Failed(why.to_owned())))
    } else {
        Answer::Look(HomeLook::Unknown(why.to_owned()))
    };
    Reply { id, answer }
}

/// What the child does. Everything of the home is done as its user.
fn answer(rule: &Rule, parent: Option<Pid>, request: &Request<&RawValue>) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    let enter = |account: &AccountName| {
        let account = Account::served(account, rule)?;
        user::become_for_good(&account, parent).map(|()| account)
    };
    match &request.what {
        Asked::Look => Answer::Look(match enter(&request.account) {
            Ok(account) => install::answer_look(Home::open(&account.home), deadline),
            Err(refusal) => HomeLook::from(refusal),
        }),
        Asked::Put { uid, files } => Answer::Put(match enter(&request.account) {
            Ok(account) => put(&account, *uid, files, deadline),
            Err(refusal) => Err(PutError::from(refusal)),
        }),
    }
}

fn put(
    account: &Account,
    uid: Option<u32>,
    files: &RawValue,
    deadline: Instant,
) -> Result<PutDone, PutError> {
    // Not what the reader says of it: that may quote a key.
    let unreadable = |_| PutError::Refused("the files are not of the agreed form".to_owned());
    let files: HomeFiles = serde_json::from_str(files.get()).map_err(unreadable)?;
    if let Some(line) = env_file::first_unfit_line(&files.env) {
        let why = format!("line {line} of .service_env is neither a comment nor NAME=value");
        return Err(PutError::Refused(why));
    }
    install::answer_put(Home::open(&account.home), uid, &files, deadline)
}

/// The answer, to the parent. Should the parent be gone, there is nobody to tell.
fn say(out: &OwnedFd, answer: &Answer) {
    if let Ok(line) = wire::line(answer) {
        write_all(out.as_fd(), &line).ok();
    }
}

pub(super) fn write_all(out: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(out, bytes))?;
        bytes = &bytes[count..];
    }
    Ok(())
}
