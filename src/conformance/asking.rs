//! What an exchange brings.

use jiff::{SignedDuration, Timestamp};

use super::answer::quoted;
use super::bench::{Bench, read};
use super::rule;
use super::runner::{Runner, Trial, broken, moot};
use crate::model::name::{EnvValue, TokenId};
use crate::model::token::EXPIRY_LEEWAY;

pub(super) async fn check(runner: &mut Runner<'_>) {
    let bench = runner.bench;
    runner.check(&rule::ANSWER, answer(bench)).await;
    runner.check(&rule::KEY, key(bench)).await;
    runner.check(&rule::TOKEN_ID, token_id(bench)).await;
    runner.check(&rule::EXPIRY, expiry(bench)).await;
    runner.check(&rule::EXPIRY_AS_ASKED, expiry_as_asked(bench)).await;
    runner.check(&rule::TWO_TOKENS, two_tokens(bench)).await;
}

async fn answer(bench: &Bench<'_>) -> Trial {
    let ask = bench.new_ask();
    let answer = bench.exchange(&ask).await?;
    let json = answer.json()?;
    for field in ["status", "api_key", "token_id", "expires_at"] {
        if !json.get(field).is_some_and(serde_json::Value::is_string) {
            return broken(format!("{}, but its {field} is not a text", answer.story));
        }
    }
    answer.must_confirm()?;
    match json.get("user_email").and_then(serde_json::Value::as_str) {
        Some(other) if !other.eq_ignore_ascii_case(&ask.email) => {
            broken(format!("{}, but that is for another person", answer.story))
        }
        _ => Ok(()),
    }
}

async fn key(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    match EnvValue::parse(&token.key) {
        Ok(_) => Ok(()),
        Err(error) => broken(format!("the api_key cannot stand in an env file: {error}")),
    }
}

async fn token_id(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    if token.token_id == *token.key {
        return broken("the token_id is the key");
    }
    match token.token_id.parse::<TokenId>() {
        Ok(_) => Ok(()),
        Err(error) => broken(bench.clean(&error.to_string())),
    }
}

async fn expiry(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    let shown = quoted(&bench.clean(&token.expires_at));
    let Ok(expires_at) = token.expires_at.parse::<Timestamp>() else {
        return broken(format!("expires_at is \"{shown}\": not a time of RFC 3339"));
    };
    if expires_at <= Timestamp::now() + EXPIRY_LEEWAY {
        return broken(format!("expires_at is {shown}: over, or within 5 minutes"));
    }
    Ok(())
}

async fn expiry_as_asked(bench: &Bench<'_>) -> Trial {
    // Two lives: one that is a fixed number of days comes to light.
    for ttl_days in [1, 30] {
        let mut ask = bench.new_ask();
        ask.ttl_days = ttl_days;
        let answer = bench.exchange(&ask).await?;
        let token = read(&ask, &answer);
        let Some(Ok(expires_at)) = token.map(|token| token.expires_at.parse::<Timestamp>()) else {
            return moot(format!("there is no expires_at to compare: {}", answer.story));
        };
        let asked = SignedDuration::from_hours(24 * i64::from(ttl_days));
        if expires_at > Timestamp::now() + asked + EXPIRY_LEEWAY {
            return broken(format!("asked for {ttl_days} days, and it ends {expires_at}"));
        }
    }
    Ok(())
}

async fn two_tokens(bench: &Bench<'_>) -> Trial {
    let (one, other) = (bench.token().await?, bench.token().await?);
    if let Some(token) = [&one, &other].into_iter().find(|token| bench.is_others(&token.token_id)) {
        return broken(format!("the token_id {} was there before", token.token_id));
    }
    if one.token_id == other.token_id {
        return broken("two asks got the same token_id");
    }
    if one.key == other.key {
        return broken("two asks got the same api_key");
    }
    Ok(())
}
