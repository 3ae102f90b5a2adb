//! Requests that are not as they should be.

use serde_json::{Value, json};

use super::answer::Answer;
use super::bench::Bench;
use super::rule;
use super::runner::{Halt, Runner, Trial, broken};
use crate::exchange::{RawCall, Shown};

/// 404 and 405 are of another address, 401 and 403 of another secret: none says what is wrong.
const REFUSALS: [u16; 4] = [400, 413, 415, 422];

pub(super) async fn check(runner: &mut Runner<'_>) {
    let bench = runner.bench;
    runner.check(&rule::MALFORMED, malformed(bench)).await;
}

async fn malformed(bench: &Bench<'_>) -> Trial {
    for body in wrong_asks(bench) {
        let ask = bench.new_ask();
        // Under its own name, since a careless service issues all the same.
        let body = named(bench, body, &ask.name);
        let answer = bench.exchange_raw(&ask.name, body, &ask.name, Shown::SharedSecret).await?;
        must_be_refused(&answer)?;
    }
    for body in ["", "{", "[]", "null", "{}", r#"{"token_id": 7}"#, r#"{"token_id": null}"#] {
        let (url, shown) = (&bench.subject.endpoint.revoke_url, Shown::SharedSecret);
        let body = Some(body.as_bytes().to_vec());
        let raw = RawCall { url, body, idempotency_key: None, shown };
        must_be_refused(&bench.call(&raw).await?)?;
    }
    Ok(())
}

/// Bodies that are no asks: texts as they are, objects that lack only the name.
fn wrong_asks(bench: &Bench<'_>) -> Vec<Value> {
    let email = bench.subject.email.as_str();
    vec![
        "".into(),
        "{".into(),
        "[]".into(),
        "null".into(),
        json!({}),
        json!({ "user_email": email }),
        json!({ "ttl_days": 1 }),
        json!({ "user_email": null, "ttl_days": 1 }),
        json!({ "user_email": ["a@b.example"], "ttl_days": 1 }),
        json!({ "user_email": "not an address", "ttl_days": 1 }),
        json!({ "user_email": email, "ttl_days": "1" }),
        json!({ "user_email": email, "ttl_days": 0 }),
        json!({ "user_email": email, "ttl_days": -1 }),
        json!({ "user_email": email, "ttl_days": 1.5 }),
        json!({ "user_email": email, "ttl_days": 1_000_000_000_000_u64 }),
    ]
}

fn named(bench: &Bench<'_>, body: Value, name: &str) -> Vec<u8> {
    match body {
        Value::String(text) => text.into_bytes(),
        mut body => {
            if bench.is_v2() {
                body["client_ref"] = name.into();
            }
            body.to_string().into_bytes()
        }
    }
}

fn must_be_refused(answer: &Answer) -> Result<(), Halt> {
    if REFUSALS.contains(&answer.status) {
        return Ok(());
    }
    broken(format!("{}; 400 was to come", answer.story))
}
