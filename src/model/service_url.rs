//! The addresses of a service: `https` only, except to this very machine.

use url::{Host, Url};

use super::yaml::shown;

/// The address that a service's paths hang from, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Parses the address.
    ///
    /// # Errors
    /// Says which rule is broken, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("`{}` is not an address: {error}", shown(text)))?;
        let fault = if !text.bytes().all(|c| c.is_ascii_graphic() && c != b'\\') {
            "an address holds only visible ASCII, without `\\`"
        } else if !url.username().is_empty() || url.password().is_some() || text.contains('@') {
            "a user or a password does not belong into an address"
        } else if text.contains(['?', '#']) {
            "a query or a fragment does not belong into it: paths are added at its end"
        } else if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
            "https only, except to a loopback address"
        } else {
            return Ok(Self(url.as_str().trim_end_matches('/').to_owned()));
        };
        Err(fault.to_owned())
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a path under it.
    #[must_use]
    pub fn join(&self, path: &UrlPath) -> String {
        format!("{}{}", self.0, path.0)
    }
}

/// The origin (scheme, host, port) and the path of an address.
///
/// # Errors
/// It is none.
pub(super) fn split(text: &str) -> Result<(String, String), String> {
    let url = Url::parse(text)
        .map_err(|error| format!("`{}` is not an address: {error}", shown(text)))?;
    Ok((url.origin().ascii_serialization(), url.path().to_owned()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A path below a service's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPath(String);

impl UrlPath {
    /// A path that this program names itself.
    pub(super) fn fixed(path: &'static str) -> Self {
        Self(path.to_owned())
    }

    /// Parses a path.
    ///
    /// # Errors
    /// Says what a path is, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"/_-.~:@%,+=".contains(&c);
        let is_path = text.starts_with('/')
            && text.len() > 1
            && text.bytes().all(plain)
            && text[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
        if is_path {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{}` is not a path such as /api/health", shown(text)))
        }
    }
}
