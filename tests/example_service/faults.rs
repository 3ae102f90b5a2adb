//! Each fault, as a caller meets it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::Method;
use serde_json::{Value, json};
use service_connector::example_service::{Fault, Kind, On};
use service_connector::model::name::EnvValue;

use crate::service::{Answer, Service};

/// The first exchange of a new service that has this fault.
async fn exchange_with(fault: Fault) -> (Service, Answer) {
    let service = Service::start(Kind::Crm).await;
    service.faults().next(On::Exchange, fault, 1);
    let answer = service.exchange("ref-1").await;
    (service, answer)
}

fn issued(service: &Service) -> usize {
    service.ledger().tokens().unwrap().len()
}

#[tokio::test]
async fn a_refusal_comes_before_the_ledger_is_touched_but_is_counted() {
    let refusals = [
        (Fault::TooManyRequests { retry_after: 7 }, 429, "7"),
        (Fault::Unavailable { retry_after: 9 }, 503, "9"),
        (Fault::ServerError, 500, ""),
        (Fault::WrongSecret, 401, ""),
        (Fault::Redirect, 302, ""),
        (Fault::Status { code: 408 }, 408, ""),
    ];
    for (fault, status, retry_after) in refusals {
        let (service, answer) = exchange_with(fault.clone()).await;
        assert_eq!(answer.status, status, "{fault:?}");
        assert_eq!(answer.header("retry-after"), retry_after, "{fault:?}");
        assert!(!answer.header("date").is_empty(), "{fault:?}");
        assert_eq!(issued(&service), 0, "{fault:?}");
        assert_eq!(service.ledger().exchange_calls().unwrap(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_dropped_answer_leaves_a_token_that_the_same_client_ref_gets() {
    let service = Service::start(Kind::Crm).await;
    service.faults().next(On::Exchange, Fault::DropAnswer, 1);
    let error = service.exchange_request("ref-1").send().await.unwrap_err();
    assert!(!error.is_timeout());
    assert_eq!(issued(&service), 1);
    assert_eq!(service.exchange("ref-1").await.status, 200);
    assert_eq!(issued(&service), 1);
}

#[tokio::test]
async fn a_dropped_answer_to_a_revoke_has_revoked() {
    let service = Service::start(Kind::Crm).await;
    service.exchange("ref-1").await;
    service.faults().next(On::Revoke, Fault::DropAnswer, 1);
    let body = json!({"client_ref": "ref-1"});
    let request = service.internal("/api/internal/token-revoke", &body);
    assert!(request.send().await.is_err());
    assert!(service.ledger().tokens().unwrap()[0].revoked_at.is_some());
}

#[tokio::test]
async fn an_error_after_the_write_has_issued() {
    let (service, answer) = exchange_with(Fault::ServerErrorAfterWrite).await;
    assert_eq!(answer.status, 500);
    assert_eq!(issued(&service), 1);
}

#[tokio::test]
async fn a_hanging_request_never_answers_and_does_not_hold_up_a_stop() {
    for (fault, tokens) in [(Fault::Hang, 0), (Fault::HangAfterWrite, 1)] {
        let service = Service::start(Kind::Crm).await;
        service.faults().always(On::All, fault);
        let short = service.exchange_request("ref-1").timeout(Duration::from_millis(300));
        assert!(short.send().await.unwrap_err().is_timeout());
        assert_eq!(issued(&service), tokens);
        let waiting = tokio::spawn(service.exchange_request("ref-2").send());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let begin = Instant::now();
        service.running.stop().await;
        assert!(begin.elapsed() < Duration::from_secs(1));
        assert!(waiting.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_delay_waits_and_then_meets_the_next_fault() {
    let service = Service::start(Kind::Crm).await;
    service.faults().next(On::Exchange, Fault::Delay { millis: 200 }, 1);
    service.faults().next(On::Exchange, Fault::ServerError, 1);
    let begin = Instant::now();
    assert_eq!(service.exchange("ref-1").await.status, 500);
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert_eq!(service.exchange("ref-1").await.status, 200);
}

#[tokio::test]
async fn a_delayed_request_lands_though_its_caller_has_given_up() {
    let service = Service::start(Kind::Crm).await;
    service.faults().next(On::Exchange, Fault::Delay { millis: 300 }, 2);
    for client_ref in ["revoked-meanwhile", "late"] {
        let short = service.exchange_request(client_ref).timeout(Duration::from_millis(50));
        assert!(short.send().await.unwrap_err().is_timeout());
    }
    assert_eq!(service.revoke(json!({"client_ref": "revoked-meanwhile"})).await.status, 200);
    assert_eq!(issued(&service), 0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tokens = service.ledger().tokens().unwrap();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].client_ref.as_deref(), Some("late"));
}

#[tokio::test]
async fn a_delayed_request_does_not_land_once_the_service_is_stopped() {
    let service = Service::start(Kind::Crm).await;
    service.faults().next(On::Exchange, Fault::Delay { millis: 60_000 }, 1);
    let short = service.exchange_request("ref-1").timeout(Duration::from_millis(100));
    assert!(short.send().await.is_err());
    let service = service.restart().await;
    assert_eq!(issued(&service), 0);
    assert_eq!(service.ledger().exchange_calls().unwrap(), 1);
}

type IsMalformed = dyn Fn(&Answer) -> bool;

fn is_bad_key(answer: &Answer) -> bool {
    EnvValue::parse(answer.str("api_key")).is_err()
}

#[tokio::test]
async fn a_malformed_answer_is_a_200_whose_token_is_in_the_ledger() {
    let cases: [(Fault, &IsMalformed); 9] = [
        (Fault::NotJson, &|answer| answer.json.is_null()),
        (Fault::Html, &|answer| answer.header("content-type").starts_with("text/html")),
        (Fault::HugeAnswer, &|answer| answer.text.len() > 64 * 1024),
        (Fault::MissingField, &|answer| answer.json.get("api_key").is_none()),
        (Fault::DuplicateField, &|answer| answer.text.matches("\"token_id\"").count() == 2),
        (Fault::NewlineInKey, &|answer| is_bad_key(answer) && answer.str("api_key").contains('\n')),
        (Fault::SubstitutionInKey, &|answer| {
            is_bad_key(answer) && answer.str("api_key").contains("$(id)")
        }),
        (Fault::LongKey, &|answer| is_bad_key(answer) && answer.str("api_key").len() == 5000),
        (Fault::PastExpiry, &|answer| {
            answer.str("expires_at").parse::<Timestamp>().unwrap() < Timestamp::now()
        }),
    ];
    for (fault, is_malformed) in cases {
        let (service, answer) = exchange_with(fault.clone()).await;
        assert_eq!(answer.status, 200, "{fault:?}");
        assert!(is_malformed(&answer), "{fault:?}");
        assert_eq!(issued(&service), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_can_carry_the_token_id_of_another() {
    let service = Service::start(Kind::Crm).await;
    let first = service.exchange("ref-1").await;
    service.faults().next(On::Exchange, Fault::OtherTokenId, 1);
    let second = service.exchange("ref-2").await;
    assert_eq!(second.str("token_id"), first.str("token_id"));
    assert_eq!(issued(&service), 2);
}

#[tokio::test]
async fn a_fault_is_for_its_endpoint_and_for_as_many_requests_as_it_says() {
    let service = Service::start(Kind::Crm).await;
    service.faults().next(On::Revoke, Fault::ServerError, 2);
    let revoke = || async { service.revoke(json!({"client_ref": "r"})).await.status };
    assert_eq!(service.exchange("ref-1").await.status, 200);
    assert_eq!((revoke().await, revoke().await, revoke().await), (500, 500, 200));
    service.faults().always(On::All, Fault::Unavailable { retry_after: 1 });
    assert_eq!((revoke().await, revoke().await), (503, 503));
    assert_eq!(Service::send(service.request(Method::GET, "/api/health")).await.status, 503);
    service.faults().clear();
    assert_eq!(revoke().await, 200);
}

#[tokio::test]
async fn the_clock_can_be_shifted_and_the_granted_life_shortened() {
    let service = Service::start(Kind::Crm).await;
    service.faults().set_clock_offset(3600);
    service.faults().set_granted_life(Some(5));
    let answer = service.exchange("ref-1").await;
    let date = DateTimeParser::new().parse_timestamp(answer.header("date")).unwrap();
    let ahead = date.as_second() - Timestamp::now().as_second();
    assert!((3590..=3600).contains(&ahead));
    let token = service.ledger().tokens().unwrap().remove(0);
    assert_eq!(token.expires_at.as_second() - token.issued_at.as_second(), 5);
    assert!(token.issued_at > Timestamp::now());
}

async fn fault_api(service: &Service, method: Method, path: &str, body: Value) -> u16 {
    let path = format!("/api/internal/faults{path}");
    let request = service.request(method, &path).bearer_auth(&service.secret).json(&body);
    Service::send(request).await.status
}

#[tokio::test]
async fn faults_are_switched_over_http_where_that_is_allowed() {
    let service = Service::start_with(Kind::Crm, |config| config.allow_fault_api = true).await;
    let rule = json!({"on": "exchange", "fault": "unavailable", "retry_after": 3, "times": 1});
    assert_eq!(fault_api(&service, Method::POST, "", rule).await, 200);
    assert_eq!(service.exchange("ref-1").await.status, 503);
    assert_eq!(service.exchange("ref-1").await.status, 200);
    let rule = json!({"on": "all", "fault": "server_error"});
    assert_eq!(fault_api(&service, Method::POST, "", rule).await, 200);
    assert_eq!(service.exchange("ref-1").await.status, 500);
    assert_eq!(fault_api(&service, Method::DELETE, "", json!({})).await, 200);
    let life = json!({"seconds": 60});
    assert_eq!(fault_api(&service, Method::PUT, "/granted-life", life).await, 200);
    let offset = json!({"seconds": 86_400});
    assert_eq!(fault_api(&service, Method::PUT, "/clock-offset", offset).await, 200);
    let answer = service.exchange("ref-2").await;
    let expiry = answer.str("expires_at").parse::<Timestamp>().unwrap();
    let life = expiry.as_second() - Timestamp::now().as_second();
    assert!((86_400..=86_460).contains(&life));
}

#[tokio::test]
async fn a_fault_that_is_not_known_is_refused() {
    let service = Service::start_with(Kind::Crm, |config| config.allow_fault_api = true).await;
    for rule in [
        json!({"on": "exchange", "fault": "gremlin"}),
        json!({"on": "somewhere", "fault": "hang"}),
        json!({"on": "exchange", "fault": "delay"}),
        json!({"on": "exchange", "fault": "delay", "millis": 1, "tims": 3}),
    ] {
        assert_eq!(fault_api(&service, Method::POST, "", rule.clone()).await, 400, "{rule}");
    }
}

#[tokio::test]
async fn without_leave_or_secret_faults_cannot_be_switched() {
    let closed = Service::start(Kind::Crm).await;
    let rule = json!({"on": "exchange", "fault": "hang"});
    assert_eq!(fault_api(&closed, Method::POST, "", rule.clone()).await, 404);
    let open = Service::start_with(Kind::Crm, |config| config.allow_fault_api = true).await;
    let bare = open.request(Method::POST, "/api/internal/faults").json(&rule);
    assert_eq!(Service::send(bare).await.status, 401);
}
