//! What the same `client_ref` brings a second time (v2).

use super::answer::Answer;
use super::bench::{Ask, Bench, Token, read};
use super::rule;
use super::runner::{Halt, Runner, Trial, broken, moot};
use crate::exchange::Shown;

pub(super) async fn check(runner: &mut Runner<'_>) {
    let bench = runner.bench;
    runner.check(&rule::REPEAT, same_token(bench)).await;
    runner.check(&rule::REPEAT_AT_ONCE, at_once(bench)).await;
    runner.check(&rule::OTHER_BODY, other_body(bench)).await;
    runner.check(&rule::KEY_MISMATCH, key_mismatch(bench)).await;
}

async fn same_token(bench: &Bench<'_>) -> Trial {
    let first = bench.token().await?;
    for _ in 0..2 {
        must_be_the_same(&first, &bench.exchange(&first.ask).await?)?;
    }
    Ok(())
}

/// The same token, or the word that it cannot be repeated.
fn must_be_the_same(first: &Token, answer: &Answer) -> Trial {
    if answer.status == 409 {
        return Ok(());
    }
    answer.json()?;
    let Some(again) = read(&first.ask, answer) else {
        return broken(format!("{}, which is no token", answer.story));
    };
    let different = if again.token_id != first.token_id {
        "token_id"
    } else if again.key != first.key {
        "api_key"
    } else if again.expires_at != first.expires_at {
        "expires_at"
    } else {
        return Ok(());
    };
    broken(format!("the same client_ref got another {different}: {}", answer.story))
}

async fn at_once(bench: &Bench<'_>) -> Trial {
    let ask = bench.new_ask();
    let ask = &ask;
    let again = || async move { bench.exchange(ask).await };
    let (one, two, three, four) = tokio::join!(again(), again(), again(), again());
    let mut answers = Vec::new();
    for answer in [one, two, three, four] {
        let answer = answer?;
        answer.must_be(&[200, 409])?;
        answers.extend((answer.status == 200).then_some(answer));
    }
    let Some((first, others)) = answers.split_first() else {
        return broken("four asks at once all got 409: nobody has the key");
    };
    match read(ask, first) {
        Some(first) => others.iter().try_for_each(|other| must_be_the_same(&first, other)),
        None => moot(format!("{}, which is no token", first.story)),
    }
}

async fn other_body(bench: &Bench<'_>) -> Trial {
    let first = bench.token().await?;
    let (_, domain) = bench.subject.email.parts();
    let others = [
        Ask { email: format!("somebody-else@{domain}"), ..first.ask.clone() },
        Ask { ttl_days: 2, ..first.ask.clone() },
    ];
    for other in &others {
        bench.exchange(other).await?.must_be(&[422])?;
    }
    match must_be_the_same(&first, &bench.exchange(&first.ask).await?) {
        Err(Halt::Broken(what)) => broken(format!("after that the first body fails: {what}")),
        found => found,
    }
}

async fn key_mismatch(bench: &Bench<'_>) -> Trial {
    let (ask, other) = (bench.new_ask(), bench.new_ask());
    let body = bench.ask_body(&ask).to_string().into_bytes();
    let answer = bench.exchange_raw(&ask.name, body, &other.name, Shown::SharedSecret).await?;
    answer.must_be(&[400, 422])
}
