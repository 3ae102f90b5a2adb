//! The names that the portal is reached by.

use std::fmt;
use std::net::Ipv6Addr;

use serde::Deserialize;

/// The name of a host, as it stands in `Host` (RFC 9110, section 7.2) before the port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

impl HostName {
    /// Whether a request asks for it.
    #[must_use]
    pub fn is(&self, host: &str) -> bool {
        self.0.eq_ignore_ascii_case(host)
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let label = |label: &str| {
            let is_legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
            !label.is_empty() && label.bytes().all(is_legal)
        };
        let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Some(Ok(address)) = literal.map(str::parse::<Ipv6Addr>) {
            // As browsers write it (RFC 5952).
            return Ok(Self(format!("[{address}]")));
        }
        if text.split('.').all(label) {
            return Ok(Self(text));
        }
        let shown = crate::model::yaml::shown(&text);
        Err(format!(
            "`{shown}` is not the name of a host: no scheme, no port, no path stands there"
        ))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
