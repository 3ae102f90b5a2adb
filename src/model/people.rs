//! Who is who: whose address and whose account a user id means.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use super::name::{AccountName, Email, UserId, is_domain};
use super::schema;
use super::yaml::{self, Entries, Place, Version1, YamlError};

/// `people.yaml`: who is who. Two users never share an account or an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    listed: BTreeMap<UserId, Person>,
    domains: Vec<String>,
    by_email: BTreeMap<Email, UserId>,
    by_account: BTreeMap<AccountName, UserId>,
}

/// Whom a user id means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Sent to the service as the token's owner.
    pub email: Email,
    /// Whose home gets the files.
    pub account: AccountName,
}

/// Why a user id means nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPerson {
    /// No entry and no rule.
    #[error("{0} is not in people.yaml, and no rule there covers anyone else")]
    NotListed(UserId),
    /// The address that the rule gives is a listed person's.
    #[error("{user} would have the address {email} by rule, which is {owner}'s in people.yaml")]
    AddressTaken {
        /// Who was asked for.
        user: UserId,
        /// What the rule gives.
        email: Email,
        /// Whose it is.
        owner: UserId,
    },
    /// The account that the rule gives is a listed person's.
    #[error("{user} would have the account {user} by rule, which is {owner}'s in people.yaml")]
    AccountTaken {
        /// Who was asked for.
        user: UserId,
        /// Whose it is.
        owner: UserId,
    },
}

impl People {
    /// Reads `people.yaml`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(text: &str) -> Result<Self, YamlError> {
        let raw: RawPeople = yaml::read(text)?;
        let mut people = Self::default();
        for (id, person) in raw.people.0 {
            people.list(text, &id, person)?;
        }
        for rule in raw.rules {
            let domain = &rule.domain.value.0;
            if people.domains.contains(domain) {
                let message = format!("`{domain}` has a rule already");
                return Err(YamlError::at(text, Place::of(&rule.domain), message));
            }
            people.domains.push(domain.clone());
        }
        Ok(people)
    }

    fn list(&mut self, text: &str, id: &Spanned<UserId>, raw: RawPerson) -> Result<(), YamlError> {
        let place = raw.account.as_ref().map_or(Place::of(id), Place::of);
        let account = match raw.account {
            Some(account) => account.value,
            None => own_account(&id.value),
        };
        let (email_place, email) = (Place::of(&raw.email), raw.email.value);
        let user = &id.value;
        if let Some(other) = self.by_email.insert(email.clone(), user.clone()) {
            let message = format!("the address {email} is {other}'s already");
            return Err(YamlError::at(text, email_place, message));
        }
        if let Some(other) = self.by_account.insert(account.clone(), user.clone()) {
            let message = format!("the account {account} is {other}'s already");
            return Err(YamlError::at(text, place, message));
        }
        self.listed.insert(user.clone(), Person { email, account });
        Ok(())
    }

    /// Whom this user id means: a listed person, else by the first rule, but never so that two
    /// users would share an address or an account.
    ///
    /// # Errors
    /// Says why it means nobody.
    pub fn person(&self, user: &UserId) -> Result<Person, NoPerson> {
        if let Some(person) = self.listed.get(user) {
            return Ok(person.clone());
        }
        let not_listed = || NoPerson::NotListed(user.clone());
        let domain = self.domains.first().ok_or_else(not_listed)?;
        let email: Email = format!("{user}@{domain}").parse().map_err(|_| not_listed())?;
        if let Some(owner) = self.by_email.get(&email) {
            let (user, owner) = (user.clone(), owner.clone());
            return Err(NoPerson::AddressTaken { user, email, owner });
        }
        let account = own_account(user);
        if let Some(owner) = self.by_account.get(&account) {
            return Err(NoPerson::AccountTaken { user: user.clone(), owner: owner.clone() });
        }
        Ok(Person { email, account })
    }

    /// Whose this address is: `person` of the answer always has this very address.
    #[must_use]
    pub fn user_by_email(&self, email: &Email) -> Option<UserId> {
        self.by_email(email).map(|(user, _)| user)
    }

    /// Who has this address: a listed person, else whom the first rule makes of the part before
    /// the `@` as it is. No other address means the same user or the same account.
    #[must_use]
    pub fn by_email(&self, email: &Email) -> Option<(UserId, Person)> {
        if let Some(user) = self.by_email.get(email) {
            return Some((user.clone(), self.listed.get(user)?.clone()));
        }
        let user: UserId = email.parts().0.parse().ok()?;
        let person = self.person(&user).ok()?;
        (person.email == *email).then_some((user, person))
    }

    /// The listed people.
    pub fn listed(&self) -> impl Iterator<Item = (&UserId, &Person)> {
        self.listed.iter()
    }
}

/// The account named like the user.
fn own_account(user: &UserId) -> AccountName {
    user.as_str().parse().expect("user ids and accounts share one alphabet")
}

/// The JSON Schema of `people.yaml`.
#[must_use]
pub fn json_schema() -> Schema {
    schema::of::<RawPeople>("people.yaml: who is who")
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPeople {
    #[serde(rename = "version")]
    _version: Version1,
    /// People by their ids
    people: Entries<UserId, RawPerson>,
    /// Who else is somebody
    #[serde(default, deserialize_with = "yaml::list")]
    rules: Vec<RawRule>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPerson {
    /// Whom the services know
    #[schemars(with = "Email")]
    email: Spanned<Email>,
    /// The account whose home gets the files; the id, without
    #[serde(default, deserialize_with = "yaml::present")]
    #[schemars(with = "AccountName")]
    account: Option<Spanned<AccountName>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRule {
    /// Anyone else of this domain: id and account are the part before the @
    #[schemars(with = "schema::Domain")]
    domain: Spanned<Domain>,
}

/// A domain name in lower case.
struct Domain(String);

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if is_domain(&text) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(de::Error::custom(format!("`{}` is not a domain name", yaml::shown(&text))))
        }
    }
}
