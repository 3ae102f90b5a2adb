//! Times in HTTP headers (RFC 9110, section 5.6.7).

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};

/// An IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`. The two obsolete forms are nobody's any more.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    let exact = text.len() == 29 && text.ends_with(" GMT") && text.as_bytes()[3] == b',';
    // The parser refuses a wrong weekday, and would take many a form of RFC 2822 besides.
    exact.then(|| DateTimeParser::new().parse_timestamp(text).ok()).flatten()
}

/// Retry-After: seconds, or a time (RFC 9110, section 10.2.3). The time is by the service's clock,
/// so it counts from the Date of the same answer.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<SignedDuration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        // Too many digits are a very long time.
        return Some(text.parse().map_or(SignedDuration::MAX, SignedDuration::from_secs));
    }
    Some(http_date(text)?.duration_since(now).max(SignedDuration::ZERO))
}
