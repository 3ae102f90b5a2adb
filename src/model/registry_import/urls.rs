//! Takes the addresses of a service apart.

use super::super::registry_entry;
use super::super::service_url::{self, BaseUrl, UrlPath};
use super::quoted;

/// A complete address, in parts.
pub(super) struct Address {
    origin: String,
    path: String,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The rules are those of the registry; the parts are of the whole address.
        BaseUrl::parse(text)?;
        let (origin, path) = service_url::split(text)?;
        UrlPath::parse(&path)?;
        Ok(Self { origin, path })
    }
}

/// Both addresses of a service, taken apart as an entry has them.
pub(super) struct Urls {
    /// What an entry calls `base_url`.
    pub(super) base: String,
    /// Each name and path that is not where contract v1 has it.
    unusual: Vec<(&'static str, String)>,
}

impl Urls {
    /// What stands before the usual paths is the service's address, so that its other paths
    /// (health, its API) are under it too.
    pub(super) fn of(exchange: Address, revoke: Address) -> Result<Self, String> {
        if exchange.origin != revoke.origin {
            return Err(format!(
                "is at {}, and `token_exchange_url` at {}: a service has one address for both",
                revoke.origin, exchange.origin
            ));
        }
        let before = |path: &str, usual| path.strip_suffix(usual).map(str::to_owned);
        let [exchanging, revoking] = [registry_entry::EXCHANGE_PATH, registry_entry::REVOKE_PATH];
        let shared = before(&exchange.path, exchanging)
            .filter(|start| before(&revoke.path, revoking).as_ref() == Some(start));
        let start = shared.unwrap_or_default();
        let given = [("exchange", exchange.path, exchanging), ("revoke", revoke.path, revoking)];
        let unusual = given.into_iter().filter(|(_, path, usual)| path[start.len()..] != **usual);
        Ok(Self {
            base: format!("{}{start}", exchange.origin),
            unusual: unusual.map(|(name, path, _)| (name, path)).collect(),
        })
    }

    /// The `endpoints:` of the entry, if it needs any.
    pub(super) fn endpoints(&self) -> String {
        let lines = self.unusual.iter().map(|(name, path)| format!("  {name}: {}\n", quoted(path)));
        let lines: String = lines.collect();
        if lines.is_empty() { lines } else { format!("endpoints:\n{lines}") }
    }
}
