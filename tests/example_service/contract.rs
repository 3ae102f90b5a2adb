//! The service contract, both versions.

use std::os::unix::fs::PermissionsExt as _;

use reqwest::Method;
use serde_json::json;
use service_connector::example_service::{
    Config, Contract, ExampleService, Kind, Ledger, StartError,
};
use service_connector::model::digest::Digest;
use service_connector::model::name::EnvValue;
use service_connector::model::secret::Secret;

use crate::service::Service;

#[tokio::test]
async fn the_same_client_ref_gives_the_same_token_and_key() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let first = service.exchange("ref-1").await;
    let again = service.exchange("ref-1").await;
    let other = service.exchange("ref-2").await;
    assert_eq!((first.status, again.status, other.status), (200, 200, 200));
    assert!(first.text == again.text);
    assert!(first.str("api_key") != other.str("api_key"));
    assert_ne!(first.str("token_id"), other.str("token_id"));
    assert_eq!(service.ledger().tokens().unwrap().len(), 2);
    assert_eq!(service.ledger().exchange_calls().unwrap(), 3);
}

#[tokio::test]
async fn an_answer_has_all_fields_and_a_key_that_an_env_file_can_hold() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let answer = service.exchange("ref-1").await;
    assert_eq!(answer.str("status"), "ok");
    assert!(answer.str("api_key").starts_with("pk_live_"));
    assert!(EnvValue::parse(answer.str("api_key")).is_ok());
    let token = service.ledger().tokens().unwrap().remove(0);
    assert_eq!(answer.str("expires_at"), token.expires_at.to_string());
    assert_eq!(token.expires_at.as_second() - token.issued_at.as_second(), 90 * 24 * 3600);
    assert_eq!(token.user_email, "john@your-domain.com");
    assert!(!answer.header("date").is_empty());
}

#[tokio::test]
async fn the_ledger_holds_a_hash_and_never_the_key() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let answer = service.exchange("ref-1").await;
    let key = answer.str("api_key").to_owned();
    let token = service.ledger().tokens().unwrap().remove(0);
    assert_eq!(token.key_hash, Digest::of(&key));
    for entry in std::fs::read_dir(service.directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()));
    }
}

#[tokio::test]
async fn the_key_secret_is_for_its_owner_only() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let secret = std::fs::metadata(service.directory.path().join("key-secret")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_same_client_ref_with_another_body_is_refused() {
    let service = Service::start(Kind::PurchaseOrders).await;
    service.exchange("ref-1").await;
    let body = json!({"user_email": "eva@your-domain.com", "ttl_days": 90, "client_ref": "ref-1"});
    let request = service.internal("/api/internal/token-exchange", &body);
    let answer = Service::send(request.header("idempotency-key", "ref-1")).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(service.ledger().tokens().unwrap().len(), 1);
}

#[tokio::test]
async fn a_revoked_client_ref_is_gone_by_whichever_name_it_was_revoked() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let first = service.exchange("ref-1").await;
    service.exchange("ref-2").await;
    assert_eq!(service.revoke(json!({"token_id": first.str("token_id")})).await.status, 200);
    assert_eq!(service.revoke(json!({"client_ref": "ref-2"})).await.str("status"), "ok");
    assert_eq!(service.exchange("ref-1").await.status, 410);
    assert_eq!(service.exchange("ref-2").await.status, 410);
    assert!(service.ledger().tokens().unwrap().iter().all(|token| token.revoked_at.is_some()));
}

#[tokio::test]
async fn an_exchange_that_comes_after_its_revoke_is_refused() {
    let service = Service::start(Kind::PurchaseOrders).await;
    assert_eq!(service.revoke(json!({"client_ref": "late"})).await.status, 200);
    let service = service.restart().await;
    assert_eq!(service.exchange("late").await.status, 410);
    assert!(service.ledger().tokens().unwrap().is_empty());
    assert_eq!(service.ledger().tombstones().unwrap(), ["late"]);
}

