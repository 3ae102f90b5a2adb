//! The reference service: the service contract (v1 or v2) with a durable ledger of every token, a
//! small business API behind the keys it issues, and faults that can be switched on while it runs.
//! `demo`, the tests and `examples/` use it; it is for loopback addresses only.

mod business;
mod connection;
mod contract;
mod deals;
mod faults;
mod gate;
mod invoices;
mod keys;
mod ledger;
mod lines;
mod orders;
mod problem;
mod settings;
mod store;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use self::faults::{Fault, Faults, On, Rule};
pub use self::ledger::{Ledger, LedgerError, LedgerToken};
pub use self::settings::{Config, Contract, Kind, SettingsError};

use self::connection::{Cut, CuttableListener};
use self::keys::KeyMaker;
use self::problem::Problem;
use self::store::Store;

/// How long [`Running::stop`] waits for open connections before it lets go of them.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// Why a service could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its faults and its secret are for tests: it never listens to a network.
    #[error("{0} is not a loopback address: the example service listens to this machine only")]
    NotLoopback(SocketAddr),
    /// The data directory or the key secret in it.
    #[error("cannot use the data directory {}", directory.display())]
    Directory {
        /// The directory of the configuration.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The ledger's database.
    #[error("cannot open the ledger in {}", directory.display())]
    Ledger {
        /// The directory of the configuration.
        directory: PathBuf,
        /// What `SQLite` said.
        source: rusqlite::Error,
    },
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl StartError {
    /// The message and what caused it, in one text.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// A reference service, opened and not yet listening.
pub struct ExampleService {
    shared: Arc<Shared>,
    listen: SocketAddr,
    directory: PathBuf,
}

impl ExampleService {
    /// Opens the data directory: makes the key secret, the ledger and the sample rows when they are
    /// not there yet.
    ///
    /// # Errors
    /// The address is not loopback, or the directory or its ledger cannot be used.
    pub fn open(config: Config) -> Result<Self, StartError> {
        if !config.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(config.listen));
        }
        let directory = config.directory;
        let keys = KeyMaker::open(&directory, config.key_prefix)
            .map_err(|source| StartError::Directory { directory: directory.clone(), source })?;
        let store = open_store(&directory, config.kind)
            .map_err(|source| StartError::Ledger { directory: directory.clone(), source })?;
        let shared = Arc::new(Shared {
            kind: config.kind,
            contract: config.contract,
            secret: keys::Guarded::new(&config.secret),
            max_ttl_days: config.max_ttl_days,
            allow_fault_api: config.allow_fault_api,
            keys,
            faults: Arc::default(),
            store: Mutex::new(store),
            stopping: watch::Sender::new(false),
        });
        Ok(Self { shared, listen: config.listen, directory })
    }

    /// The faults of this service, to switch while it runs.
    #[must_use]
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.shared.faults)
    }

    /// Serves until `shutdown` is done and the open requests are answered; hanging ones are cut.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let service = router(self.shared).into_make_service_with_connect_info::<Cut>();
        axum::serve(CuttableListener(listener), service)
            .with_graceful_shutdown(async move {
                shutdown.await;
                shared.stopping.send_replace(true);
            })
            .await
    }

    /// Opens, listens, and serves in a task of the current tokio runtime.
    ///
    /// # Errors
    /// As [`ExampleService::open`], and when the address cannot be listened on.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let service = Self::open(config)?;
        let refused = |source| StartError::Listen { address: service.listen, source };
        let listener = TcpListener::bind(service.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (faults, directory) = (service.faults(), service.directory.clone());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(service.serve(listener, async move {
            // A dropped `Running` stops the service as well.
            stopped.await.unwrap_or(());
        }));
        Ok(Running { address, faults, directory, stop, task })
    }

    /// What the files in `examples/` do: a service of this kind with the settings of the
    /// environment (see [`Config::from_env`]), until Ctrl-C. `say` gets the lines for the user.
    ///
    /// # Errors
    /// As [`ExampleService::start`], and a setting that is missing or wrong.
    pub async fn run_until_ctrl_c(kind: Kind, say: impl Fn(&str)) -> Result<(), StartError> {
        let config = Config::from_env(kind)?;
        let directory = config.directory.display().to_string();
        let running = Self::start(config).await?;
        say(&format!("{} listens on {}", kind.name(), running.base_url()));
        say(&format!("Its data is in {directory}. Ctrl-C stops it."));
        // Without a signal handler nothing could stop it politely: stop at once instead.
        if let Err(error) = tokio::signal::ctrl_c().await {
            say(&format!("cannot wait for Ctrl-C: {error}"));
        }
        running.stop().await;
        Ok(())
    }
}

/// A service that listens. Dropping it stops it too, without waiting.
pub struct Running {
    address: SocketAddr,
    faults: Arc<Faults>,
    directory: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    /// Where it listens: `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address, to start it again at the same place.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The faults, to switch while it runs.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What it issued and revoked, and how often it was asked.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn ledger(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(&self.directory)
    }

    /// Stops listening, answers what is in flight, and cuts what hangs.
    pub async fn stop(self) {
        let Self { stop, mut task, .. } = self;
        // It has ended already when nobody listens to this.
        let _ = stop.send(());
        if tokio::time::timeout(STOP_PATIENCE, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// What every request sees.
struct Shared {
    kind: Kind,
    contract: Contract,
    secret: keys::Guarded,
    max_ttl_days: u32,
    allow_fault_api: bool,
    keys: KeyMaker,
    faults: Arc<Faults>,
    store: Mutex<Store>,
    stopping: watch::Sender<bool>,
}

impl Shared {
    /// The service's own time, in whole seconds: the machine's, shifted by the faults.
    fn now(&self) -> Timestamp {
        let shifted = Timestamp::now() + SignedDuration::from_secs(self.faults.clock_offset());
        Timestamp::from_second(shifted.as_second()).unwrap_or(shifted)
    }

    /// Does one thing with the store, off the thread that serves the connections.
    async fn on_store<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            // Each piece of work is one transaction: a panic in another left nothing half done.
            work(&mut shared.store.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match done.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Problem::broken(&error)),
            Err(error) => Err(Problem::broken(&error)),
        }
    }
}

fn open_store(directory: &std::path::Path, kind: Kind) -> rusqlite::Result<Store> {
    let mut store = Store::open(directory)?;
    match kind {
        Kind::PurchaseOrders => business::seed::<orders::PurchaseOrder>(&mut store)?,
        Kind::Invoicing => business::seed::<invoices::Invoice>(&mut store)?,
        Kind::Crm => business::seed::<deals::Deal>(&mut store)?,
    }
    Ok(store)
}

fn router(shared: Arc<Shared>) -> Router {
    let business = match shared.kind {
        Kind::PurchaseOrders => business::routes::<orders::PurchaseOrder>(),
        Kind::Invoicing => business::routes::<invoices::Invoice>(),
        Kind::Crm => business::routes::<deals::Deal>(),
    };
    let mut router = contract::routes(shared.contract).merge(business);
    if shared.allow_fault_api {
        router = router.merge(contract::fault_routes());
    }
    router
        .fallback(async || Problem::not_found("there is nothing at this address"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(DefaultBodyLimit::max(gate::LARGEST_BODY))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), gate::gate))
        .with_state(shared)
}
