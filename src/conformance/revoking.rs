//! What a revoke does, and keeps doing.

use super::bench::{Bench, By, as_moot};
use super::rule;
use super::runner::{Runner, Trial, broken};

pub(super) async fn check(runner: &mut Runner<'_>) {
    let bench = runner.bench;
    runner.check(&rule::REVOKE_ID, by_token_id(bench)).await;
    runner.check(&rule::GONE_BY_ID, gone_by_token_id(bench)).await;
    runner.check(&rule::REVOKE_REF, by_client_ref(bench)).await;
    runner.check(&rule::GONE_BY_REF, gone_by_client_ref(bench)).await;
    runner.check(&rule::REVOKE_TWICE, twice(bench)).await;
    runner.check(&rule::REVOKE_UNKNOWN, unknown(bench)).await;
    runner.check(&rule::TOMBSTONE, tombstone(bench)).await;
}

async fn by_token_id(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    bench.revoke(By::TokenId(&token.token_id)).await?.must_confirm()
}

async fn gone_by_token_id(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    bench.revoke(By::TokenId(&token.token_id)).await?.must_confirm()?;
    bench.exchange(&token.ask).await?.must_be(&[410])
}

async fn by_client_ref(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    bench.revoke(By::Ref(&token.ask.name)).await?.must_confirm()?;
    let listed = bench.list().await.map_err(as_moot)?;
    if listed.iter().any(|listed| listed.token_id == token.token_id) {
        return broken("it was confirmed, and the list still has the token");
    }
    Ok(())
}

async fn gone_by_client_ref(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    bench.revoke(By::Ref(&token.ask.name)).await?.must_confirm()?;
    // Not by chance of a cache: each time.
    for _ in 0..2 {
        bench.exchange(&token.ask).await?.must_be(&[410])?;
    }
    Ok(())
}

async fn twice(bench: &Bench<'_>) -> Trial {
    let token = bench.token().await?;
    for _ in 0..2 {
        bench.revoke(By::TokenId(&token.token_id)).await?.must_confirm()?;
    }
    if bench.is_v2() {
        for _ in 0..2 {
            bench.revoke(By::Ref(&token.ask.name)).await?.must_confirm()?;
        }
    }
    Ok(())
}

async fn unknown(bench: &Bench<'_>) -> Trial {
    let never_issued = format!("tok_unknown_{:016x}", (bench.subject.random)() >> 64);
    bench.revoke(By::TokenId(&never_issued)).await?.must_confirm()?;
    if bench.is_v2() {
        bench.revoke(By::Ref(&bench.new_ask().name)).await?.must_confirm()?;
    }
    Ok(())
}

async fn tombstone(bench: &Bench<'_>) -> Trial {
    let ask = bench.new_ask();
    // Whether it is confirmed is another rule's.
    bench.revoke(By::Ref(&ask.name)).await?;
    bench.exchange(&ask).await?.must_be(&[410])
}
