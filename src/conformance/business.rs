//! What the key opens, while it does (`--probe`).

use super::bench::{Bench, By};
use super::rule;
use super::runner::{Runner, Trial, broken, moot};
use crate::exchange::{RawCall, Shown};
use crate::model::name::EnvValue;
use crate::model::secret::Secret;

pub(super) async fn check(runner: &mut Runner<'_>) {
    let bench = runner.bench;
    runner.check(&rule::BUSINESS_OPEN, opens(bench)).await;
    runner.check(&rule::BUSINESS_SHUT, shuts(bench)).await;
}

async fn opens(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    status(bench, &token.key, 200).await
}

async fn shuts(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    status(bench, &token.key, 200).await?;
    bench.revoke(By::TokenId(&token.token_id)).await?.must_confirm()?;
    status(bench, &token.key, 401).await
}

async fn status(bench: &Bench<'_>, key: &str, expected: u16) -> Trial {
    let Some(url) = bench.subject.probe.as_deref() else {
        return moot("no --probe says which address takes a key");
    };
    if EnvValue::parse(key).is_err() {
        return broken("the key cannot stand in a header");
    }
    let key = Secret::new(key.to_owned());
    let (body, idempotency_key) = (None, None);
    let shown = Shown::Other(&key);
    bench.call(&RawCall { url, body, idempotency_key, shown }).await?.must_be(&[expected])
}
