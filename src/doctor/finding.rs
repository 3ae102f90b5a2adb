//! What was found.

use std::fmt::Display;

use serde::Serialize;

/// What a finding is about. In this order they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// `service-connector.yaml`.
    Configuration,
    /// `desired.yaml`, its lock and its history.
    Desired,
    /// `people.yaml`, and whether everybody who is connected is in it.
    People,
    /// The entries of services.
    Registry,
    /// The skill templates.
    Skills,
    /// The database and its directory.
    State,
    /// The key that seals keys at rest.
    SealingKey,
    /// The last pass.
    LastPass,
    /// What runs passes.
    Timer,
    /// Where people click.
    Portal,
    /// The services' shared secrets.
    Secrets,
    /// Whether the services answer.
    Services,
    /// Their clocks and ours.
    Clock,
    /// The way to people's homes.
    Homes,
}

impl Area {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Configuration,
        Self::Desired,
        Self::People,
        Self::Registry,
        Self::Skills,
        Self::State,
        Self::SealingKey,
        Self::LastPass,
        Self::Timer,
        Self::Portal,
        Self::Secrets,
        Self::Services,
        Self::Clock,
        Self::Homes,
    ];

    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Desired => "desired state",
            Self::People => "people",
            Self::Registry => "registry",
            Self::Skills => "skills",
            Self::State => "state",
            Self::SealingKey => "sealing key",
            Self::LastPass => "last pass",
            Self::Timer => "timer",
            Self::Portal => "portal",
            Self::Secrets => "secrets",
            Self::Services => "services",
            Self::Clock => "clock",
            Self::Homes => "homes",
        }
    }
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Somebody should mend it.
    Wrong,
    /// Nobody can tell from here.
    NotChecked,
}

/// One line: what was found, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of what.
    pub area: Area,
    /// How it is.
    pub state: State,
    /// What was found; never a secret.
    pub what: String,
    /// What to do about it: a command, or words. Only where something is wrong.
    pub mend: Option<String>,
}

/// All that was found so far.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn wrong(&mut self, area: Area, what: impl Display, mend: impl Into<String>) {
        self.add(area, State::Wrong, &what, Some(mend.into()));
    }

    pub(super) fn not_checked(&mut self, area: Area, why: impl Display) {
        self.add(area, State::NotChecked, &why, None);
    }

    /// What is told of an area of which nothing else is.
    pub(super) fn ok(&mut self, area: Area, what: impl Display) {
        self.add(area, State::Ok, &what, None);
    }

    pub(super) fn has(&self, area: Area) -> bool {
        self.0.iter().any(|finding| finding.area == area)
    }

    /// Two places may be one directory: what is said of it is said once.
    fn add(&mut self, area: Area, state: State, what: &dyn Display, mend: Option<String>) {
        let (what, mend) = (one_line(&what.to_string()), mend.map(|mend| one_line(&mend)));
        let said = |finding: &Finding| finding.what == what && finding.mend == mend;
        if state != State::Wrong || !self.0.iter().any(said) {
            self.0.push(Finding { area, state, what, mend });
        }
    }

    /// Area by area.
    pub(super) fn told(mut self) -> Vec<Finding> {
        let troubled: Vec<Area> =
            self.0.iter().filter(|f| f.state != State::Ok).map(|f| f.area).collect();
        self.0.retain(|f| f.state != State::Ok || !troubled.contains(&f.area));
        self.0.sort_by_key(|finding| finding.area);
        self.0
    }
}

/// Names of files are other people's words: none steers the terminal.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}
