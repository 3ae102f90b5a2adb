//! Deals: moved from stage to stage until they are won or lost.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::business::{By, Conflict, Resource};
use super::lines;
use super::problem::FieldError;

/// The stages, in the order of the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Lead,
    Qualified,
    Proposal,
    Won,
    Lost,
}

impl Stage {
    /// One step forward, or lost from any open stage; won and lost are the end.
    fn may_move_to(self, next: Self) -> bool {
        match self {
            Self::Lead => matches!(next, Self::Qualified | Self::Lost),
            Self::Qualified => matches!(next, Self::Proposal | Self::Lost),
            Self::Proposal => matches!(next, Self::Won | Self::Lost),
            Self::Won | Self::Lost => false,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lead => "lead",
            Self::Qualified => "qualified",
            Self::Proposal => "proposal",
            Self::Won => "won",
            Self::Lost => "lost",
        })
    }
}

/// A deal with a company. Money is in cents.
#[derive(Serialize, Deserialize)]
pub(super) struct Deal {
    id: String,
    title: String,
    company: String,
    stage: Stage,
    value_cents: u64,
    currency: String,
    created_by: String,
    created_at: Timestamp,
    moved_by: Option<String>,
    moved_at: Option<Timestamp>,
}

/// What a new deal is made from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDeal {
    title: String,
    company: String,
    value_cents: u64,
    currency: String,
}

/// Where a deal is to go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Move {
    stage: Stage,
}

impl Resource for Deal {
    const PLURAL: &'static str = "deals";
    const ID_PREFIX: &'static str = "D-";
    const FILTERS: &'static [&'static str] = &["stage", "company", "created_by"];
    const ACTION: &'static str = "move";
    const SAMPLES: &'static str = include_str!("samples/deals.json");
    type New = NewDeal;
    type Change = Move;

    fn create(new: NewDeal, id: String, by: By) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        lines::check_name("title", &new.title, &mut errors);
        lines::check_name("company", &new.company, &mut errors);
        lines::check_currency(&new.currency, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            id,
            title: new.title,
            company: new.company,
            stage: Stage::Lead,
            value_cents: new.value_cents,
            currency: new.currency,
            created_by: by.email,
            created_at: by.at,
            moved_by: None,
            moved_at: None,
        })
    }

    fn change(&mut self, Move { stage }: Move, by: By) -> Result<(), Conflict> {
        if !self.stage.may_move_to(stage) {
            let (id, from) = (&self.id, self.stage);
            return Err(Conflict(format!("{id} is {from}: it cannot move to {stage}")));
        }
        self.stage = stage;
        (self.moved_by, self.moved_at) = (Some(by.email), Some(by.at));
        Ok(())
    }
}
