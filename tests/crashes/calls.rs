//! Which system calls change what outlives the process: the disk, and what a service was told.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Pid;

/// How a call names what it changes.
#[derive(Clone, Copy)]
enum Names {
    /// A descriptor: counts if it is a file of ours or a connection to a service.
    Descriptor(usize),
    /// A descriptor: counts if it is a connection to a service.
    Socket,
    /// A path, as this argument: always counts.
    Path(usize),
    /// A path, with the flags of `open` in the other argument: counts if they create.
    Opened { path: usize, flags: usize },
    /// As `Opened`, with a `struct open_how` in the other argument.
    OpenedHow { path: usize, how: usize },
    /// An address to connect to: counts if it is an internet address.
    Address,
}

/// The calls that are looked at. What only reads is not here, but for sockets: an answer that was
/// taken from the kernel and is lost with the process is a point of its own.
const CALLS: &[(libc::c_long, &str, Names)] = &[
    (libc::SYS_write, "write", Names::Descriptor(0)),
    (libc::SYS_pwrite64, "pwrite64", Names::Descriptor(0)),
    (libc::SYS_writev, "writev", Names::Descriptor(0)),
    (libc::SYS_pwritev, "pwritev", Names::Descriptor(0)),
    (libc::SYS_pwritev2, "pwritev2", Names::Descriptor(0)),
    (libc::SYS_copy_file_range, "copy_file_range", Names::Descriptor(2)),
    (libc::SYS_sendfile, "sendfile", Names::Descriptor(0)),
    (libc::SYS_fsync, "fsync", Names::Descriptor(0)),
    (libc::SYS_fdatasync, "fdatasync", Names::Descriptor(0)),
    (libc::SYS_ftruncate, "ftruncate", Names::Descriptor(0)),
    (libc::SYS_fallocate, "fallocate", Names::Descriptor(0)),
    (libc::SYS_fchmod, "fchmod", Names::Descriptor(0)),
    (libc::SYS_fchown, "fchown", Names::Descriptor(0)),
    (libc::SYS_sendto, "sendto", Names::Socket),
    (libc::SYS_sendmsg, "sendmsg", Names::Socket),
    (libc::SYS_recvfrom, "recvfrom", Names::Socket),
    (libc::SYS_recvmsg, "recvmsg", Names::Socket),
    (libc::SYS_read, "read", Names::Socket),
    (libc::SYS_readv, "readv", Names::Socket),
    (libc::SYS_shutdown, "shutdown", Names::Socket),
    (libc::SYS_connect, "connect", Names::Address),
    (libc::SYS_openat, "openat", Names::Opened { path: 1, flags: 2 }),
    (libc::SYS_openat2, "openat2", Names::OpenedHow { path: 1, how: 2 }),
    (libc::SYS_renameat2, "renameat2", Names::Path(3)),
    (libc::SYS_renameat, "renameat", Names::Path(3)),
    (libc::SYS_linkat, "linkat", Names::Path(3)),
    (libc::SYS_symlinkat, "symlinkat", Names::Path(2)),
    (libc::SYS_unlinkat, "unlinkat", Names::Path(1)),
    (libc::SYS_mkdirat, "mkdirat", Names::Path(1)),
    (libc::SYS_fchmodat, "fchmodat", Names::Path(1)),
    (libc::SYS_fchownat, "fchownat", Names::Path(1)),
    (libc::SYS_utimensat, "utimensat", Names::Path(1)),
    (libc::SYS_truncate, "truncate", Names::Path(0)),
];

/// The older forms, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const OLDER: &[(libc::c_long, &str, Names)] = &[
    (libc::SYS_open, "open", Names::Opened { path: 0, flags: 1 }),
    (libc::SYS_creat, "creat", Names::Path(0)),
    (libc::SYS_rename, "rename", Names::Path(1)),
    (libc::SYS_link, "link", Names::Path(1)),
    (libc::SYS_symlink, "symlink", Names::Path(1)),
    (libc::SYS_unlink, "unlink", Names::Path(0)),
    (libc::SYS_mkdir, "mkdir", Names::Path(0)),
    (libc::SYS_rmdir, "rmdir", Names::Path(0)),
    (libc::SYS_chmod, "chmod", Names::Path(0)),
    (libc::SYS_chown, "chown", Names::Path(0)),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[(libc::c_long, &str, Names)] = &[];

/// Tells the calls of one process that count.
pub struct Calls {
    /// What is written below this counts.
    root: PathBuf,
    /// `socket:[inode]` of each connection to a service.
    sockets: HashSet<PathBuf>,
}

impl Calls {
    pub fn new(root: &Path) -> Self {
        Self { root: root.canonicalize().unwrap(), sockets: HashSet::new() }
    }

    /// The call that this thread, stopped at its entry, is about to make, if it counts.
    pub fn entered(&mut self, thread: Pid) -> Option<String> {
        let (number, args) = entered(thread)?;
        let (_, name, names) =
            CALLS.iter().chain(OLDER).find(|(of_call, ..)| *of_call == number)?;
        let what = match *names {
            Names::Descriptor(at) => {
                let what = descriptor(thread, args[at])?;
                (what.starts_with(&self.root) || self.sockets.contains(&what)).then_some(what)?
            }
            Names::Socket => {
                descriptor(thread, args[0]).filter(|what| self.sockets.contains(what))?
            }
            Names::Path(at) => path(thread, args[at]),
            Names::Opened { path: at, flags } => created(path(thread, args[at]), args[flags])?,
            Names::OpenedHow { path: at, how } => {
                let flags = memory(thread, args[how], 8);
                created(path(thread, args[at]), u64::from_ne_bytes(flags.try_into().ok()?))?
            }
            Names::Address => {
                let family = memory(thread, args[1], 2);
                let family = u16::from_ne_bytes(family.try_into().ok()?);
                let internet = [libc::AF_INET, libc::AF_INET6];
                if !internet.iter().any(|known| i32::from(family) == *known) {
                    return None;
                }
                let socket = descriptor(thread, args[0])?;
                self.sockets.insert(socket.clone());
                socket
            }
        };
        let what = what.strip_prefix(&self.root).unwrap_or(&what);
        Some(format!("{name} {}", what.display()))
    }
}

/// The number and the arguments of the call that a stopped thread is in. From `/proc`, which says
/// it in the same words on every architecture.
fn entered(thread: Pid) -> Option<(libc::c_long, Vec<u64>)> {
    let line = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    let mut words = line.split_whitespace();
    let number = words.next()?.parse().ok()?;
    let hex = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    let args: Vec<u64> = words.filter_map(hex).collect();
    (args.len() >= 6).then_some((number, args))
}

fn descriptor(thread: Pid, fd: u64) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{thread}/fd/{fd}")).ok()
}

/// A path that is opened with these flags, if they may create it.
fn created(path: PathBuf, flags: u64) -> Option<PathBuf> {
    let creates = flags & u64::from(libc::O_CREAT.unsigned_abs()) != 0;
    let outside = path.starts_with("/dev") || path.starts_with("/proc");
    (creates && !outside).then_some(path)
}

fn path(thread: Pid, address: u64) -> PathBuf {
    let bytes = memory(thread, address, 512);
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    PathBuf::from(String::from_utf8_lossy(text).into_owned())
}

/// So many bytes of the thread's memory, or as many as there are.
fn memory(thread: Pid, address: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let memory = File::open(format!("/proc/{thread}/mem"));
    let read = memory.and_then(|memory| memory.read_at(&mut bytes, address)).unwrap_or(0);
    bytes.truncate(read);
    bytes
}
