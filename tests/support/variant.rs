//! One connection in all its variants.

use jiff::{SignedDuration, Timestamp};
use service_connector::model::registry::Contract;
use service_connector::model::token::{days, later};

use super::fleet::{change_service, empty_home, newcomers, service, settled_at, unwant, user};
use super::given::Given;
use super::services::{Behaviour, Services};

/// One connection, with all that makes a difference to it.
#[derive(Debug, Clone)]
pub struct Variant {
    pub ttl_days: u16,
    pub renew_before_days: u16,
    pub grace_days: u16,
    pub contract: Contract,
    pub life: Option<SignedDuration>,
    /// How old its token is; none: there is none.
    pub age_days: Option<u16>,
    pub wish: WishKind,
    pub binding: BindingKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WishKind {
    Plain,
    RotateAfter(i64),
    Leaked(i64),
    Paused,
    Shorter,
    Unwanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindingKind {
    Same,
    OtherEmail,
    OtherAccount,
    OtherUid,
}

impl Variant {
    pub fn plain(ttl_days: u16) -> Self {
        Self {
            ttl_days,
            renew_before_days: 15,
            grace_days: 7,
            contract: Contract::V2,
            life: None,
            age_days: None,
            wish: WishKind::Plain,
            binding: BindingKind::Same,
        }
    }

    pub fn given(&self) -> (Given, Services) {
        let asked = self.age_days.map(|age| format!("{}", later(now(), -days(age))));
        let mut given = match &asked {
            Some(asked) => settled_at(1, 1, asked),
            None => newcomers(1, 1),
        };
        change_service(&mut given, &service(0), |entry| {
            entry.ttl_days = self.ttl_days;
            entry.renew_before_days = self.renew_before_days;
            entry.grace_days = self.grace_days;
            entry.endpoint.contract = self.contract;
        });
        self.change_token(&mut given);
        self.change_wish(&mut given);
        let mut services = Services::default();
        let behaviour = Behaviour { life: self.life, ..Behaviour::default() };
        services.set("s00", behaviour);
        (given, services)
    }

    fn change_token(&self, given: &mut Given) {
        let Some(tokens) = given.actual.tokens.get_mut(&user(0)) else { return };
        let token = &mut tokens.get_mut(&service(0)).expect("a token")[0];
        token.ask.ttl_days = self.ttl_days;
        let mut endpoint = (*token.ask.endpoint).clone();
        endpoint.contract = self.contract;
        token.ask.endpoint = endpoint.into();
        let life = self.life.unwrap_or_else(|| days(self.ttl_days));
        token.grant.as_mut().expect("a grant").expires_at = later(token.ask.at, life);
        match self.binding {
            BindingKind::Same => {}
            BindingKind::OtherEmail => token.binding.email = "x@your-domain.com".parse().unwrap(),
            BindingKind::OtherUid => token.binding.uid = Some(4),
            BindingKind::OtherAccount => {
                token.binding.account = "former".parse().unwrap();
                let records = given.actual.installed.get_mut(&user(0)).unwrap();
                let (account, record) = records.pop_first().unwrap();
                records.insert("former".parse().unwrap(), record);
                let seen = given.actual.homes.insert(account, empty_home());
                given.actual.homes.insert("former".parse().unwrap(), seen.unwrap());
            }
        }
    }

    fn change_wish(&self, given: &mut Given) {
        if self.wish == WishKind::Unwanted {
            return unwant(given, 0, 0);
        }
        let entry = given.desired.users.get_mut(&user(0)).unwrap();
        let wish = entry.connections.get_mut(&service(0)).unwrap();
        let hours = |hours: i64| Some(later(now(), SignedDuration::from_hours(hours)));
        match self.wish {
            WishKind::Plain | WishKind::Unwanted => {}
            WishKind::RotateAfter(at) => wish.rotate_after = hours(at),
            WishKind::Leaked(at) => wish.revoke_issued_before = hours(at),
            WishKind::Paused => wish.paused = true,
            WishKind::Shorter => wish.ttl_days = Some((self.ttl_days / 2).max(1)),
        }
    }
}

pub fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}
