//! Purchase orders: raised by one person, approved by another (or the same: this is an example).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::business::{By, Conflict, Resource};
use super::lines::{self, Line};
use super::problem::FieldError;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pending,
    Approved,
    Rejected,
}

/// An order at a supplier. Money is in cents.
#[derive(Serialize, Deserialize)]
pub(super) struct PurchaseOrder {
    id: String,
    supplier: String,
    description: String,
    status: Status,
    currency: String,
    lines: Vec<Line>,
    total_cents: u64,
    created_by: String,
    created_at: Timestamp,
    approved_by: Option<String>,
    approved_at: Option<Timestamp>,
}

/// What a new order is made from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    supplier: String,
    #[serde(default)]
    description: String,
    currency: String,
    lines: Vec<Line>,
}

/// An approval says nothing but that it is one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approval {}

impl Resource for PurchaseOrder {
    const PLURAL: &'static str = "orders";
    const ID_PREFIX: &'static str = "PO-";
    const FILTERS: &'static [&'static str] = &["status", "supplier", "created_by"];
    const ACTION: &'static str = "approve";
    const SAMPLES: &'static str = include_str!("samples/orders.json");
    type New = NewOrder;
    type Change = Approval;

    fn create(new: NewOrder, id: String, by: By) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        lines::check_name("supplier", &new.supplier, &mut errors);
        lines::check_currency(&new.currency, &mut errors);
        let total_cents = lines::total(&new.lines, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            id,
            supplier: new.supplier,
            description: new.description,
            status: Status::Pending,
            currency: new.currency,
            lines: new.lines,
            total_cents,
            created_by: by.email,
            created_at: by.at,
            approved_by: None,
            approved_at: None,
        })
    }

    fn change(&mut self, Approval {}: Approval, by: By) -> Result<(), Conflict> {
        match self.status {
            Status::Pending => {
                self.status = Status::Approved;
                (self.approved_by, self.approved_at) = (Some(by.email), Some(by.at));
                Ok(())
            }
            Status::Approved => Err(self.conflict("approved already")),
            Status::Rejected => Err(self.conflict("rejected")),
        }
    }
}

impl PurchaseOrder {
    fn conflict(&self, state: &str) -> Conflict {
        Conflict(format!("{} is {state}: only a pending order is approved", self.id))
    }
}
