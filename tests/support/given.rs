//! A world to plan for, from small files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use service_connector::model::action::status_until;
use service_connector::model::actual::{Actual, Backoff, Installed, Piece, Trouble, TroubleKind};
use service_connector::model::desired::{Desired, People};
use service_connector::model::digest::Digest;
use service_connector::model::guard::Limits;
use service_connector::model::home::{
    Absence, AbsenceKind, EnvFacts, FileFacts, HomeFacts, HomeLook, LaptopSeen,
};
use service_connector::model::name::{AccountName, Email, OpId, ServiceId, SkillFile, UserId};
use service_connector::model::plan::waiting::wish_digest;
use service_connector::model::plan::{Plan, Scope, World, plan};
use service_connector::model::registry::{Contract, Endpoint, Entry, Registry, Rendition};
use service_connector::model::registry_entry;
use service_connector::model::secret::Fingerprint;
use service_connector::model::skill::Status;
use service_connector::model::token::{Ask, Binding, Delivery, Grant, Phase, Token, days, later};

use super::files;

/// Everything that a plan is made from.
pub struct Given {
    pub desired: Desired,
    pub people: People,
    pub registry: Registry,
    pub actual: Actual,
    pub scope: Scope,
    pub limits: Limits,
    pub now: Timestamp,
}

impl Given {
    /// Reads a case: what is not in its directory is taken from `tests/plans`.
    pub fn load(case: &Path) -> Self {
        let read = |name: &str| {
            let own = case.join(name);
            let path = if own.exists() { own } else { plans().join(name) };
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        Self::parse(
            &read("desired.yaml"),
            &read("people.yaml"),
            registry(case),
            &read("actual.yaml"),
        )
    }

    /// A world from texts.
    pub fn parse(desired: &str, people: &str, registry: Registry, actual: &str) -> Self {
        let desired = Desired::parse(desired).expect("desired.yaml");
        let people = People::parse(people).expect("people.yaml");
        let raw: RawActual = serde_saphyr::from_str(actual).expect("actual.yaml");
        let now = raw.now;
        let (scope, limits) = (raw.scope.parse(), raw.limits.parse());
        let actual = raw.parse(&desired, &people, &registry);
        Self { desired, people, registry, actual, scope, limits, now }
    }

    pub fn world(&self) -> World<'_> {
        World {
            desired: &self.desired,
            people: &self.people,
            registry: &self.registry,
            actual: &self.actual,
            scope: &self.scope,
            now: self.now,
        }
    }

    pub fn plan(&self) -> Plan {
        plan(&self.world())
    }
}

/// The directory of the golden plans.
pub fn plans() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans")
}

