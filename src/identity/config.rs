//! `identity:` of `service-connector.yaml`: by what a request may say whose it is.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use axum::http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::model::yaml::{self, Bounded};

/// The names of headers and cookies (RFC 9110, section 5.6.2).
const TOKEN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// A day.
const MAX_AGE: NonZeroU32 = NonZeroU32::new(86_400).expect("not zero");
/// For clocks that differ.
const LEEWAY: Bounded<0, 300> = Bounded(60);

/// Who may ask: each way that is named here counts, and without any nobody is anybody.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// The users, by name or number, that a reverse proxy connects as over the Unix socket for
    /// everybody; without it those of `header`. Any other account may hold few connections
    #[serde(default, deserialize_with = "yaml::list")]
    pub proxies: Vec<PeerUser>,
    /// The address in a reverse proxy's header
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "HeaderConfig")]
    pub header: Option<HeaderConfig>,
    /// The session cookie of a Flask application
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "FlaskConfig")]
    pub flask: Option<FlaskConfig>,
    /// A JSON Web Token, as a cookie or a bearer token
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "JwtConfig")]
    pub jwt: Option<JwtConfig>,
}

/// The address in a reverse proxy's header, believed over the portal's Unix socket alone.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderConfig {
    /// The header, such as `X-Remote-Email`
    #[serde(deserialize_with = "header_name")]
    #[schemars(with = "String", regex(pattern = TOKEN))]
    pub name: HeaderName,
    /// Whose connections are believed: the proxy's users, by name or number
    #[serde(deserialize_with = "yaml::list")]
    #[schemars(length(min = 1))]
    pub peers: Vec<PeerUser>,
}

/// A user of this machine, by name or by number.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub enum PeerUser {
    /// By name
    Name(String),
    /// By number
    Uid(u32),
}

/// Flask's session cookie (itsdangerous), signed with the application's `SECRET_KEY`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlaskConfig {
    /// The cookie's name [default: session]
    #[serde(default = "session")]
    #[schemars(with = "String", regex(pattern = TOKEN))]
    pub cookie: CookieName,
    /// The file with the application's `SECRET_KEY`, not for others to read
    pub key_file: PathBuf,
    /// How old a session may be
    #[serde(default = "max_age")]
    pub max_age_seconds: NonZeroU32,
    /// Where the address is in the session: a key, then a key inside of it, and so on
    #[serde(deserialize_with = "yaml::list")]
    #[schemars(length(min = 1))]
    pub email: Vec<String>,
}

/// A JSON Web Token (RFC 7519). Issuer, audience and expiry are always checked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtConfig {
    /// The cookie that holds it
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "String", regex(pattern = TOKEN))]
    pub cookie: Option<CookieName>,
    /// Whether it may come as `Authorization: Bearer …`
    #[serde(default)]
    pub bearer: bool,
    /// What it is signed with; no other is taken
    pub algorithm: JwtAlgorithm,
    /// HS256: the file with the secret, not for others to read; else the public key (PEM)
    pub key_file: PathBuf,
    /// Who must have issued it (`iss`)
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// For whom it must be (`aud`)
    #[schemars(length(min = 1))]
    pub audience: String,
    /// The claim with the address [default: email]
    #[serde(default = "email")]
    pub email_claim: String,
    /// By how much clocks may differ
    #[serde(default = "leeway")]
    pub leeway_seconds: Bounded<0, 300>,
}

/// How a JSON Web Token is signed (RFC 7518, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    /// A secret that both sides have.
    HS256,
    /// An RSA key of at least 2048 bits.
    RS256,
    /// A key on the curve P-256.
    ES256,
}

/// The name of a cookie: a token of RFC 6265.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CookieName(String);

impl CookieName {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<String> for CookieName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        if !text.is_empty() && text.bytes().all(legal) {
            Ok(Self(text))
        } else {
            Err(format!("`{}` is not the name of a cookie", yaml::shown(&text)))
        }
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for PeerUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // No user has a name of digits alone (useradd(8)).
        Ok(text.parse().map_or(Self::Name(text), Self::Uid))
    }
}

impl IdentityConfig {
    /// Whether no way is named: everybody is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.is_none() && self.flask.is_none() && self.jwt.is_none()
    }

    /// Paths as meant from this directory.
    #[must_use]
    pub fn from(mut self, base: &Path) -> Self {
        if let Some(flask) = &mut self.flask {
            flask.key_file = base.join(&flask.key_file);
        }
        if let Some(jwt) = &mut self.jwt {
            jwt.key_file = base.join(&jwt.key_file);
        }
        self
    }
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        de::Error::custom(format!("`{}` is not the name of a header", yaml::shown(&text)))
    })
}

fn session() -> CookieName {
    CookieName("session".to_owned())
}

fn max_age() -> NonZeroU32 {
    MAX_AGE
}

fn email() -> String {
    "email".to_owned()
}

fn leeway() -> Bounded<0, 300> {
    LEEWAY
}
