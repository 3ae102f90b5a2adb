//! The service's own list of tokens (v2), page by page.

use std::collections::BTreeSet;
use std::time::Duration;

use url::Url;

use super::answer;
use super::{Exchange, get};
use crate::model::outcome::{Failure, FailureKind};
use crate::model::registry::Endpoint;
use crate::model::sweep::Listed;

/// A list with more pages than this is not read to its end: a million tokens.
pub const MOST_PAGES: usize = 5_000;
/// Nor one that takes longer.
const PATIENCE: Duration = Duration::from_mins(2);
/// A longer cursor is refused, in bytes.
const LONGEST_CURSOR: usize = 1024;

/// A page of the list.
pub(super) struct Page {
    pub(super) tokens: Vec<Listed>,
    /// The cursor of the next one.
    pub(super) next: Option<String>,
}

/// The address of the page behind this cursor; of the first one.
#[must_use]
pub fn page_url(list_url: &str, cursor: Option<&str>) -> String {
    match (cursor, Url::parse(list_url)) {
        (Some(cursor), Ok(mut url)) => {
            url.query_pairs_mut().append_pair("cursor", cursor);
            url.into()
        }
        _ => list_url.to_owned(),
    }
}

impl Exchange {
    /// Every token that the service lists, its pages read one after the other.
    ///
    /// # Errors
    /// A page could not be had or is malformed; the cursors lead in a circle; there is no end to it.
    pub async fn list(&self, endpoint: &Endpoint) -> Result<Vec<Listed>, Failure> {
        match tokio::time::timeout(PATIENCE, self.pages(endpoint)).await {
            Ok(list) => list,
            Err(_) => {
                Err(unusable(endpoint, &format!("it does not end within {} s", PATIENCE.as_secs())))
            }
        }
    }

    async fn pages(&self, endpoint: &Endpoint) -> Result<Vec<Listed>, Failure> {
        let (mut list, mut cursor, mut cursors) = (Vec::new(), None, BTreeSet::new());
        for _ in 0..MOST_PAGES {
            let url = page_url(&endpoint.list_url, cursor.as_deref());
            let call = get(endpoint, &url);
            let page = self.with_secret(endpoint, call, answer::list, Err).await.what?;
            list.extend(page.tokens);
            match page.next {
                None => return Ok(list),
                Some(next) if next.len() > LONGEST_CURSOR => {
                    return Err(unusable(endpoint, "its `next` is longer than 1024 bytes"));
                }
                Some(next) if !cursors.insert(next.clone()) => {
                    return Err(unusable(endpoint, "its `next` leads back to a page before it"));
                }
                next => cursor = next,
            }
        }
        Err(unusable(endpoint, &format!("it has more than {MOST_PAGES} pages")))
    }
}

fn unusable(endpoint: &Endpoint, why: &str) -> Failure {
    let message = get(endpoint, &endpoint.list_url).say(&why);
    Failure { kind: FailureKind::Rejected, message, retry_after: None }
}