#[tokio::test]
async fn revoking_twice_or_the_unknown_is_a_success_and_keeps_the_first_time() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let token_id = service.exchange("ref-1").await.str("token_id").to_owned();
    service.revoke(json!({"token_id": token_id})).await;
    let first = service.ledger().tokens().unwrap();
    service.faults().set_clock_offset(60);
    assert_eq!(service.revoke(json!({"token_id": token_id})).await.status, 200);
    assert_eq!(service.revoke(json!({"token_id": "tok_nobody"})).await.status, 200);
    assert_eq!(service.ledger().tokens().unwrap(), first);
    assert_eq!(service.ledger().revoke_calls().unwrap(), 3);
}

#[tokio::test]
async fn an_expired_client_ref_is_gone() {
    let service = Service::start(Kind::PurchaseOrders).await;
    service.faults().set_granted_life(Some(30));
    service.exchange("ref-1").await;
    service.faults().set_clock_offset(31);
    assert_eq!(service.exchange("ref-1").await.status, 410);
    assert_eq!(service.tokens("").await.json["tokens"], json!([]));
}

#[tokio::test]
async fn the_list_shows_live_tokens_in_pages_of_200() {
    let service = Service::start(Kind::PurchaseOrders).await;
    for number in 0..203 {
        assert_eq!(service.exchange(&format!("ref-{number}")).await.status, 200);
    }
    service.revoke(json!({"client_ref": "ref-7"})).await;
    let first = service.tokens("").await;
    let cursor = format!("?cursor={}", first.str("next"));
    let second = service.tokens(&cursor).await;
    assert_eq!(first.json["tokens"].as_array().unwrap().len(), 200);
    assert_eq!(second.json["tokens"].as_array().unwrap().len(), 2);
    assert!(second.json["next"].is_null());
    let all = [first.json["tokens"].as_array(), second.json["tokens"].as_array()];
    let refs: Vec<_> =
        all.into_iter().flatten().flatten().map(|token| token["client_ref"].clone()).collect();
    let expected: Vec<_> =
        (0..203).filter(|n| *n != 7).map(|n| json!(format!("ref-{n}"))).collect();
    assert_eq!(refs, expected);
    assert!(first.json["tokens"][0].get("api_key").is_none());
}

#[tokio::test]
async fn a_cursor_that_was_never_given_is_an_error_and_not_the_first_page() {
    let service = Service::start(Kind::PurchaseOrders).await;
    assert_eq!(service.tokens("?cursor=abc").await.status, 400);
    assert_eq!(service.tokens("?cursor=").await.status, 400);
}

#[tokio::test]
async fn without_the_shared_secret_there_is_nothing_but_health() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let paths = [
        (Method::POST, "/api/internal/token-exchange"),
        (Method::POST, "/api/internal/token-revoke"),
        (Method::GET, "/api/internal/tokens"),
    ];
    for (method, path) in paths {
        let bare = Service::send(service.request(method.clone(), path)).await;
        let wrong = Service::send(service.request(method, path).bearer_auth("guess")).await;
        assert_eq!((bare.status, wrong.status), (401, 401), "{path}");
        assert_eq!(wrong.header("content-type"), "application/problem+json");
        assert!(!wrong.header("date").is_empty());
    }
    let health = Service::send(service.request(Method::GET, "/api/health")).await;
    assert_eq!((health.status, health.str("status")), (200, "ok"));
}

