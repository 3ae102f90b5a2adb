//! What a reference service is told at its start.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::model::secret::Secret;

/// Which of the three services it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Orders at suppliers, to approve.
    PurchaseOrders,
    /// Invoices to customers, to send.
    Invoicing,
    /// Deals, to move from stage to stage.
    Crm,
}

impl Kind {
    /// The service's id in the registry.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::PurchaseOrders => "purchase_orders",
            Self::Invoicing => "invoicing",
            Self::Crm => "crm",
        }
    }

    /// The name that people know it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PurchaseOrders => "Purchase Orders",
            Self::Invoicing => "Invoicing",
            Self::Crm => "CRM",
        }
    }

    /// The port that `examples/` listen on unless told otherwise.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::PurchaseOrders => 7101,
            Self::Invoicing => 7102,
            Self::Crm => 7103,
        }
    }

    /// The environment variable with the shared secret.
    #[must_use]
    pub fn secret_variable(self) -> &'static str {
        match self {
            Self::PurchaseOrders => "SC_SECRET_PURCHASE_ORDERS",
            Self::Invoicing => "SC_SECRET_INVOICING",
            Self::Crm => "SC_SECRET_CRM",
        }
    }
}

/// Which version of the service contract it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Contract {
    /// Exchange and revoke by token id, nothing else: asking twice gives two tokens.
    V1,
    /// With `client_ref`, tombstones and the list of tokens.
    #[default]
    V2,
}

/// The settings of one reference service.
pub struct Config {
    /// Which service.
    pub kind: Kind,
    /// Where the ledger and the key secret are. Made when it is not there.
    pub directory: PathBuf,
    /// The secret that the caller of the contract shows.
    pub secret: Secret,
    /// What every key begins with: characters that are safe in an env file.
    pub key_prefix: String,
    /// The version of the contract.
    pub contract: Contract,
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// No token lives longer, whatever is asked, in days.
    pub max_ttl_days: u32,
    /// Whether `POST /api/internal/faults` is there.
    pub allow_fault_api: bool,
}

/// A setting in the environment that is missing or wrong.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The shared secret is not there.
    #[error(
        "{variable} is not set: it holds the secret that the service and the reconciler share\n\
         hint: set it to a long random text, the same for both, for example the output of \
         `openssl rand -hex 32`"
    )]
    NoSecret {
        /// The variable that was looked for.
        variable: &'static str,
    },
    /// A variable that is there and cannot be used.
    #[error("{variable}: `{text}` is not {expected}")]
    Wrong {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        text: String,
        /// What it should hold.
        expected: &'static str,
    },
}

impl Config {
    /// Contract v2 on a free port of 127.0.0.1, tokens of up to a year, no fault API.
    #[must_use]
    pub fn new(kind: Kind, directory: impl Into<PathBuf>, secret: Secret) -> Self {
        Self {
            kind,
            directory: directory.into(),
            secret,
            key_prefix: "pk_live_".to_owned(),
            contract: Contract::V2,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            max_ttl_days: 365,
            allow_fault_api: false,
        }
    }

    /// The settings of the files in `examples/`: `SC_SECRET_<ID>` (needed), `SC_EXAMPLE_LISTEN`
    /// (127.0.0.1 and the kind's port), `SC_EXAMPLE_DIR` (`state/examples/<id>`),
    /// `SC_EXAMPLE_CONTRACT` (`v2`) and `SC_EXAMPLE_FAULTS` (`off`).
    ///
    /// # Errors
    /// The secret is missing, or a variable cannot be read.
    pub fn from_env(kind: Kind) -> Result<Self, SettingsError> {
        let variable = kind.secret_variable();
        let secret = env::var(variable)
            .ok()
            .filter(|text| !text.is_empty())
            .ok_or(SettingsError::NoSecret { variable })?;
        let directory = env::var_os("SC_EXAMPLE_DIR")
            .map_or_else(|| PathBuf::from("state/examples").join(kind.id()), PathBuf::from);
        let mut config = Self::new(kind, directory, Secret::new(secret));
        config.listen.set_port(kind.default_port());
        setting("SC_EXAMPLE_LISTEN", "an address with a port", &mut config.listen, |text| {
            text.parse().ok()
        })?;
        setting("SC_EXAMPLE_CONTRACT", "v1 or v2", &mut config.contract, |text| match text {
            "v1" => Some(Contract::V1),
            "v2" => Some(Contract::V2),
            _ => None,
        })?;
        setting(
            "SC_EXAMPLE_FAULTS",
            "on or off",
            &mut config.allow_fault_api,
            |text| match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            },
        )?;
        Ok(config)
    }
}

/// Takes the variable's value over, if the variable is there.
fn setting<T>(
    variable: &'static str,
    expected: &'static str,
    value: &mut T,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<(), SettingsError> {
    if let Ok(text) = env::var(variable) {
        *value =
            parse(&text).ok_or(SettingsError::Wrong { variable, text: text.clone(), expected })?;
    }
    Ok(())
}
