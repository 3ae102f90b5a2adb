//! One request a line, one answer a line.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use serde_json::value::RawValue;
use zeroize::{Zeroize, Zeroizing};

use super::config::Rule;
use super::pool::{Pool, write_all};
use crate::wire::{self, MAX_LINE, Request, Said};

const FIRST_CAPACITY: usize = 256 << 10;

/// What the caller sent is not of the agreed form; nothing of that line was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("request {0} is not of the agreed form")]
    Malformed(u64),
    #[error("request {0} is longer than {MAX_LINE} bytes")]
    TooLong(u64),
    #[error("the last request was cut off")]
    CutOff,
    #[error("cannot talk to the caller or the children: {0}")]
    Io(#[from] std::io::Error),
}

/// Serves requests until `input` ends and all are answered. Of a request that is not of the agreed
/// form, and of all after it, nothing is done; those before it are answered.
pub(super) fn serve(
    rule: &Rule,
    input: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<(), ServeError> {
    let mut pool = Pool::new(rule);
    let mut lines = Lines::new();
    let mut over = None;
    loop {
        while over.is_none() && !pool.is_full() {
            match lines.take(|request, rest| pool.start(&request, || rest.zeroize())) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => over = Some(Err(error)),
            }
        }
        if let Some(result) = over.take_if(|_| pool.is_idle()) {
            return result;
        }
        let reads = over.is_none() && !pool.is_full();
        let (replies, has_input) = pool.wait(reads.then_some(input))?;
        for reply in replies {
            let line = wire::line(&Said::Reply(reply)).map_err(std::io::Error::from)?;
            write_all(output, &line).map_err(std::io::Error::from)?;
        }
        if has_input && !lines.read(input)? {
            over = Some(if lines.is_empty() { Ok(()) } else { Err(ServeError::CutOff) });
        }
    }
}

/// What was read and not yet taken. It holds keys, so it is wiped.
struct Lines {
    bytes: Zeroizing<Vec<u8>>,
    /// So many were taken.
    taken: u64,
    /// So many bytes are known to have no line feed.
    searched: usize,
}

impl Lines {
    fn new() -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(FIRST_CAPACITY)), taken: 0, searched: 0 }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads what is there; false at the end.
    fn read(&mut self, input: BorrowedFd<'_>) -> Result<bool, ServeError> {
        if self.bytes.len() > MAX_LINE {
            return Err(ServeError::TooLong(self.taken + 1));
        }
        if self.bytes.len() == self.bytes.capacity() {
            // Growing in place would leave a copy behind.
            let mut more = Zeroizing::new(Vec::with_capacity(2 * self.bytes.capacity()));
            more.extend_from_slice(&self.bytes);
            self.bytes = more;
        }
        let filled = self.bytes.len();
        let all = self.bytes.capacity();
        self.bytes.resize(all, 0);
        let count = loop {
            match rustix::io::read(input, &mut self.bytes[filled..]) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(ServeError::Io(errno.into())),
                Ok(count) => break count,
            }
        };
        self.bytes.truncate(filled + count);
        Ok(count > 0)
    }

    /// Takes one request, if a whole one is there. With it comes all else that was read.
    fn take(
        &mut self,
        start: impl FnOnce(Request<&RawValue>, &mut [u8]),
    ) -> Result<bool, ServeError> {
        let Some(found) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return Ok(false);
        };
        let end = self.searched + found + 1;
        self.taken += 1;
        let (line, rest) = self.bytes.split_at_mut(end);
        let request = serde_json::from_slice(line);
        // What the reader says of it is not told: that may quote a key.
        start(request.map_err(|_| ServeError::Malformed(self.taken))?, rest);
        // The rest comes to the front, and what it leaves behind is wiped.
        let left = self.bytes.len() - end;
        self.bytes.copy_within(end.., 0);
        self.bytes[left..].zeroize();
        self.bytes.truncate(left);
        self.searched = 0;
        Ok(true)
    }
}
