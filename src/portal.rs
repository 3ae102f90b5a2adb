//! What the portal knows and may do: it edits the desired state, and reads what passes recorded. It
//! has no shared secret and no sealing key, looks into no home and writes nothing else.

mod changes;
mod click;
mod desired_text;
mod fleet;
mod readers;
mod states;
mod view;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::{
    CardJson, HealthJson, HealthStatus, LaptopJson, ServiceJson, ShownPlanJson, UserJson, VERSION,
};
use crate::desired_file::{DesiredFile, LoadError};
use crate::editor::{Editor, RefusedEdit};
use crate::model::actual::TroubleKind;
use crate::model::card::Facts;
use crate::model::desired::DesiredUser;
use crate::model::name::{Email, ServiceId, UserId};
use crate::model::registry::{Entry, Registry};
use crate::model::yaml::YamlError;
use crate::observe::{IntentError, Places};
use crate::registry_dir::DirError;
use crate::store::{Health, OfUser, Shown, StoreError};

pub use click::{Click, Followed};
pub use fleet::FleetQuery;
pub use view::View;

use readers::Readers;
use states::{StateOf, States};
use view::Views;

/// What is none of the files' business.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Who may see the fleet and offboard people.
    pub admins: BTreeSet<UserId>,
    /// Whether admins may approve here what the guard holds.
    pub may_approve: bool,
    /// Where the page is.
    pub page: String,
}

/// Who asks, once the address was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The id in the desired state.
    pub user: UserId,
    /// The verified address.
    pub email: Email,
    /// Whether the fleet may be seen.
    pub admin: bool,
}

