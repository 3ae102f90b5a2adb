//! What each answer means.

use service_connector::store::random;

use crate::server::*;
use service_connector::model::outcome::RevokeAnswer;
use service_connector::model::registry::Contract;

const KEY: &str = "pk_live_SeCrEtKeY";

/// A body that is granted, with this put before its closing brace.
fn body(more: &str) -> String {
    format!(
        r#"{{"status":"ok","api_key":"{KEY}","token_id":"t1","expires_at":"2027-01-01T00:00:00Z"{more}}}"#
    )
}

fn ok(body: &str) -> Vec<u8> {
    json("200 OK", "", body)
}

fn bare(status: &str) -> Vec<u8> {
    json(status, "", "{}")
}

fn problem(status: &str, title: &str, detail: &str) -> Vec<u8> {
    let body = format!(r#"{{"title":"{title}","detail":"{detail}"}}"#);
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/problem+json; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What was sent, what it means, and a part of what is said of it.
type Case = (&'static str, Vec<u8>, &'static str, &'static str);

fn well_formed() -> Vec<Case> {
    let granted = "pk_live_SeCrEtKeY t1 2027-01-01T00:00:00Z";
    let whole = body("");
    let length = whole.len();
    let early = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{whole}"
    );
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{whole}\r\n0\r\n\r\n"
    );
    let unframed = format!("HTTP/1.1 200 OK\r\n\r\n{whole}");
    let old = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{whole}");
    let odd_key = whole.replace(KEY, r"quo\u0022te ");
    vec![
        ("plain", ok(&whole), "granted", granted),
        ("unknown fields", ok(&body(r#","x":[{"y":1}],"z":null"#)), "granted", granted),
        (
            "whom for",
            ok(&body(r#","user_email":"Eva@your-domain.com""#)),
            "granted",
            "eva@your-domain.com",
        ),
        ("whom for is null", ok(&body(r#","user_email":null"#)), "granted", granted),
        ("space around", ok(&format!(" \r\n{whole}\n")), "granted", granted),
        ("1xx first", early.into_bytes(), "granted", granted),
        ("chunked", chunked.into_bytes(), "granted", granted),
        ("no framing but the end", unframed.into_bytes(), "granted", granted),
        ("HTTP/1.0", old.into_bytes(), "granted", granted),
        ("a key out of the alphabet is not judged here", ok(&odd_key), "granted", "quo\"te "),
    ]
}

fn not_well_formed() -> Vec<Case> {
    let whole = body("");
    let twice = whole.replace("\"status\"", "\"api_key\":\"a\",\"status\"");
    let gzip = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c";
    let latin = b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"status\":\"o\xe9\xff\xfek\"}";
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let no = |name: &str| whole.replace(&format!("\"{name}\""), "\"other\"");
    vec![
        ("HTML", ok("<!doctype html><p>Sign in"), "conflict", "its body is not JSON"),
        ("another text", ok("ok"), "conflict", "its body is not JSON"),
        ("more after it", ok(&format!("{whole}{{}}")), "conflict", "its body is not JSON"),
        ("compressed", gzip.to_vec(), "conflict", "its body is not JSON"),
        ("not UTF-8", latin.to_vec(), "conflict", "its body is not JSON"),
        ("too deep", ok(&deep), "conflict", "its body is not JSON"),
        ("a list", ok(&format!("[{whole}]")), "conflict", "it has no status"),
        ("no status", ok(&no("status")), "conflict", "it has no status"),
        ("no key", ok(&no("api_key")), "conflict", "it has no api_key"),
        ("no id", ok(&no("token_id")), "conflict", "it has no token_id"),
        ("no end", ok(&no("expires_at")), "conflict", "it has no expires_at"),
        (
            "id is a number",
            ok(&whole.replace("\"t1\"", "7")),
            "conflict",
            "its token_id is not a text",
        ),
        (
            "key is null",
            ok(&whole.replace(&format!("\"{KEY}\""), "null")),
            "conflict",
            "its api_key is not a text",
        ),
        (
            "other status",
            ok(&whole.replace("\"ok\"", "\"error\"")),
            "conflict",
            "its status is not `ok`",
        ),
        (
            "status in capitals",
            ok(&whole.replace("\"ok\"", "\"OK\"")),
            "conflict",
            "its status is not `ok`",
        ),
        (
            "whom for is a number",
            ok(&body(",\"user_email\":1")),
            "conflict",
            "its user_email is not a text",
        ),
        (
            "whom for is nobody",
            ok(&body(",\"user_email\":\"x\"")),
            "conflict",
            "its user_email is not an e-mail",
        ),
        ("key twice", ok(&twice), "conflict", "a name twice"),
        (
            "key twice, once escaped",
            ok(&body(r#","api\u005fkey":"x""#)),
            "conflict",
            "a name twice",
        ),
        ("twice, deep", ok(&body(r#","x":[{"y":{"z":1,"z":1}}]"#)), "conflict", "a name twice"),
    ]
}

fn cut() -> Vec<Case> {
    let whole = body("");
    let length = whole.len();
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let chunk =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{whole}\r\n");
    let long = body(&format!(",\"x\":\"{}\"", "y".repeat(64 * 1024)));
    let most = format!("{whole}{}", " ".repeat(64 * 1024 - length));
    vec![
        ("no body", ok(""), "unknown", "its body is empty"),
        ("only space", ok("  \n"), "unknown", "ends before its JSON does"),
        ("half, as promised", ok(&whole[..40]), "unknown", "ends before its JSON does"),
        (
            "half, more promised",
            format!("{}{}", head(length), &whole[..40]).into_bytes(),
            "unknown",
            "its body is cut",
        ),
        (
            "whole, more promised",
            format!("{}{whole}", head(length + 1)).into_bytes(),
            "unknown",
            "its body is cut",
        ),
        ("no last chunk", chunk.into_bytes(), "unknown", "its body is cut"),
        ("too long", ok(&long), "unknown", "longer than 64 KiB"),
        ("just not too long", ok(&most), "granted", "t1"),
    ]
}

fn statuses() -> Vec<Case> {
    let forged = problem("500 Oops", "a\\u001b[31m\\nb", &"d ".repeat(250));
    vec![
        ("created", json("201 Created", "", &body("")), "unknown", "201 Created"),
        ("accepted", bare("202 Accepted"), "unknown", "202 Accepted"),
        ("no content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "unknown", "204 No Content"),
        ("not modified", b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(), "rejected", "304"),
        (
            "bad request",
            problem("400 Bad Request", "Bad", "ttl_days is \\\"0\\\""),
            "rejected",
            ": 400 Bad Request: Bad: ttl_days is \"0\"",
        ),
        ("unauthorized", bare("401 Unauthorized"), "secret refused", "401 Unauthorized"),
        ("forbidden", bare("403 Forbidden"), "secret refused", "403 Forbidden"),
        ("not found", bare("404 Not Found"), "rejected", "404 Not Found"),
        ("wrong method", bare("405 Method Not Allowed"), "rejected", "405"),
        ("request timeout", bare("408 Request Timeout"), "unknown", "408"),
        (
            "conflict",
            problem("409 Conflict", "Shown once", ""),
            "conflict",
            ": 409 Conflict: Shown once",
        ),
        ("gone", bare("410 Gone"), "gone", ""),
        ("teapot", bare("418 I'm a teapot"), "rejected", "418"),
        ("other body", bare("422 Unprocessable Entity"), "conflict", "422 Unprocessable Entity"),
        ("too early", bare("425 Too Early"), "unknown", "425"),
        (
            "too many",
            json("429 Too Many Requests", "Retry-After: 30\r\n", "{}"),
            "unknown 30",
            "429",
        ),
        ("server error", bare("500 Internal Server Error"), "unknown", "500"),
        (
            "bad gateway, HTML",
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n<p>".to_vec(),
            "unknown",
            ": 502 Bad Gateway",
        ),
        (
            "unavailable",
            json("503 Service Unavailable", "Retry-After: 7\r\n", "{}"),
            "unknown 7",
            "503",
        ),
        ("no such status", bare("799 What"), "unknown", "799"),
        (
            "escaped, shortened",
            forged,
            "unknown",
            ": 500 Internal Server Error: a\\u{1b}[31m\\nb: d d d",
        ),
        (
            "echoes the secret",
            problem("400 Bad Request", "x", &format!("no {SECRET}!")),
            "rejected",
            ": x: no (secret)!",
        ),
        (
            "echoes a key",
            problem("409 Conflict", "x", &format!("you have pk_live_{:032x} already", random())),
            "conflict",
            "you have (left out) already",
        ),
        (
            "echoes it at the cut",
            problem("400 Bad Request", &format!("{}x{SECRET}", "x ".repeat(97)), ""),
            "rejected",
            "x x(secr…",
        ),
    ]
}

fn times() -> Vec<Case> {
    let busy = |headers: &str| json("503 Service Unavailable", headers, "{}");
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let at = |time: &str| busy(&format!("{date}Retry-After: {time}\r\n"));
    vec![
        ("a date", at("Sun, 06 Nov 1994 08:51:37 GMT"), "unknown 120", ""),
        ("a date that is over", at("Sun, 06 Nov 1994 08:00:00 GMT"), "unknown 0", ""),
        ("a date without GMT", at("Sun, 06 Nov 1994 08:51:37 +0000"), "unknown", ""),
        ("space around", busy("Retry-After:   5  \r\n"), "unknown 5", ""),
        ("negative", busy("Retry-After: -5\r\n"), "unknown", ""),
        ("a fraction", busy("Retry-After: 1.5\r\n"), "unknown", ""),
        ("a word", busy("Retry-After: soon\r\n"), "unknown", ""),
        ("empty", busy("Retry-After: \r\n"), "unknown", ""),
        (
            "endless",
            busy("Retry-After: 99999999999999999999999\r\n"),
            "unknown 9223372036854775807",
            "",
        ),
    ]
}

fn not_http() -> Vec<Case> {
    let mut many = b"HTTP/1.1 200 OK\r\n".to_vec();
    let mut huge = many.clone();
    for number in 0..300 {
        many.extend(format!("X-{number}: 1\r\n").bytes());
    }
    huge.extend(format!("X: {}\r\n", "y".repeat(1_000_000)).bytes());
    vec![
        ("silence", Vec::new(), "unknown", "POST http://127.0.0.1:"),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-".to_vec(), "unknown", ""),
        ("another protocol", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), "unknown", ""),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}".to_vec(),
            "unknown",
            "",
        ),
        ("many headers", [many, ok(&body(""))[17..].to_vec()].concat(), "unknown", ""),
        ("a huge header", [huge, ok(&body(""))[17..].to_vec()].concat(), "unknown", ""),
    ]
}

#[tokio::test]
async fn every_answer_to_an_ask_means_what_the_contract_says() {
    let exchange = exchange();
    let cases = [well_formed(), not_well_formed(), cut(), statuses(), times(), not_http()].concat();
    assert!(cases.iter().filter(|(_, _, meaning, _)| *meaning != "granted").count() >= 60);
    for (name, bytes, meaning, said) in cases {
        for contract in [Contract::V1, Contract::V2] {
            let server = Server::start(Manner::Say(bytes.clone()));
            let answer = issue(&exchange, &endpoint(server.port, contract)).await;
            let (found, message) = in_a_word(answer.what);
            assert_eq!(found, meaning, "{name}: {message}");
            assert!(message.contains(said), "{name}: {message}");
            if found != "granted" {
                assert!(message.len() < 600 && !message.contains('\n'), "{name}: {message}");
                assert!(!message.contains(KEY) && !message.contains(SECRET), "{name}: {message}");
            }
            assert_eq!(server.heard().len(), 1, "{name}: asked once, whatever comes");
        }
    }
}

#[tokio::test]
async fn only_a_clear_word_confirms_a_revoke() {
    let cases = [
        ("ok", ok(r#"{"status":"ok"}"#), "confirmed"),
        ("ok and more", ok(r#"{"status":"ok","note":["x"]}"#), "confirmed"),
        ("empty", ok(""), "unknown"),
        ("no JSON", ok("ok"), "unknown"),
        ("HTML", ok("<html>ok</html>"), "unknown"),
        ("a text", ok("\"ok\""), "unknown"),
        ("empty object", ok("{}"), "unknown"),
        ("a list", ok(r#"[{"status":"ok"}]"#), "unknown"),
        ("true", ok(r#"{"status":true}"#), "unknown"),
        ("error", ok(r#"{"status":"error"}"#), "unknown"),
        ("twice", ok(r#"{"status":"error","status":"ok"}"#), "unknown"),
        ("cut", ok(r#"{"status":"ok""#), "unknown"),
        ("too long", ok(&format!(r#"{{"status":"ok"}}{}"#, " ".repeat(70_000))), "unknown"),
        ("created", json("201 Created", "", r#"{"status":"ok"}"#), "unknown"),
        ("accepted", json("202 Accepted", "", r#"{"status":"ok"}"#), "unknown"),
        ("no content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "unknown"),
        ("moved", json("302 Found", "Location: /x\r\n", r#"{"status":"ok"}"#), "rejected"),
        ("unauthorized", json("401 Unauthorized", "", r#"{"status":"ok"}"#), "secret refused"),
        ("forbidden", bare("403 Forbidden"), "secret refused"),
        ("not found", json("404 Not Found", "", r#"{"status":"ok"}"#), "rejected"),
        ("wrong method", json("405 Method Not Allowed", "", r#"{"status":"ok"}"#), "rejected"),
        ("gone", json("410 Gone", "", r#"{"status":"ok"}"#), "rejected"),
        ("conflict", bare("409 Conflict"), "rejected"),
        ("too many", json("429 Too Many Requests", "Retry-After: 3\r\n", "{}"), "unknown 3"),
        ("server error", json("500 Oops", "", r#"{"status":"ok"}"#), "unknown"),
    ];
    let exchange = exchange();
    for (name, bytes, meaning) in cases {
        let server = Server::start(Manner::Say(bytes));
        let answer = revoke(&exchange, &endpoint(server.port, Contract::V2)).await;
        let found = match answer.what {
            RevokeAnswer::Confirmed => "confirmed".to_owned(),
            RevokeAnswer::Failed(failure) => of_failure(failure).0,
        };
        assert_eq!(found, meaning, "{name}");
    }
}

#[tokio::test]
async fn health_is_a_matter_of_the_status_alone() {
    let cases = [
        ("ok", ok(r#"{"status":"ok"}"#), "well"),
        ("any body", ok("fine"), "well"),
        ("no content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "well"),
        ("moved", bare("301 Moved Permanently"), "rejected"),
        ("unauthorized", bare("401 Unauthorized"), "rejected"),
        ("unavailable", json("503 Service Unavailable", "Retry-After: 9\r\n", "{}"), "unknown 9"),
    ];
    let exchange = exchange();
    for (name, bytes, meaning) in cases {
        let server = Server::start(Manner::Say(bytes));
        let answer = exchange.health(&endpoint(server.port, Contract::V2)).await;
        let found =
            answer.what.map_or_else(|failure| of_failure(failure).0, |()| "well".to_owned());
        assert_eq!(found, meaning, "{name}");
    }
}

#[tokio::test]
async fn the_date_is_the_services_or_none() {
    let cases = [
        ("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some("1994-11-06T08:49:37Z")),
        ("Date: Thu, 29 Feb 2024 23:59:59 GMT\r\n", Some("2024-02-29T23:59:59Z")),
        ("", None),
        ("Date: Mon, 06 Nov 1994 08:49:37 GMT\r\n", None), // it was a Sunday
        ("Date: Sun, 06 Nov 1994 08:49:37 +0000\r\n", None),
        ("Date: Sunday, 06-Nov-94 08:49:37 GMT\r\n", None),
        ("Date: Sun Nov  6 08:49:37 1994\r\n", None),
        ("Date: 1994-11-06T08:49:37Z\r\n", None),
        ("Date: Wed, 30 Feb 2024 00:00:00 GMT\r\n", None),
        ("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\n", None),
        ("Date: \u{e9}\u{e9}n, 06 Nov 1994 08:49:3 GMT\r\n", None),
    ];
    let exchange = exchange();
    for (headers, expected) in cases {
        let server = Server::start(Manner::Say(json("404 Not Found", headers, "{}")));
        let answer = issue(&exchange, &endpoint(server.port, Contract::V2)).await;
        assert_eq!(answer.date.map(|date| date.to_string()).as_deref(), expected, "{headers}");
    }
}
