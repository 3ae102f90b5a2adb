//! One cookie of a request (RFC 6265, section 4.2).

use axum::http::HeaderMap;
use axum::http::header::COOKIE;

use super::config::CookieName;
use super::{Refused, Why};

/// Longer than a browser keeps (RFC 6265, section 6.1), in bytes.
pub(super) const LONGEST: usize = 4096;

/// The value of the cookie of this name. Two of one name are refused: which one counts would be a
/// matter of taste, and somebody with a page on a neighbouring host can add one.
pub(super) fn find<'a>(headers: &'a HeaderMap, name: &CookieName) -> Result<&'a [u8], Refused> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|c| *c == b';'));
    let mut values = pairs.filter_map(|pair| {
        let at = pair.iter().position(|c| *c == b'=')?;
        let (found, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        (found == name.as_bytes()).then_some(value)
    });
    let value = values.next().ok_or(Refused::Nobody)?;
    if values.next().is_some() {
        return Err(Refused::Bad(Why::CookieTwice));
    }
    if value.len() > LONGEST {
        return Err(Refused::Bad(Why::TooLong));
    }
    Ok(value)
}