/// Why the portal cannot answer, or will not.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// The state.
    #[error("what the last passes recorded cannot be read now")]
    State(#[from] Arc<StoreError>),
    /// The registry.
    #[error("the registry cannot be read now")]
    Registry(#[source] Arc<DirError>),
    /// Who is who.
    #[error("who is who cannot be read now")]
    People(#[source] Arc<IntentError>),
    /// The desired state.
    #[error("the desired state cannot be read now")]
    Desired(#[source] Arc<LoadError>),
    /// The same, part of it.
    #[error("the desired state is not usable")]
    DesiredPart(#[from] YamlError),
    /// No such service.
    #[error("there is no service `{0}`")]
    NoService(ServiceId),
    /// No such person.
    #[error("there is nobody `{0}` here")]
    Nobody(UserId),
    /// Not for this person, or not now; the text is for them.
    #[error("{0}")]
    NotAllowed(String),
    /// Not as things are; the text is for who asked.
    #[error("{0}")]
    NotNow(String),
    /// The edit was not made.
    #[error(transparent)]
    Refused(#[from] RefusedEdit),
    /// An approval cannot be left for the next pass.
    #[error("an approval could not be left for the next pass")]
    Approval(#[source] io::Error),
    /// There is no such file, or it cannot be read.
    #[error("it cannot be read")]
    File(#[from] io::Error),
    /// Nobody is answered any more.
    #[error("the portal is being stopped")]
    Stopping,
}

impl From<StoreError> for PortalError {
    fn from(error: StoreError) -> Self {
        Self::State(Arc::new(error))
    }
}

/// The portal, without its doors.
pub struct Portal {
    places: Places,
    rules: Rules,
    views: Arc<Views>,
    readers: Arc<Readers>,
    states: States,
    fleet: fleet::Last,
    editor: Editor,
    changed: watch::Sender<u64>,
    clock: fn() -> Timestamp,
}

impl Portal {
    /// The portal of these places.
    ///
    /// # Errors
    /// There is no thread to be had for the edits, or for reading the state.
    pub fn new(places: Places, rules: Rules, clock: fn() -> Timestamp) -> io::Result<Self> {
        let (changed, _) = watch::channel(0);
        let views = Arc::new(Views::new(places.clone(), clock));
        let (tell, seen) = (changed.clone(), Arc::clone(&views));
        let show = move |written| {
            seen.was_written(written);
            tell.send_modify(|times| *times += 1);
        };
        let editor = Editor::start(DesiredFile::new(&places.desired), clock, show)?;
        let readers = Arc::new(Readers::new(places.state.clone()));
        Ok(Self {
            states: States::start(Arc::clone(&readers))?,
            views,
            readers,
            fleet: fleet::Last::default(),
            editor,
            changed,
            clock,
            rules,
            places,
        })
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Where the page is.
    #[must_use]
    pub fn page(&self) -> &str {
        &self.rules.page
    }

    /// Whether somebody may see the fleet.
    #[must_use]
    pub fn is_admin(&self, user: &UserId) -> bool {
        self.rules.admins.contains(user)
    }

    /// What the files say: all of an answer is made from one view.
    ///
    /// # Errors
    /// The portal is being stopped.
    pub async fn view(&self) -> Result<Arc<View>, PortalError> {
        self.views.now().await
    }

    /// Whose this verified address is; none: nobody's that we know.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn known(&self, view: &View, email: &Email) -> Result<Option<Known>, PortalError> {
        let Some(user) = view.people()?.user_by_email(email) else { return Ok(None) };
        let admin = self.is_admin(&user) && !view.desired()?.user(&user)?.disabled;
        Ok(Some(Known { user, email: email.clone(), admin }))
    }

    /// All that this person's card shows.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn card(&self, who: &Known) -> Result<CardJson, PortalError> {
        let state = self.states.of(&who.user).await?;
        let view = self.view().await?;
        let person = Person::new(who, &view, &state)?;
        let services = person.services().into_iter();
        let services = services.map(|id| person.service(id, self)).collect();
        Ok(CardJson {
            version: VERSION,
            user: UserJson {
                id: who.user.clone(),
                email: who.email.clone(),
                admin: who.admin,
                disabled: person.wanted.disabled,
            },
            revision: view.desired()?.revision,
            at: self.now(),
            page: self.rules.page.clone(),
            services,
            notice: view.notice().map(|wrong| words_of(wrong, who.admin)),
            generation: person.generation,
            laptops: person.laptops,
        })
    }

    /// How a service is, as the last pass found it.
    ///
    /// # Errors
    /// There is none of that id, or it cannot be told.
    pub fn health(&self, view: &View, id: &ServiceId) -> Result<HealthJson, PortalError> {
        if !view.registry()?.entries.contains_key(id) {
            return Err(PortalError::NoService(id.clone()));
        }
        let health = self.recorded_health()?;
        let of_it = health.as_ref().and_then(|health| health.services.get(id));
        let call = of_it.and_then(|of_it| of_it.last_call.as_ref());
        // What else is known of it is for administrators.
        let (status, message) = health_of(health.as_ref(), id);
        let message = if status == HealthStatus::Ok { String::new() } else { message };
        Ok(HealthJson {
            version: VERSION,
            service_id: id.clone(),
            status,
            message,
            at: call.map(|call| call.at),
            took_ms: call.map(|call| call.took_ms),
        })
    }

    fn recorded_health(&self) -> Result<Option<Health>, PortalError> {
        let shown = self.readers.with(|store| store.shown(Shown::Health))?;
        // One that this version cannot read is as good as none.
        Ok(shown.and_then(|(_, body)| serde_json::from_str(&body).ok()))
    }

    /// The plan of the last pass of everything.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn plan(&self) -> Result<ShownPlanJson, PortalError> {
        let shown = self.readers.with(|store| store.shown(Shown::Plan))?;
        let (at, plan) = shown.map(|(at, body)| (at, serde_json::from_str(&body).ok())).unzip();
        Ok(ShownPlanJson { version: VERSION, at, plan: plan.flatten() })
    }

    /// The picture of a service: SVG.
    ///
    /// # Errors
    /// It has none, or it cannot be read.
    pub fn icon(&self, view: &View, id: &ServiceId) -> Result<Vec<u8>, PortalError> {
        let icon = view.registry()?.service(id).and_then(|service| service.icon.as_ref());
        let icon = icon.ok_or_else(|| PortalError::NoService(id.clone()))?;
        Ok(fs::read(self.places.registry.join(icon))?)
    }
}

/// The newest generation that was put. While one is being put, it is that of the newest key before.
fn delivered(of_user: &OfUser) -> Option<u64> {
    let put = of_user.installed.values().filter(|home| home.confirmed);
    let tokens = of_user.tokens.values().flatten().filter_map(|token| token.delivered);
    put.map(|home| home.generation).chain(tokens.map(|delivery| delivery.generation)).max()
}

/// What is said of a desired state that cannot be used.
fn words_of(wrong: &str, to_admin: bool) -> String {
    let all = "The desired state cannot be used as it is, and nothing changes until it is mended.";
    if to_admin {
        format!("{all} {wrong}")
    } else {
        format!("{all} Tell whoever runs this portal.")
    }
}

/// How a service is, and what is wrong with it.
fn health_of(health: Option<&Health>, id: &ServiceId) -> (HealthStatus, String) {
    let Some(of_it) = health.and_then(|health| health.services.get(id)) else {
        return (HealthStatus::Unknown, String::new());
    };
    match (&of_it.trouble, &of_it.last_call) {
        (None, None) => (HealthStatus::Unknown, String::new()),
        (None, Some(call)) if call.is_answered() => {
            (HealthStatus::Ok, of_it.list_frozen.clone().unwrap_or_default())
        }
        (None, Some(_)) => (HealthStatus::Down, "the last call came to nothing".to_owned()),
        (Some(trouble), _) => {
            let status = match trouble.kind {
                TroubleKind::SecretRefused => HealthStatus::SecretRefused,
                TroubleKind::Down | TroubleKind::SkewedAndShut => HealthStatus::Down,
                TroubleKind::ClockSkew => HealthStatus::ClockSkew,
            };
            (status, trouble.message.clone())
        }
    }
}

/// One person, with all that their card is made from.
struct Person<'a> {
    who: &'a Known,
    registry: &'a Registry,
    wanted: Arc<DesiredUser>,
    of_user: &'a OfUser,
    laptops: Vec<LaptopJson>,
    generation: Option<u64>,
}

impl<'a> Person<'a> {
    fn new(who: &'a Known, view: &'a View, state: &'a StateOf) -> Result<Self, PortalError> {
        let of_user = &*state.of_user;
        let generation = delivered(of_user);
        Ok(Self {
            who,
            registry: view.registry()?,
            wanted: view.desired()?.user(&who.user)?,
            of_user,
            laptops: of_user.laptops.iter().map(|seen| LaptopJson::of(seen, generation)).collect(),
            generation,
        })
    }

    /// Every service that can be used, and those that something of the person's is left of.
    fn services(&self) -> BTreeSet<&ServiceId> {
        let usable = self.registry.services().filter(|service| !service.retired);
        let homes = self.of_user.installed.values().flat_map(|home| home.pieces.keys());
        let broken = self.registry.entries.iter().filter(|(_, e)| matches!(e, Entry::Broken(_)));
        usable
            .map(|service| &service.id)
            .chain(broken.map(|(id, _)| id))
            .chain(self.wanted.connections.keys())
            .chain(self.of_user.tokens.keys())
            .chain(homes)
            .collect()
    }

    /// One connection; none: it is not among those.
    fn connection(&self, id: &ServiceId, portal: &Portal) -> Option<ServiceJson> {
        self.services().contains(id).then(|| self.service(id, portal))
    }

    fn service(&self, id: &ServiceId, portal: &Portal) -> ServiceJson {
        let service = self.registry.service(id);
        let wish = self.wanted.connections.get(id);
        let facts = Facts {
            service: id,
            entry: self.registry.entries.get(id),
            allowed: service
                .is_none_or(|service| service.allow.covers(&self.who.user, &self.who.email)),
            disabled: self.wanted.disabled,
            wish,
            tokens: self.of_user.tokens.get(id).map_or(&[], Vec::as_slice),
            installed: Some(&self.of_user.installed),
            backoff: self.of_user.backoffs.get(id),
            trouble: self.of_user.troubles.get(id),
            now: portal.now(),
        };
        let standing = facts.standing(&self.of_user.kept_back);
        let days = wish.and_then(|wish| wish.ttl_days);
        ServiceJson::of(id, standing, wish.is_some(), days, &self.laptops, &portal.rules.page)
    }
}
