//! The names of things. Each type is made only by parsing, so one that exists is a legal one.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is not a legal name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not {kind}: {rule}")]
pub struct NameError {
    shown: String,
    kind: &'static str,
    rule: &'static str,
}

impl NameError {
    fn new(text: &str, kind: &'static str, rule: &'static str) -> Self {
        // Someone else's bytes go to a terminal: escaped, and not endless.
        let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
        if text.chars().nth(64).is_some() {
            shown.push('…');
        }
        Self { shown, kind, rule }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $is_legal:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let is_legal: fn(&str) -> bool = $is_legal;
                if is_legal(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(NameError::new(text, $kind, $rule))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($kind)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

name!(
    /// A person's stable id in `desired.yaml` and `people.yaml`.
    UserId,
    "a user id",
    "a lower-case letter or _ first, then at most 31 of a-z 0-9 . _ -, without `..`",
    is_unix_name
);
name!(
    /// A Linux account on the server.
    AccountName,
    "an account name",
    "a lower-case letter or _ first, then at most 31 of a-z 0-9 . _ -, without `..`",
    is_unix_name
);
name!(
    /// A service's id in the registry.
    ServiceId,
    "a service id",
    "a lower-case letter first, then at most 31 of a-z 0-9 _",
    |text| starts_with(text, |c| c.is_ascii_lowercase())
        && text.len() <= 32
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
);
name!(
    /// The name of an environment variable.
    EnvName,
    "the name of a variable",
    "an upper-case letter first, then at most 63 of A-Z 0-9 _",
    |text| starts_with(text, |c| c.is_ascii_uppercase())
        && text.len() <= 64
        && text.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
);
name!(
    /// The file name of a skill: the only kind of file that we ever remove from `.claude_rules`.
    SkillFile,
    "the name of a skill file",
    "`sc_`, then at most 60 of a-z 0-9 _, then `.md`",
    |text| text
        .strip_prefix("sc_")
        .and_then(|rest| rest.strip_suffix(".md"))
        .is_some_and(|stem| (1..=60).contains(&stem.len())
            && stem.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'))
);
name!(
    /// The id of one database of ours; part of every op id, so that two instances on one service
    /// leave each other's tokens alone.
    InstanceId,
    "an instance id",
    "16 hex digits",
    |text| text.len() == 16 && is_hex(text)
);
name!(
    /// The name that *we* give a token before we ask for it: `sc1:<instance>:<random>`. It never
    /// changes, and it is the idempotency key of the exchange.
    OpId,
    "an op id",
    "sc1:<16 hex digits>:<32 hex digits>",
    |text| text
        .strip_prefix("sc1:")
        .and_then(|rest| rest.split_once(':'))
        .is_some_and(|(instance, random)| instance.len() == 16
            && is_hex(instance)
            && random.len() == 32
            && is_hex(random))
);
name!(
    /// The name that the *service* gives a token: opaque, printable, bounded.
    TokenId,
    "a token id",
    "1 to 256 of A-Z a-z 0-9 . _ : @ / + = -",
    |text| (1..=256).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"._:@/+=-".contains(&c))
);
name!(
    /// A laptop, as its sync names itself in `.service_env_seen`.
    LaptopId,
    "a laptop id",
    "16 hex digits",
    |text| text.len() == 16 && is_hex(text)
);

impl OpId {
    /// A new op id of this instance. `random` comes from the caller: the model has no randomness.
    #[must_use]
    pub fn new(instance: &InstanceId, random: u128) -> Self {
        Self(format!("sc1:{instance}:{random:032x}").into())
    }

    /// Whether this instance gave it.
    #[must_use]
    pub fn is_of(&self, instance: &InstanceId) -> bool {
        self.0.split(':').nth(1) == Some(instance.as_str())
    }

    /// The random part alone: long enough to tell op ids apart where people read them.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[self.0.len() - 32..self.0.len() - 24]
    }
}

/// An e-mail address: one `@`, ASCII, kept in lower case, since that is how addresses are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Email(Box<str>);

impl Email {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before and after the `@`.
    #[must_use]
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('@').unwrap_or((&self.0, ""))
    }
}

impl FromStr for Email {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let atom = |c: u8| c.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&c);
        let legal = text.len() <= 254
            && text.split_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && local.bytes().all(atom) && is_domain(domain)
            });
        if legal {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(NameError::new(text, "an e-mail address", "one @, ASCII, a domain after it"))
        }
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for Email {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The value of an environment variable, in the alphabet that every reader of `.env` files reads
/// alike without quotes (DESIGN, "`.service_env`"). It may be a key: it has no `Debug`, and its
/// error does not show it.
pub struct EnvValue(zeroize::Zeroizing<String>);

impl EnvValue {
    /// Parses a value.
    ///
    /// # Errors
    /// Says which rule is broken; never shows the value.
    pub fn parse(text: &str) -> Result<Self, EnvValueError> {
        if text.is_empty() || text.len() > 4098 {
            return Err(EnvValueError::Length(text.len()));
        }
        let stem = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
        if stem.is_empty() || stem.len() > 4096 {
            return Err(EnvValueError::Length(text.len()));
        }
        let foreign = |c: u8| !(c.is_ascii_alphanumeric() || b"_.+/:@%,-".contains(&c));
        if let Some(place) = stem.bytes().position(foreign) {
            return Err(EnvValueError::Character(place + 1));
        }
        // `A:=` is an assignment in some shells' expansions and read differently.
        if stem.len() < text.len() && stem.ends_with(':') {
            return Err(EnvValueError::ColonBeforeEquals);
        }
        Ok(Self(zeroize::Zeroizing::new(text.to_owned())))
    }

    /// The value, to write it into an env file.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Why a text cannot be the value of a variable. It never carries the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvValueError {
    /// Empty or too long, in bytes.
    #[error("it has {0} characters; 1 to 4096 are allowed")]
    Length(usize),
    /// The first character that is not allowed, counted from 1.
    #[error("character {0} is not one of A-Z a-z 0-9 _ . + / : @ % , -")]
    Character(usize),
    /// `:=` or `:==` at the end.
    #[error("`=` at the end may not follow `:`")]
    ColonBeforeEquals,
}

/// A domain name: labels of letters, digits and hyphens.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    !text.is_empty()
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        })
}

fn is_unix_name(text: &str) -> bool {
    starts_with(text, |c| c.is_ascii_lowercase() || c == b'_')
        && text.len() <= 32
        && !text.contains("..")
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-".contains(&c))
}

fn starts_with(text: &str, first: fn(u8) -> bool) -> bool {
    text.bytes().next().is_some_and(first)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c))
}
