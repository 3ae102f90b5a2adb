//! Who is let in.

use super::bench::{Bench, By};
use super::rule;
use super::runner::{Runner, Trial, broken};
use crate::exchange::{RawCall, Shown};

pub(super) async fn check_health(runner: &mut Runner<'_>) {
    let bench = runner.bench;
    runner.check(&rule::HEALTH, health(bench)).await;
}

pub(super) async fn check(runner: &mut Runner<'_>) {
    let bench = runner.bench;
    runner.check(&rule::EXCHANGE_NEEDS_SECRET, exchange_needs_it(bench)).await;
    runner.check(&rule::REVOKE_NEEDS_SECRET, revoke_needs_it(bench)).await;
    runner.check(&rule::LIST_NEEDS_SECRET, list_needs_it(bench)).await;
}

async fn health(bench: &Bench<'_>) -> Trial {
    let url = &bench.subject.endpoint.health_url;
    let shown = Shown::Nothing;
    let answer = bench.call(&RawCall { url, body: None, idempotency_key: None, shown }).await?;
    match answer.status {
        200..300 => Ok(()),
        _ => broken(format!("{}; 200 was to come", answer.story)),
    }
}

async fn exchange_needs_it(bench: &Bench<'_>) -> Trial {
    for shown in [Shown::Nothing, Shown::Other(&bench.wrong_secret)] {
        let ask = bench.new_ask();
        bench.exchange_as(&ask, shown).await?.must_refuse()?;
        if bench.is_v2()
            && let Ok(listed) = bench.list().await
            && listed.iter().any(|token| token.client_ref.as_ref() == Some(&ask.name))
        {
            return broken("it was refused, and the list has a token of its client_ref");
        }
    }
    Ok(())
}

async fn revoke_needs_it(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    for shown in [Shown::Nothing, Shown::Other(&bench.wrong_secret)] {
        bench.revoke_as(By::TokenId(&token.token_id), shown).await?.must_refuse()?;
        if bench.is_v2() {
            bench.revoke_as(By::Ref(&token.ask.name), shown).await?.must_refuse()?;
        }
    }
    if bench.is_v2() && bench.exchange(&token.ask).await?.status == 410 {
        return broken("it was refused, and the token is revoked");
    }
    Ok(())
}

async fn list_needs_it(bench: &Bench<'_>) -> Trial {
    for shown in [Shown::Nothing, Shown::Other(&bench.wrong_secret)] {
        bench.list_page(None, shown).await?.must_refuse()?;
    }
    Ok(())
}
