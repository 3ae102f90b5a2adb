//! Who is asking: from a request's headers, and from who connected, to an address that is proven.
//!
//! Nobody is anybody unless the configuration names a way. What is presented and wrong refuses the
//! request, even where something else beside it is right.

mod config;
mod cookies;
mod flask;
mod header;
mod jwt;
mod key_file;

use std::io;
use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName};
use jiff::Timestamp;

use crate::model::name::Email;

pub use config::{
    CookieName, FlaskConfig, HeaderConfig, IdentityConfig, JwtAlgorithm, JwtConfig, PeerUser,
};
pub use key_file::KeyFileError;

use flask::Flask;
use header::Header;
use jwt::Jwt;

/// The cookie of the demo's chooser; its value is the address.
pub const DEMO_COOKIE: &str = "sc_demo";

/// Where a request came from, as the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Over a Unix socket, from a process of this user (`SO_PEERCRED`).
    Unix {
        /// The user's number.
        uid: u32,
    },
    /// Over TCP, which proves nothing of who it is.
    Tcp(SocketAddr),
}

/// Somebody whose address is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The address.
    pub email: Email,
    /// What proved it.
    pub by: By,
}

/// What proved an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A reverse proxy's header.
    Header,
    /// A cookie.
    Cookie,
    /// A bearer token.
    Bearer,
}

impl By {
    /// Whether a browser sends it along by itself, also when another site's page made it ask. (A
    /// proxy that sets a header had it from a cookie or a password of the browser's.)
    #[must_use]
    pub fn is_ambient(self) -> bool {
        !matches!(self, Self::Bearer)
    }
}

/// A request is nobody's.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It says nothing about whose it is.
    #[error("nobody is logged in")]
    Nobody,
    /// What it says is not believed.
    #[error("{0}")]
    Bad(Why),
    /// Nothing can be said: a key is not to be had. An operator's trouble, not the user's.
    #[error(transparent)]
    CannotTell(#[from] KeyFileError),
}

/// Why what a request says is not believed. Safe for a log: it never carries what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The header, from one who may not set it.
    #[error("the identity header came over a connection that is not a listed peer's")]
    NotAPeer,
    /// A header that could pass for it.
    #[error("a header looks like the identity header and is not it")]
    LookAlike,
    /// More than one.
    #[error("the header that says who asks is there twice")]
    HeaderTwice,
    /// More than one.
    #[error("the cookie that says who asks is there twice")]
    CookieTwice,
    /// More than 4096 bytes.
    #[error("what says who asks is longer than 4096 bytes")]
    TooLong,
    /// Not of its form.
    #[error("the session is malformed")]
    Malformed,
    /// Signed by another key, or changed.
    #[error("the session's signature is wrong")]
    Signature,
    /// Signed in another way.
    #[error("the token is signed with another algorithm")]
    Algorithm,
    /// From somebody else.
    #[error("the token is another issuer's")]
    Issuer,
    /// For somebody else.
    #[error("the token is for another audience")]
    Audience,
    /// Too old.
    #[error("the session has ended: log in again")]
    Ended,
    /// Not good yet.
    #[error("the session begins in the future: a clock is wrong")]
    FromTheFuture,
    /// Not an address.
    #[error("what says who asks holds no e-mail address")]
    NoAddress,
    /// The issuer does not vouch for the address.
    #[error("the e-mail address is not verified")]
    NotVerified,
    /// Two ways, two people.
    #[error("the request names two people")]
    TwoPeople,
    /// The demo's cookie, not from this machine.
    #[error("the demo is for this machine alone")]
    NotLoopback,
    /// The demo's cookie, naming somebody else.
    #[error("that is none of the demo's people")]
    NotOfDemo,
}

