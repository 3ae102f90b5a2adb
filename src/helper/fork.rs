//! A process of its own for each account. All `unsafe` of this program is in this file.
#![expect(unsafe_code, reason = "fork, and leaving the child, have no safe form")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::unistd::ForkResult;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

/// A child, and what it says.
pub(super) struct Child {
    process: OwnedFd,
    /// Where its answer comes; at its end the child has closed it.
    pub answer: OwnedFd,
}

/// Does this in a child, which ends with it.
pub(super) fn child(work: impl FnOnce(OwnedFd)) -> io::Result<Child> {
    let (answer, out) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: this program never starts a thread, so the child misses none that holds a lock, and
    // may allocate and do whatever else the parent may.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            drop(answer);
            let done = catch_unwind(AssertUnwindSafe(|| work(out)));
            // SAFETY: `_exit` takes any number and does not return. Not `exit`: what the parent
            // would do at its end is not the child's to do.
            unsafe { nix::libc::_exit(i32::from(done.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(out);
            // Of a child that was not waited for, the number is not given to another.
            let pid = Pid::from_raw(child.as_raw()).ok_or(io::ErrorKind::NotFound)?;
            match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                Ok(process) => Ok(Child { process, answer }),
                Err(errno) => {
                    rustix::process::kill_process(pid, Signal::KILL)?;
                    Err(errno.into())
                }
            }
        }
    }
}

impl Child {
    /// Ends it, whatever it does and whoever has stopped it.
    pub(super) fn kill(&self) {
        // It fails only for a child that has ended, or for one that we may not kill: then there
        // is nothing more to be done, and its answer is not waited for.
        rustix::process::pidfd_send_signal(&self.process, Signal::KILL).ok();
    }

    /// Readable once it has ended (`pidfd_open(2)`).
    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Whether it is gone, and no zombie either.
    pub(super) fn is_gone(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(WaitId::PidFd(self.process.as_fd()), options);
        !matches!(status, Ok(None))
    }
}

/// Waits until one of these can be read, or the time is over; says which.
pub(super) fn readable(
    handles: &[impl AsFd],
    time: Option<std::time::Duration>,
) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> =
        handles.iter().map(|handle| PollFd::new(handle, PollFlags::IN)).collect();
    let time = time.map(|time| Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    match rustix::event::poll(&mut polled, time.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(polled.iter().map(|handle| !handle.revents().is_empty()).collect())
}
