//! The business APIs: what people do with their keys.

use serde_json::{Value, json};
use service_connector::example_service::Kind;

use crate::service::Service;

async fn with_key(kind: Kind) -> (Service, String) {
    let service = Service::start(kind).await;
    let key = service.exchange("ref-1").await.str("api_key").to_owned();
    (service, key)
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_key_works_until_it_is_revoked_or_over() {
    let (service, key) = with_key(Kind::PurchaseOrders).await;
    let me = service.get(&key, "/api/v1/me").await;
    assert_eq!(me.str("email"), "john@your-domain.com");
    service.faults().set_clock_offset(91 * 24 * 3600);
    assert_eq!(service.get(&key, "/api/v1/orders").await.status, 401);
    service.faults().set_clock_offset(0);
    assert_eq!(service.get(&key, "/api/v1/orders").await.status, 200);
    service.revoke(json!({"client_ref": "ref-1"})).await;
    let refused = service.get(&key, "/api/v1/orders").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn the_shared_secret_is_not_a_key() {
    let (service, _) = with_key(Kind::PurchaseOrders).await;
    assert_eq!(service.get(&service.secret, "/api/v1/orders").await.status, 401);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let (service, key) = with_key(Kind::PurchaseOrders).await;
    let pending = service.get(&key, "/api/v1/orders?status=pending&limit=2").await;
    assert_eq!(ids(&pending.json["orders"]), ["PO-1002", "PO-1003"]);
    let path = format!("/api/v1/orders?status=pending&limit=2&cursor={}", pending.str("next"));
    let rest = service.get(&key, &path).await;
    assert_eq!(ids(&rest.json["orders"]), ["PO-1005"]);
    assert!(rest.json["next"].is_null());
    let path = "/api/v1/orders?supplier=northlight%20computing";
    assert_eq!(ids(&service.get(&key, path).await.json["orders"]), ["PO-1002", "PO-1004"]);
    for wrong in ["?colour=red", "?limit=0", "?limit=101", "?cursor=x"] {
        assert_eq!(service.get(&key, &format!("/api/v1/orders{wrong}")).await.status, 400);
    }
}

#[tokio::test]
async fn an_order_is_created_and_approved_and_a_later_read_shows_it() {
    let (service, key) = with_key(Kind::PurchaseOrders).await;
    let order = json!({
        "supplier": "Fernhill Catering", "currency": "EUR",
        "lines": [{"item": "Coffee, kg", "quantity": 4, "unit_price_cents": 1450}],
    });
    let created = service.post(&key, "/api/v1/orders", order).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.str("id"), "PO-1007");
    assert_eq!(created.header("location"), "/api/v1/orders/PO-1007");
    assert_eq!(created.json["total_cents"], 5800);
    assert_eq!(created.str("created_by"), "john@your-domain.com");
    let approved = service.post(&key, "/api/v1/orders/PO-1007/approve", json!({})).await;
    assert_eq!((approved.status, approved.str("status")), (200, "approved"));
    let service = service.restart().await;
    let read = service.get(&key, "/api/v1/orders/PO-1007").await;
    assert_eq!(read.json, approved.json);
    assert_eq!(read.str("approved_by"), "john@your-domain.com");
    let again = service.post(&key, "/api/v1/orders/PO-1007/approve", json!({})).await;
    assert_eq!(again.status, 409);
    let rejected = service.post(&key, "/api/v1/orders/PO-1004/approve", json!({})).await;
    assert_eq!(rejected.status, 409);
}

#[tokio::test]
async fn every_error_of_a_body_is_named() {
    let (service, key) = with_key(Kind::PurchaseOrders).await;
    let order = json!({
        "supplier": " ", "currency": "euro",
        "lines": [{"item": "Tea", "quantity": 0, "unit_price_cents": 1}],
    });
    let answer = service.post(&key, "/api/v1/orders", order).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let fields: Vec<_> = answer.json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["supplier", "currency", "lines[0].quantity"]);
    let wrong_type = json!({"supplier": "A", "currency": "EUR", "lines": [{"item": 5}]});
    let answer = service.post(&key, "/api/v1/orders", wrong_type).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.json["errors"][0]["field"], "lines[0].item");
    assert_eq!(service.get(&key, "/api/v1/orders/PO-1007").await.status, 404);
}

#[tokio::test]
async fn an_invoice_is_created_and_sent_once() {
    let (service, key) = with_key(Kind::Invoicing).await;
    let drafts = service.get(&key, "/api/v1/invoices?status=draft").await;
    assert_eq!(ids(&drafts.json["invoices"]), ["INV-1003", "INV-1004"]);
    let invoice = json!({
        "customer": "Kestrel Mobile", "currency": "EUR", "due_date": "2026-12-31",
        "lines": [{"item": "Churn study", "quantity": 1, "unit_price_cents": 3_100_000}],
    });
    let created = service.post(&key, "/api/v1/invoices", invoice).await;
    assert_eq!((created.status, created.str("status")), (201, "draft"));
    let path = format!("/api/v1/invoices/{}/send", created.str("id"));
    let sent = service.post(&key, &path, json!({})).await;
    assert_eq!((sent.status, sent.str("status")), (200, "sent"));
    assert_eq!(sent.str("sent_by"), "john@your-domain.com");
    assert_eq!(service.post(&key, &path, json!({})).await.status, 409);
    let paid = service.post(&key, "/api/v1/invoices/INV-1001/send", json!({})).await;
    assert_eq!(paid.status, 409);
}

#[tokio::test]
async fn a_deal_moves_one_stage_at_a_time() {
    let (service, key) = with_key(Kind::Crm).await;
    let deal = json!({
        "title": "Stock alerts", "company": "Fernhill Catering",
        "value_cents": 250_000, "currency": "EUR",
    });
    let created = service.post(&key, "/api/v1/deals", deal).await;
    assert_eq!((created.status, created.str("stage")), (201, "lead"));
    let path = format!("/api/v1/deals/{}", created.str("id"));
    let to = |stage: &'static str| {
        let (service, key, path) = (&service, &key, format!("{path}/move"));
        async move { service.post(key, &path, json!({"stage": stage})).await.status }
    };
    assert_eq!(to("won").await, 409);
    assert_eq!(to("qualified").await, 200);
    assert_eq!(to("lead").await, 409);
    assert_eq!(to("archived").await, 422);
    assert_eq!(to("lost").await, 200);
    assert_eq!(to("proposal").await, 409);
    let read = service.get(&key, &path).await;
    assert_eq!((read.str("stage"), read.str("moved_by")), ("lost", "john@your-domain.com"));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let (service, key) = with_key(Kind::Crm).await;
    for path in ["/api/v1/deals/D-9999", "/api/v1/deals/PO-1001", "/api/v1/orders", "/nothing"] {
        let answer = service.get(&key, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    assert_eq!(service.post(&key, "/api/v1/me", json!({})).await.status, 405);
}

#[tokio::test]
async fn every_sample_is_a_whole_row_of_its_kind() {
    let kinds =
        [(Kind::PurchaseOrders, "orders"), (Kind::Invoicing, "invoices"), (Kind::Crm, "deals")];
    for (kind, plural) in kinds {
        let (service, key) = with_key(kind).await;
        let list = service.get(&key, &format!("/api/v1/{plural}")).await;
        let rows = list.json[plural].as_array().unwrap();
        assert!(rows.len() >= 5, "{plural}");
        for row in rows {
            let path = format!("/api/v1/{plural}/{}", row["id"].as_str().unwrap());
            assert_eq!(service.get(&key, &path).await.json, *row);
        }
    }
}
