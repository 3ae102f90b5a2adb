//! The lines of orders and invoices, and the checks that the kinds share.

use serde::{Deserialize, Serialize};

use super::problem::FieldError;

/// One line of an order or an invoice.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    item: String,
    quantity: u32,
    unit_price_cents: u64,
}

/// The sum of the lines, in cents.
pub(super) fn total(lines: &[Line], errors: &mut Vec<FieldError>) -> u64 {
    if lines.is_empty() {
        errors.push(FieldError::new("lines", "at least one line is needed"));
    }
    for (place, line) in lines.iter().enumerate() {
        check_name(&format!("lines[{place}].item"), &line.item, errors);
        if line.quantity == 0 {
            errors.push(FieldError::new(format!("lines[{place}].quantity"), "must be at least 1"));
        }
    }
    let sum = lines.iter().try_fold(0_u64, |sum, line| {
        sum.checked_add(line.unit_price_cents.checked_mul(line.quantity.into())?)
    });
    sum.unwrap_or_else(|| {
        errors.push(FieldError::new("lines", "the total is too large"));
        0
    })
}

/// A name is there and not endless.
pub(super) fn check_name(field: &str, text: &str, errors: &mut Vec<FieldError>) {
    if text.trim().is_empty() || text.chars().count() > 200 {
        errors.push(FieldError::new(field, "must have 1 to 200 characters"));
    }
}

/// A currency is a code of three letters (ISO 4217).
pub(super) fn check_currency(text: &str, errors: &mut Vec<FieldError>) {
    if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        errors.push(FieldError::new("currency", "must be three capital letters, such as EUR"));
    }
}
