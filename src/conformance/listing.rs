//! The list of tokens (v2).

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::answer::Answer;
use super::bench::{Bench, By, Token};
use super::rule;
use super::runner::{Halt, Runner, Trial, broken, moot};
use crate::exchange::{MOST_PAGES, RawCall, Shown, page_url};

/// So many tokens stand on a page at most.
const PAGE: usize = 200;

/// A token as the list has it.
pub(super) struct Listed {
    pub(super) token_id: String,
    pub(super) client_ref: Option<String>,
    user_email: String,
    expires_at: String,
}

/// One walk through the list.
struct Walk {
    tokens: Vec<Listed>,
    pages: usize,
    longest: usize,
}

pub(super) async fn check(runner: &mut Runner<'_>) {
    let bench = runner.bench;
    runner.check(&rule::LISTED, has_live_tokens(bench)).await;
    runner.check(&rule::NOT_LISTED, drops_revoked(bench)).await;
    runner.check(&rule::PAGES, pages(bench)).await;
}

/// A faulty service may answer with the name of somebody else's token: it must not be revoked.
pub(super) async fn remember_what_is_there(runner: &mut Runner<'_>) {
    if runner.bench.is_v2()
        && let Ok(listed) = runner.bench.list().await
    {
        let ids = listed.into_iter().map(|token| token.token_id);
        runner.bench.others.borrow_mut().extend(ids);
    }
    runner.bench.take_steps();
}

async fn has_live_tokens(bench: &Bench<'_>) -> Trial {
    let tokens = [bench.token().await?, bench.token().await?];
    let listed = bench.list().await?;
    for token in &tokens {
        let Some(listed) = listed.iter().find(|listed| listed.token_id == token.token_id) else {
            return broken(format!(
                "the live token {} is not listed",
                bench.clean(&token.token_id)
            ));
        };
        if let Some(field) = difference(token, listed) {
            let id = bench.clean(&token.token_id);
            return broken(format!("the token {id} is listed with another {field}"));
        }
    }
    Ok(())
}

fn difference(token: &Token, listed: &Listed) -> Option<&'static str> {
    let end = |text: &str| text.parse::<Timestamp>().ok();
    if listed.client_ref.as_ref() != Some(&token.ask.name) {
        Some("client_ref")
    } else if !listed.user_email.eq_ignore_ascii_case(&token.ask.email) {
        Some("user_email")
    } else if end(&listed.expires_at).is_none() || end(&listed.expires_at) != end(&token.expires_at)
    {
        Some("expires_at")
    } else {
        None
    }
}

async fn drops_revoked(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    bench.revoke(By::TokenId(&token.token_id)).await?.must_confirm()?;
    if bench.list().await?.iter().any(|listed| listed.token_id == token.token_id) {
        return broken(format!("the revoked token {} is listed", bench.clean(&token.token_id)));
    }
    Ok(())
}

async fn pages(bench: &Bench<'_>) -> Trial {
    if bench.subject.many {
        for _ in 0..=PAGE {
            bench.token().await?;
        }
    }
    bench.take_steps();
    let walk = bench.walk().await?;
    if walk.longest > PAGE {
        return broken(format!("a page has {} tokens", walk.longest));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = walk.tokens.iter().find(|token| !seen.insert(&token.token_id)) {
        return broken(format!("the token {} is listed twice", bench.clean(&twice.token_id)));
    }
    if walk.pages == 1 {
        let count = walk.tokens.len();
        return moot(format!("{count} tokens are one page: --many issues 201 more for this"));
    }
    Ok(())
}

impl Bench<'_> {
    pub(super) async fn list_page(
        &self,
        cursor: Option<&str>,
        shown: Shown<'_>,
    ) -> Result<Answer, Halt> {
        let url = page_url(&self.subject.endpoint.list_url, cursor);
        self.call(&RawCall { url: &url, body: None, idempotency_key: None, shown }).await
    }

    /// Every token that the service lists.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, Halt> {
        Ok(self.walk().await?.tokens)
    }

    async fn walk(&self) -> Result<Walk, Halt> {
        let mut walk = Walk { tokens: Vec::new(), pages: 0, longest: 0 };
        let (mut cursor, mut cursors) = (None, BTreeSet::new());
        while walk.pages < MOST_PAGES {
            let page = self.list_page(cursor.as_deref(), Shown::SharedSecret).await?;
            let json = page.json()?;
            let Some(tokens) = json.get("tokens").and_then(Value::as_array) else {
                return broken(format!("{}, which has no list `tokens`", page.story));
            };
            walk.pages += 1;
            walk.longest = walk.longest.max(tokens.len());
            for token in tokens {
                let Some(token) = listed(token) else {
                    return broken(format!("{}: a token lacks a field", page.story));
                };
                walk.tokens.push(token);
            }
            match json.get("next") {
                None | Some(Value::Null) => return Ok(walk),
                Some(Value::String(next)) if cursors.insert(next.clone()) => {
                    cursor = Some(next.clone());
                }
                Some(Value::String(_)) => return broken("`next` leads back to a page before it"),
                Some(_) => return broken(format!("{}: `next` is not a text", page.story)),
            }
        }
        moot(format!("the list has more than {MOST_PAGES} pages"))
    }
}

fn listed(token: &Value) -> Option<Listed> {
    let text = |field: &str| Some(token.get(field)?.as_str()?.to_owned());
    Some(Listed {
        token_id: text("token_id")?,
        // Somebody else's may have none.
        client_ref: text("client_ref"),
        user_email: text("user_email")?,
        expires_at: text("expires_at")?,
    })
}