#[tokio::test]
async fn a_body_that_is_not_the_contracts_is_a_400_and_issues_nothing() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let bodies = [
        json!({"user_email": "john@your-domain.com", "ttl_days": 90}),
        json!({"user_email": "not an address", "ttl_days": 90, "client_ref": "r"}),
        json!({"user_email": "john@your-domain.com", "ttl_days": 0, "client_ref": "r"}),
        json!({"user_email": "john@your-domain.com", "ttl_days": 366, "client_ref": "r"}),
        json!({"user_email": "john@your-domain.com", "ttl_days": 1, "client_ref": "r", "x": 1}),
        json!({"user_email": "john@your-domain.com", "ttl_days": 1, "client_ref": "other"}),
    ];
    for body in bodies {
        let request = service.internal("/api/internal/token-exchange", &body);
        let answer = Service::send(request.header("idempotency-key", "r")).await;
        assert_eq!(answer.status, 400, "{body}");
    }
    for body in [json!({}), json!({"token_id": "a", "client_ref": "b"})] {
        assert_eq!(service.revoke(body).await.status, 400);
    }
    assert!(service.ledger().tokens().unwrap().is_empty());
}

#[tokio::test]
async fn everything_outlives_a_restart_on_the_same_directory_and_port() {
    let service = Service::start(Kind::PurchaseOrders).await;
    let first = service.exchange("ref-1").await;
    let base_url = service.running.base_url();
    let service = service.restart().await;
    assert_eq!(service.running.base_url(), base_url);
    assert!(service.exchange("ref-1").await.text == first.text);
    assert_eq!(service.get(first.str("api_key"), "/api/v1/me").await.status, 200);
    assert_eq!(service.ledger().exchange_calls().unwrap(), 2);
}

#[tokio::test]
async fn the_ledger_can_be_read_while_the_service_is_down() {
    let service = Service::start(Kind::PurchaseOrders).await;
    service.exchange("ref-1").await;
    let Service { running, directory, .. } = service;
    running.stop().await;
    let ledger = Ledger::open(directory.path()).unwrap();
    assert_eq!(ledger.tokens().unwrap()[0].client_ref.as_deref(), Some("ref-1"));
    assert!(Ledger::open(directory.path().join("elsewhere")).is_err());
}

#[tokio::test]
async fn the_service_may_grant_less_than_is_asked() {
    let service =
        Service::start_with(Kind::PurchaseOrders, |config| config.max_ttl_days = 30).await;
    service.exchange("ref-1").await;
    let token = service.ledger().tokens().unwrap().remove(0);
    assert_eq!(token.expires_at.as_second() - token.issued_at.as_second(), 30 * 24 * 3600);
}

#[tokio::test]
async fn it_listens_to_this_machine_only() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config::new(Kind::Crm, directory.path(), Secret::new("made up".to_owned()));
    config.listen = "0.0.0.0:0".parse().unwrap();
    let error = ExampleService::start(config).await.err().unwrap();
    assert!(matches!(error, StartError::NotLoopback(_)));
}

async fn v1() -> Service {
    Service::start_with(Kind::Invoicing, |config| config.contract = Contract::V1).await
}

#[tokio::test]
async fn v1_gives_another_token_each_time_it_is_asked() {
    let service = v1().await;
    let body = json!({"user_email": "john@your-domain.com", "ttl_days": 90});
    let first = Service::send(service.internal("/api/internal/token-exchange", &body)).await;
    let second = Service::send(service.internal("/api/internal/token-exchange", &body)).await;
    assert_eq!((first.status, second.status), (200, 200));
    assert!(first.str("api_key") != second.str("api_key"));
    let tokens = service.ledger().tokens().unwrap();
    assert_eq!(tokens.len(), 2);
    assert!(tokens.iter().all(|token| token.client_ref.is_none()));
}

#[tokio::test]
async fn v1_knows_no_client_ref_and_no_list() {
    let service = v1().await;
    assert_eq!(service.exchange("ref-1").await.status, 400);
    assert_eq!(service.revoke(json!({"client_ref": "ref-1"})).await.status, 400);
    assert_eq!(service.revoke(json!({"token_id": "tok_unknown"})).await.status, 200);
    let list = service.tokens("").await;
    assert_eq!(list.status, 404);
    assert_eq!(list.header("content-type"), "application/problem+json");
}
