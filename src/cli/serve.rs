//! `serve`: the portal.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::runtime::Builder;
use tokio::sync::watch as watch_channel;

use crate::identity::Identity;
use crate::listen::{Address, Listening, Socket};
use crate::model::name::{Email, UserId};
use crate::portal::{Portal, Rules};
use crate::web::{self, WebConfig};

use super::report::say;
use super::settings::Settings;
use super::{Failure, block_on, stop, watch};

/// Threads that answer; reading files is done beside them.
const WORKERS: usize = 2;

/// Serve the portal: people connect and disconnect themselves, administrators see the fleet.
///
/// It edits the desired state and reads what passes recorded, and needs neither shared secrets nor the
/// sealing key. Who is asking is told by `identity:` in service-connector.yaml; without it, nobody is
/// let in.
#[derive(clap::Args)]
pub struct Args {
    /// Where: `127.0.0.1:PORT`, `[::1]:PORT` or `unix:PATH`
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8017")]
    listen: Address,
    /// Where the page is on its host; the API is at the same place below /api
    #[arg(long, value_name = "PATH", default_value = "/service-connectors",
          value_parser = base_path)]
    base_path: String,
    /// Also run the loop, as `reconcile --watch` does, in the same process
    #[arg(long)]
    reconcile: bool,
}

/// A path of plain segments, without the slash at its end.
fn base_path(text: &str) -> Result<String, String> {
    let plain = |segment: &str| {
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"._~-".contains(&c);
        !segment.is_empty() && segment.bytes().all(is_plain) && !matches!(segment, "." | "..")
    };
    let rest = text.strip_prefix('/').ok_or("it begins with /")?;
    let path = text.strip_suffix('/').unwrap_or(text);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    // Of a host of its own it is the root.
    if path.is_empty() || (rest.split('/').all(plain) && rest != "api") {
        Ok(path.to_owned())
    } else {
        Err("segments of A-Z a-z 0-9 . _ ~ - and not /api".to_owned())
    }
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    raise_open_files();
    let identity = Identity::new(&settings.identity)?;
    if !identity.is_configured() {
        say("Nobody is let in: service-connector.yaml says nothing under `identity:`.");
    }
    if identity.needs_socket() && !matches!(args.listen, Address::Unix(_)) {
        say(
            "Nobody is let in: `identity.header` counts over a Unix socket alone (--listen unix:PATH).",
        );
    }
    let door =
        Door { address: &args.listen, base_path: &args.base_path, identity, demo: Vec::new() };
    let portal = OpenPortal::open(settings, door)?;
    say(&format!("The portal is at {}", portal.place));
    let code = if args.reconcile {
        watch::run(settings)
    } else {
        watch::systemd(&[NotifyState::Ready]);
        let stopped = block_on(stop()).map(|()| 0);
        watch::systemd(&[NotifyState::Stopping]);
        stopped
    };
    portal.close()?;
    code
}

/// As many files as the system lets us: each connection is one.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "no more files can be open at once than before");
    }
}

/// Where and to whom the portal is open.
pub struct Door<'a> {
    pub address: &'a Address,
    pub base_path: &'a str,
    pub identity: Identity,
    /// Of the demo: whom one can be.
    pub demo: Vec<(UserId, Email)>,
}

/// The portal, answering on threads of its own.
pub struct OpenPortal {
    /// Where it is, for people.
    pub place: String,
    stop: watch_channel::Sender<bool>,
    thread: JoinHandle<io::Result<()>>,
}

impl OpenPortal {
    /// Opens it. Whoever comes from now on is answered.
    pub fn open(settings: &Settings, door: Door<'_>) -> Result<Self, Failure> {
        let proxies = door.identity.proxies().to_vec();
        let rules = Rules {
            admins: settings.admins.iter().cloned().collect(),
            may_approve: settings.portal_may_approve,
            page: door.base_path.to_owned(),
        };
        let config = WebConfig {
            identity: door.identity,
            whom_to_ask: settings.unknown_person.clone(),
            hosts: settings.hosts.clone(),
            demo: door.demo,
            api: format!("/api{}", door.base_path),
        };
        let listening = Listening::bind(door.address, web::SOCKET_MODE)?;
        let place = match &listening.socket {
            Socket::Tcp(listener) => {
                format!("http://{}{}/", listener.local_addr()?, door.base_path)
            }
            Socket::Unix(_) => format!("{} (at {}/)", door.address, door.base_path),
        };
        let portal = Arc::new(Portal::new(settings.places.clone(), rules, Timestamp::now)?);
        let (stop, stopped) = watch_channel::channel(false);
        let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
        let answer = move || {
            runtime.block_on(async move {
                tokio::spawn(Portal::look_for_changes(Arc::downgrade(&portal)));
                let (router, _) = web::router(portal, config, stopped.clone());
                web::serve(listening, router, &proxies, stopped).await
            })
        };
        let thread = thread::Builder::new().name("portal".to_owned()).spawn(answer)?;
        Ok(Self { place, stop, thread })
    }

    /// Finishes what is under way, and ends.
    pub fn close(self) -> Result<(), Failure> {
        self.stop.send_replace(true);
        Ok(self.thread.join().map_err(|_| "the portal broke down")??)
    }
}