/// The registry of a case: its own entries over the shared ones.
pub fn registry(case: &Path) -> Registry {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for dir in [plans().join("registry"), case.join("registry")] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            texts.insert(stem.to_owned(), fs::read_to_string(&path).expect("an entry"));
        }
    }
    let skills = plans().join("skills");
    let template = |file: &SkillFile| {
        fs::read_to_string(skills.join(file.as_str())).map_err(|error| error.to_string())
    };
    let entries = texts.iter().map(|(stem, text)| {
        let parsed = registry_entry::parse(stem, text, template);
        (stem.parse().expect("a service id"), parsed.map_err(|error| error.to_string()))
    });
    Registry::assemble(entries.collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawActual {
    now: Timestamp,
    #[serde(default)]
    tokens: Vec<RawToken>,
    #[serde(default)]
    installed: BTreeMap<UserId, BTreeMap<AccountName, RawInstalled>>,
    #[serde(default)]
    homes: BTreeMap<AccountName, RawHome>,
    #[serde(default)]
    backoffs: Vec<RawBackoff>,
    #[serde(default)]
    troubles: BTreeMap<ServiceId, RawTrouble>,
    #[serde(default)]
    absent_since: BTreeMap<UserId, Timestamp>,
    #[serde(default)]
    recent_removals: Vec<(UserId, ServiceId)>,
    #[serde(default)]
    scope: RawScope,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    /// Up to 8 hex digits.
    op: String,
    user: UserId,
    service: ServiceId,
    phase: Phase,
    asked: Timestamp,
    ttl_days: Option<u16>,
    /// What was granted; asked + ttl without; never while `issuing`.
    expires: Option<Timestamp>,
    since: Option<Timestamp>,
    /// When, under generation 1 unless told.
    delivered: Option<Timestamp>,
    generation: Option<u64>,
    account: Option<AccountName>,
    email: Option<Email>,
    uid: Option<u32>,
    #[serde(default)]
    unreadable: bool,
    /// Issued at an address that is not the registry's any more.
    #[serde(default)]
    moved: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInstalled {
    generation: u64,
    /// By service: an op, or `expired`.
    pieces: BTreeMap<ServiceId, String>,
    /// Services whose part was made from an older entry and skill.
    #[serde(default)]
    former: Vec<ServiceId>,
    #[serde(default)]
    unconfirmed: bool,
}

/// A home: as recorded, unless told otherwise.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawHome {
    absent: Option<String>,
    absent_kind: Option<AbsenceKind>,
    unknown: Option<String>,
    in_the_way: Option<String>,
    uid: Option<u32>,
    env: Option<Drift>,
    #[serde(default)]
    skills: BTreeMap<SkillFile, Drift>,
    #[serde(default)]
    rules_mode_wrong: bool,
    generation: Option<u64>,
    #[serde(default)]
    laptops: Vec<LaptopSeen>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Drift {
    Missing,
    Changed,
    Mode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBackoff {
    user: UserId,
    service: ServiceId,
    until: Timestamp,
    tries: u32,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrouble {
    kind: TroubleKind,
    until: Timestamp,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawScope {
    user: Option<UserId>,
    service: Option<ServiceId>,
    #[serde(default)]
    retry_now: bool,
}

impl RawScope {
    fn parse(&self) -> Scope {
        let users = self.user.clone().map(|user| BTreeSet::from([user]));
        Scope { users, service: self.service.clone(), retry_now: self.retry_now }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    at_least: Option<usize>,
    percent: Option<usize>,
}

impl RawLimits {
    fn parse(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            at_least: self.at_least.unwrap_or(usual.at_least),
            percent: self.percent.unwrap_or(usual.percent),
            approved: Vec::new(),
        }
    }
}

/// The op id that begins with these digits.
pub fn op(digits: &str) -> OpId {
    format!("sc1:00000000000000aa:{digits:0<32}").parse().expect("an op id")
}

/// What the entry and the skill of a service looked like before.
pub fn former(rendition: &Rendition) -> Rendition {
    let mut former = rendition.clone();
    former.skill_text = former.skill_text.replace("/api/things", "/api/v0/things");
    for (_, template) in former.env.iter_mut().filter(|(_, template)| !template.key) {
        template.before = template.before.replace("internal", "old");
    }
    former
}

impl RawActual {
    fn parse(self, desired: &Desired, people: &People, registry: &Registry) -> Actual {
        let mut actual = Actual { absent_since: self.absent_since, ..Actual::default() };
        actual.recent_removals = self.recent_removals;
        for service in registry.services() {
            for rendition in [service.rendition.clone(), former(&service.rendition)] {
                actual.renditions.insert(rendition.digest(), rendition);
            }
        }
        for raw in self.tokens {
            let services = actual.tokens.entry(raw.user.clone()).or_default();
            let token = raw.parse(people, registry);
            services.entry(token.service.clone()).or_default().push(token);
        }
        for (user, records) in self.installed {
            for (account, raw) in records {
                let record = raw.parse(&user, registry, &actual);
                actual.installed.entry(user.clone()).or_default().insert(account, record);
            }
        }
        for raw in self.backoffs {
            let user = desired.users.get(&raw.user);
            let wish = wish_digest(user.and_then(|user| user.connections.get(&raw.service)));
            let RawBackoff { user, service, until, tries, message } = raw;
            let backoff = Backoff { until, tries, wish, message };
            actual.backoffs.entry(user).or_default().insert(service, backoff);
        }
        for (service, RawTrouble { kind, until, message }) in self.troubles {
            actual.troubles.insert(service, Trouble { kind, until, tries: 1, message });
        }
        actual.homes = looks(self.homes, &actual, desired, people);
        actual
    }
}

/// What looking at everybody's homes gives.
fn looks(
    mut raw: BTreeMap<AccountName, RawHome>,
    actual: &Actual,
    desired: &Desired,
    people: &People,
) -> BTreeMap<AccountName, HomeLook> {
    let users = desired.users.keys().chain(actual.tokens.keys());
    let mut accounts: Vec<AccountName> =
        users.filter_map(|user| Some(people.person(user).ok()?.account)).collect();
    accounts.extend(actual.installed.values().flat_map(BTreeMap::keys).cloned());
    accounts.extend(raw.keys().cloned());
    let record =
        |account: &AccountName| actual.installed.values().find_map(|records| records.get(account));
    let look = |account: AccountName| {
        let home = raw.remove(&account).unwrap_or_default();
        let look = home.parse(record(&account));
        (account, look)
    };
    accounts.sort_unstable();
    accounts.dedup();
    accounts.into_iter().map(look).collect()
}

impl RawToken {
    fn parse(self, people: &People, registry: &Registry) -> Token {
        let person = people.person(&self.user).ok();
        let own: AccountName = self.user.as_str().parse().expect("an account");
        let address = || format!("{}@your-domain.com", self.user).parse().expect("an address");
        let ttl_days = self.ttl_days.unwrap_or(90);
        let expires_at = self.expires.unwrap_or_else(|| later(self.asked, days(ttl_days)));
        let granted = self.phase != Phase::Issuing;
        let account = person.as_ref().map_or(own, |person| person.account.clone());
        Token {
            op: op(&self.op),
            binding: Binding {
                account: self.account.unwrap_or(account),
                uid: self.uid,
                email: self.email.or(person.map(|person| person.email)).unwrap_or_else(address),
            },
            ask: Ask {
                endpoint: Arc::new(endpoint(registry, &self.service, self.moved)),
                ttl_days,
                at: self.asked,
            },
            phase: self.phase,
            since: self.since.unwrap_or(self.asked),
            grant: granted.then(|| Grant {
                token_id: format!("t-{}", self.op).parse().expect("a token id"),
                expires_at,
                fingerprint: fingerprint(&op(&self.op)),
            }),
            delivered: self
                .delivered
                .map(|at| Delivery { at, generation: self.generation.unwrap_or(1) }),
            key_readable: !self.unreadable,
            user: self.user,
            service: self.service,
        }
    }
}

/// What is shown in place of the key of this op: `ff`, then how the op begins.
pub fn fingerprint(op: &OpId) -> Fingerprint {
    format!("ff{}", &op.short()[..6]).parse().expect("hex digits")
}

fn endpoint(registry: &Registry, service: &ServiceId, moved: bool) -> Endpoint {
    let known = registry.service(service).map(|known| known.endpoint.clone());
    let mut endpoint = known.unwrap_or_else(|| Endpoint {
        contract: Contract::V2,
        exchange_url: "https://gone.example.com/exchange".to_owned(),
        revoke_url: "https://gone.example.com/revoke".to_owned(),
        list_url: "https://gone.example.com/tokens".to_owned(),
        health_url: "https://gone.example.com/health".to_owned(),
        secret: "SC_SECRET_GONE".parse().expect("a name"),
        ca_file: None,
        timeout_seconds: 10,
    });
    if moved {
        "https://moved.example.com/exchange".clone_into(&mut endpoint.exchange_url);
    }
    endpoint
}

impl RawInstalled {
    fn parse(self, user: &UserId, registry: &Registry, actual: &Actual) -> Installed {
        let pieces = self.pieces.into_iter().map(|(service, what)| {
            let known = match registry.entries.get(&service) {
                Some(Entry::Usable(known)) => known.rendition.clone(),
                _ => actual.renditions.values().next().expect("a rendition").clone(),
            };
            let rendition = if self.former.contains(&service) { former(&known) } else { known };
            let held = (what != "expired").then(|| op(&what));
            let mut tokens = actual.tokens_of(user, &service).iter();
            let token = tokens.find(|token| Some(&token.op) == held.as_ref());
            let status = token.and_then(Token::expires_at).map_or(Status::Expired, status_until);
            (service, Piece { op: held, rendition: rendition.digest(), status })
        });
        let pieces = pieces.collect();
        let record = files::installed(&actual.renditions, self.generation, pieces);
        Installed { confirmed: !self.unconfirmed, ..record }
    }
}

impl RawHome {
    fn parse(self, record: Option<&Installed>) -> HomeLook {
        if let Some(why) = self.absent {
            return HomeLook::Absent(Absence {
                kind: self.absent_kind.unwrap_or(AbsenceKind::NoAccount),
                why,
            });
        }
        if let Some(why) = self.unknown {
            return HomeLook::Unknown(why);
        }
        let good = |digest: Digest| FileFacts { digest, mode_ok: true };
        let env = record.and_then(|record| drifted(good(record.env), self.env));
        let generation = self.generation.or(record.map(|record| record.generation));
        let mut skills = BTreeMap::new();
        for (file, digest) in record.into_iter().flat_map(|record| &record.skills) {
            let seen = drifted(good(*digest), self.skills.get(file).copied());
            skills.extend(seen.map(|seen| (file.clone(), seen)));
        }
        for file in self.skills.keys() {
            let known = record.is_some_and(|record| record.skills.contains_key(file));
            if !known {
                skills.insert(file.clone(), good(Digest::of("foreign")));
            }
        }
        HomeLook::Seen(HomeFacts {
            uid: self.uid.unwrap_or(1001),
            env: env.map(|file| EnvFacts { file, generation }),
            skills,
            rules_mode_ok: !self.rules_mode_wrong,
            in_the_way: self.in_the_way,
            laptops: self.laptops,
        })
    }
}

fn drifted(file: FileFacts, drift: Option<Drift>) -> Option<FileFacts> {
    match drift {
        None => Some(file),
        Some(Drift::Missing) => None,
        Some(Drift::Changed) => Some(FileFacts { digest: Digest::of("changed"), ..file }),
        Some(Drift::Mode) => Some(FileFacts { mode_ok: false, ..file }),
    }
}