/// `identity:` cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// A header that says something else.
    #[error("identity: header.name: `{0}` has a meaning of its own; take one like X-Remote-Email")]
    OthersHeader(HeaderName),
    /// Nobody to believe.
    #[error("identity: header.peers is empty: list the user that the proxy runs as")]
    NoPeers,
    /// No such user.
    #[error("identity: {place}: there is no user `{name}` on this machine")]
    NoSuchUser {
        /// Where that stands.
        place: &'static str,
        /// Who.
        name: String,
    },
    /// It could not be found out.
    #[error("identity: {place}: the user `{name}` cannot be looked up")]
    Lookup {
        /// Where that stands.
        place: &'static str,
        /// Whose.
        name: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Something that must say something.
    #[error("identity: {0} is empty")]
    Empty(&'static str),
    /// Nowhere to look for the token.
    #[error("identity: jwt is looked for nowhere: say `cookie: NAME`, `bearer: true` or both")]
    NoPlace,
    /// One cookie cannot be both.
    #[error("identity: flask and jwt have the same cookie, `{0}`")]
    SameCookie(CookieName),
}

/// Tells who is asking.
pub struct Identity(Kind);

enum Kind {
    Configured(Box<Ways>),
    Demo { cookie: CookieName, people: Vec<Email> },
}

/// The ways that are configured.
struct Ways {
    proxies: Vec<u32>,
    header: Option<Header>,
    flask: Option<Flask>,
    jwt: Option<Jwt>,
}

impl Identity {
    /// By the ways that the configuration names. Keys are read here once, so that a bad one is
    /// found at start, and again at each use.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn new(config: &IdentityConfig) -> Result<Self, IdentityError> {
        let cookies = [
            config.flask.as_ref().map(|flask| &flask.cookie),
            config.jwt.as_ref().and_then(|jwt| jwt.cookie.as_ref()),
        ];
        if let [Some(flask), Some(jwt)] = cookies
            && flask == jwt
        {
            return Err(IdentityError::SameCookie(jwt.clone()));
        }
        let header = config.header.as_ref().map(Header::new).transpose()?;
        let mut proxies = header::uids("proxies", &config.proxies)?;
        proxies.extend(header.iter().flat_map(|header| &header.peers));
        Ok(Self(Kind::Configured(Box::new(Ways {
            proxies,
            header,
            flask: config.flask.as_ref().map(Flask::new).transpose()?,
            jwt: config.jwt.as_ref().map(Jwt::new).transpose()?,
        }))))
    }

    /// One of these people, as the browser pleases: for the demo, and over loopback only. No
    /// configuration leads here.
    ///
    /// # Panics
    /// Never: the cookie's name is a legal one.
    #[must_use]
    pub fn demo(people: Vec<Email>) -> Self {
        let cookie = DEMO_COOKIE.to_owned().try_into().expect("a legal name");
        Self(Kind::Demo { cookie, people })
    }

    /// The users that proxies connect as, for everybody.
    #[must_use]
    pub fn proxies(&self) -> &[u32] {
        match &self.0 {
            Kind::Configured(ways) => &ways.proxies,
            Kind::Demo { .. } => &[],
        }
    }

    /// Whether there is any way; without one, everybody is refused.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        match &self.0 {
            Kind::Configured(ways) => {
                ways.header.is_some() || ways.flask.is_some() || ways.jwt.is_some()
            }
            Kind::Demo { .. } => true,
        }
    }

    /// Whether all that is configured counts over a Unix socket alone.
    #[must_use]
    pub fn needs_socket(&self) -> bool {
        match &self.0 {
            Kind::Configured(ways) => {
                ways.header.is_some() && ways.flask.is_none() && ways.jwt.is_none()
            }
            Kind::Demo { .. } => false,
        }
    }

    /// Who is asking. Ways that are both right must name the same person; a session that has
    /// merely ended hinders no other way.
    ///
    /// # Errors
    /// Nobody, or nobody who is believed.
    pub fn who(&self, headers: &HeaderMap, peer: Peer, now: Timestamp) -> Result<Asker, Refused> {
        match &self.0 {
            Kind::Configured(ways) => ways.who(headers, peer, now),
            Kind::Demo { cookie, people } => of_demo(headers, peer, cookie, people),
        }
    }
}

impl Ways {
    fn who(&self, headers: &HeaderMap, peer: Peer, now: Timestamp) -> Result<Asker, Refused> {
        let mut found = Found::default();
        if let Some(header) = &self.header {
            found.take(By::Header, header.find(headers, peer))?;
        }
        if let Some(flask) = &self.flask {
            found.take(By::Cookie, flask.find(headers, now))?;
        }
        if let Some(jwt) = &self.jwt {
            if let Some(name) = &jwt.cookie {
                found.take(By::Cookie, jwt.in_cookie(headers, name, now))?;
            }
            if jwt.is_bearer {
                found.take(By::Bearer, jwt.in_bearer(headers, now))?;
            }
        }
        found.asker.ok_or(if found.ended { Refused::Bad(Why::Ended) } else { Refused::Nobody })
    }
}

/// What the ways have found so far.
#[derive(Default)]
struct Found {
    asker: Option<Asker>,
    ended: bool,
}

impl Found {
    fn take(&mut self, by: By, found: Result<Email, Refused>) -> Result<(), Refused> {
        match (found, &self.asker) {
            (Ok(email), Some(asker)) if asker.email != email => Err(Refused::Bad(Why::TwoPeople)),
            (Ok(_), Some(_)) | (Err(Refused::Nobody), _) => Ok(()),
            (Ok(email), None) => {
                self.asker = Some(Asker { email, by });
                Ok(())
            }
            (Err(Refused::Bad(Why::Ended)), _) => {
                self.ended = true;
                Ok(())
            }
            (Err(refused), _) => Err(refused),
        }
    }
}

fn of_demo(
    headers: &HeaderMap,
    peer: Peer,
    cookie: &CookieName,
    people: &[Email],
) -> Result<Asker, Refused> {
    let value = cookies::find(headers, cookie)?;
    if !matches!(peer, Peer::Tcp(address) if address.ip().to_canonical().is_loopback()) {
        return Err(Refused::Bad(Why::NotLoopback));
    }
    let email = people.iter().find(|email| email.as_str().as_bytes() == value);
    let email = email.ok_or(Refused::Bad(Why::NotOfDemo))?.clone();
    Ok(Asker { email, by: By::Cookie })
}
