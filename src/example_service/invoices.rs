//! Invoices: drafted, then sent to the customer.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::business::{By, Conflict, Resource};
use super::lines::{self, Line};
use super::problem::FieldError;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Draft,
    Sent,
    Paid,
}

/// An invoice to a customer. Money is in cents.
#[derive(Serialize, Deserialize)]
pub(super) struct Invoice {
    id: String,
    customer: String,
    status: Status,
    currency: String,
    due_date: Date,
    lines: Vec<Line>,
    total_cents: u64,
    created_by: String,
    created_at: Timestamp,
    sent_by: Option<String>,
    sent_at: Option<Timestamp>,
}

/// What a new invoice is made from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvoice {
    customer: String,
    currency: String,
    due_date: Date,
    lines: Vec<Line>,
}

/// Sending needs nothing more to be said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sending {}

impl Resource for Invoice {
    const PLURAL: &'static str = "invoices";
    const ID_PREFIX: &'static str = "INV-";
    const FILTERS: &'static [&'static str] = &["status", "customer", "created_by"];
    const ACTION: &'static str = "send";
    const SAMPLES: &'static str = include_str!("samples/invoices.json");
    type New = NewInvoice;
    type Change = Sending;

    fn create(new: NewInvoice, id: String, by: By) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        lines::check_name("customer", &new.customer, &mut errors);
        lines::check_currency(&new.currency, &mut errors);
        let total_cents = lines::total(&new.lines, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            id,
            customer: new.customer,
            status: Status::Draft,
            currency: new.currency,
            due_date: new.due_date,
            lines: new.lines,
            total_cents,
            created_by: by.email,
            created_at: by.at,
            sent_by: None,
            sent_at: None,
        })
    }

    fn change(&mut self, Sending {}: Sending, by: By) -> Result<(), Conflict> {
        match self.status {
            Status::Draft => {
                self.status = Status::Sent;
                (self.sent_by, self.sent_at) = (Some(by.email), Some(by.at));
                Ok(())
            }
            Status::Sent => Err(self.conflict("sent already")),
            Status::Paid => Err(self.conflict("paid")),
        }
    }
}

impl Invoice {
    fn conflict(&self, state: &str) -> Conflict {
        Conflict(format!("{} is {state}: only a draft is sent", self.id))
    }
}
