//! Revokes whatever the run asked for, and what earlier runs left.

use jiff::{SignedDuration, Timestamp};

use super::bench::{Bench, By};
use super::journal::Debt;
use super::runner::{Trial, broken};
use crate::exchange::Shown;
use crate::model::action::shown;
use crate::model::registry::{Contract, Endpoint};

/// What a revoke came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paid {
    Confirmed,
    /// A clear no: there is nothing under this name, as far as the service knows.
    Refused,
    Unknown,
}

/// What is to be paid: a copy, since the journal is written meanwhile.
struct Bill {
    endpoint: std::sync::Arc<Endpoint>,
    name: String,
    at: Timestamp,
    token_ids: Vec<String>,
    unclear: bool,
}

impl Bill {
    fn of(debt: &Debt) -> Self {
        Self {
            endpoint: std::sync::Arc::clone(&debt.endpoint),
            name: debt.name.clone(),
            at: debt.at,
            token_ids: debt.token_ids.clone(),
            unclear: debt.unclear > 0,
        }
    }

    fn in_words(&self) -> String {
        let at = shown(self.at);
        match (self.endpoint.contract, self.token_ids.as_slice()) {
            (_, [id, ..]) => format!("the token {id}, issued {at}"),
            (Contract::V2, []) => format!("what was asked for as {}, {at}", self.name),
            (Contract::V1, []) => {
                let end = self.at + SignedDuration::from_hours(24);
                format!(
                    "what was asked for {at} and not answered (contract v1 cannot revoke it; it \
                     ends {})",
                    shown(end)
                )
            }
        }
    }

    /// Contract v1 has no name for it.
    fn is_beyond_us(&self) -> bool {
        self.endpoint.contract == Contract::V1 && self.token_ids.is_empty()
    }
}

impl Bench<'_> {
    /// Revokes what a run that was cut off left; says how many tokens and names that were.
    pub(super) async fn pay_earlier_runs(&self) -> usize {
        let bills = self.bills();
        let count = bills.iter().filter(|bill| !bill.is_beyond_us()).count();
        let left = self.pay_all(&bills).await;
        self.take_steps();
        if left.iter().all(|bill| bill.is_beyond_us()) {
            for bill in &left {
                tracing::warn!("an earlier check left {}", bill.in_words());
            }
            if let Err(error) = self.journal.borrow_mut().clear() {
                tracing::warn!(%error, "the journal cannot be emptied");
            }
            return count;
        }
        count - left.len()
    }

    /// Revokes everything, and says what is left.
    pub(super) async fn pay(&self) -> Vec<String> {
        self.take_steps();
        let bills = self.bills();
        let left = self.pay_all(&bills).await;
        let mut left: Vec<String> = left.iter().map(|bill| bill.in_words()).collect();
        if self.is_v2() && left.is_empty() && !bills.is_empty() {
            left = self.still_listed(&bills).await;
        }
        if left.is_empty()
            && let Err(error) = self.journal.borrow_mut().clear()
        {
            left.push(format!("the journal cannot be emptied: {error}"));
        }
        left
    }

    /// What the journal has, when there is no time to pay.
    pub(super) fn unpaid(&self) -> Vec<String> {
        self.bills().iter().map(Bill::in_words).collect()
    }

    pub(super) fn nothing_left(&self, left: &[String]) -> Trial {
        match left {
            [] => Ok(()),
            [first, ..] => broken(format!(
                "{} may be alive ({} in all); the same command tries again: see {}",
                self.clean(first),
                left.len(),
                self.journal.borrow().path().display()
            )),
        }
    }

    fn bills(&self) -> Vec<Bill> {
        self.journal.borrow().debts.iter().map(Bill::of).collect()
    }

    async fn pay_all<'b>(&self, bills: &'b [Bill]) -> Vec<&'b Bill> {
        self.unanswered.set(0);
        self.paying.set(true);
        let mut left = Vec::new();
        for bill in bills {
            if !self.pay_one(bill).await {
                left.push(bill);
            }
        }
        self.paying.set(false);
        left
    }

    /// By every name there is: a service that is being checked may know only one of them.
    async fn pay_one(&self, bill: &Bill) -> bool {
        let by_ref = match bill.endpoint.contract {
            Contract::V2 => self.pay_by(bill, By::Ref(&bill.name)).await,
            Contract::V1 => Paid::Refused,
        };
        let mut by_ids = Vec::new();
        for id in &bill.token_ids {
            by_ids.push(self.pay_by(bill, By::TokenId(id)).await);
        }
        match by_ref {
            _ if !by_ids.is_empty() && by_ids.iter().all(|paid| *paid == Paid::Confirmed) => true,
            // 404 for a token that its other name has revoked already.
            Paid::Confirmed => !by_ids.contains(&Paid::Unknown),
            Paid::Refused => by_ids.is_empty() && !bill.unclear,
            Paid::Unknown => false,
        }
    }

    async fn pay_by(&self, bill: &Bill, by: By<'_>) -> Paid {
        let (By::TokenId(name) | By::Ref(name)) = by;
        match self.revoke_at(&bill.endpoint, by, Shown::SharedSecret).await {
            Ok(answer) if answer.must_confirm().is_ok() => Paid::Confirmed,
            // A service that says 404 where it should say ok: its own word was there before.
            Ok(answer) if (400..500).contains(&answer.status) => {
                let before = self.journal.borrow().is_revoked(name);
                match answer.status {
                    _ if before => Paid::Confirmed,
                    400 | 404 | 405 | 410 | 422 => Paid::Refused,
                    _ => Paid::Unknown,
                }
            }
            _ => Paid::Unknown,
        }
    }

    /// What may still be alive though every revoke was confirmed.
    async fn still_listed(&self, bills: &[Bill]) -> Vec<String> {
        self.paying.set(true);
        // A list that does not work is another rule's business.
        let listed = self.list().await.unwrap_or_default();
        self.paying.set(false);
        let ours = listed
            .iter()
            .filter(|token| bills.iter().any(|bill| token.client_ref.as_ref() == Some(&bill.name)));
        ours.map(|token| {
            format!("the token {}, which is listed after its revoke", self.clean(&token.token_id))
        })
        .collect()
    }
}
