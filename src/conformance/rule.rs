//! The rules of the service contract, by name.

use crate::model::registry::Contract;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Its name: in reports, and in `docs/service-contract.md`.
    pub name: &'static str,
    /// What must be so.
    pub says: &'static str,
    /// What goes wrong where it is not.
    pub why: &'static str,
    since: Contract,
}

impl Rule {
    /// Whether it is one of this version of the contract.
    #[must_use]
    pub fn is_of(&self, contract: Contract) -> bool {
        self.since <= contract
    }
}

macro_rules! rules {
    ($($since:ident $id:ident $name:literal: $says:literal, $why:literal;)*) => {
        $(pub(super) const $id: Rule =
            Rule { name: $name, says: $says, why: $why, since: Contract::$since };)*

        /// Every rule, in the order of the run.
        pub const ALL: &[&Rule] = &[$(&$id),*];
    };
}

rules! {
    V1 HEALTH "health-open":
        "GET health answers 2xx without a secret",
        "health is asked often, by tools that have no business with the secret";
    V1 EXCHANGE_NEEDS_SECRET "exchange-needs-secret":
        "An exchange without the shared secret, or with a wrong one, gets 401 or 403 and no key",
        "whoever reaches the address could otherwise make keys in anybody's name";
    V1 REVOKE_NEEDS_SECRET "revoke-needs-secret":
        "A revoke without the shared secret, or with a wrong one, gets 401 or 403 and revokes nothing",
        "whoever reaches the address could otherwise cut people off";
    V2 LIST_NEEDS_SECRET "list-needs-secret":
        "The list without the shared secret, or with a wrong one, gets 401 or 403",
        "it says who has access to what";
    V1 ANSWER "exchange-answer":
        "An exchange gets 200 and one JSON object with the texts status \"ok\", api_key, token_id, expires_at",
        "an answer that readers may read in two ways is refused, and its token revoked";
    V1 KEY "key-alphabet":
        "The api_key is 1 to 4096 of A-Z a-z 0-9 _ . + / : @ % , - (and = or == at its end)",
        "these are read alike by every shell and dotenv library; others break the file or run commands";
    V1 TOKEN_ID "token-id":
        "The token_id is 1 to 256 of A-Z a-z 0-9 . _ : @ / + = -, and is not the key",
        "it is written to logs and reports, where a key must never be";
    V1 EXPIRY "expiry-form":
        "expires_at is a time of RFC 3339 with its offset, more than 5 minutes from now",
        "a key whose end is unknown can be neither renewed in time nor counted as over";
    V1 EXPIRY_AS_ASKED "expiry-as-asked":
        "expires_at is not later than ttl_days from now",
        "a key must not outlive what was granted to the person";
    V1 TWO_TOKENS "two-asks-two-tokens":
        "Two asks get two token_ids and two keys, neither of which was there before",
        "a renewal revokes the old token once the new one is in place: one name for both ends both";
    V2 REPEAT "repeat-same-token":
        "The same client_ref and body get the same token_id, api_key and expires_at (or 409)",
        "an answer that was lost is asked for again; another token each time leaves orphans";
    V2 REPEAT_AT_ONCE "repeat-at-once":
        "The same client_ref four times at once makes one token",
        "a retry may overtake the call that it repeats";
    V2 OTHER_BODY "other-body-422":
        "The same client_ref with another address or ttl_days gets 422 and changes nothing",
        "one person must never be handed the token of another";
    V2 KEY_MISMATCH "idempotency-key-mismatch":
        "An Idempotency-Key that is not the client_ref is refused (400 or 422) and issues nothing",
        "a proxy that repeats by header and a service that repeats by body would disagree";
    V1 REVOKE_ID "revoke-by-token-id":
        "A revoke by token_id gets 200 and {\"status\": \"ok\"}",
        "only this ends the debt: a login page with status 200 does not";
    V2 GONE_BY_ID "gone-after-revoke-by-token-id":
        "After a revoke by token_id an exchange with its client_ref gets 410",
        "otherwise a call that is late brings the key back to life";
    V2 REVOKE_REF "revoke-by-client-ref":
        "A revoke by client_ref gets {\"status\": \"ok\"}, and the token is gone from the list",
        "it is the only name that is known of a token whose answer was lost";
    V2 GONE_BY_REF "gone-after-revoke":
        "After a revoke by client_ref an exchange with it gets 410",
        "otherwise a call that is late brings the key back to life";
    V1 REVOKE_TWICE "revoke-repeats":
        "A second revoke of the same token gets {\"status\": \"ok\"}",
        "a revoke whose answer was lost is sent again until it is confirmed";
    V1 REVOKE_UNKNOWN "revoke-unknown":
        "A revoke of a name that was never heard of gets {\"status\": \"ok\"}",
        "404 may as well be a proxy's: it confirms nothing, and the debt would never end";
    V2 TOMBSTONE "late-exchange-refused":
        "A client_ref that was revoked before it was ever used is remembered: its exchange gets 410",
        "an exchange that arrives after its revoke would issue a key that nobody knows of";
    V2 LISTED "list-has-live-tokens":
        "The list has each live token with token_id, client_ref, user_email, expires_at as issued",
        "the sweep finds orphans by it";
    V2 NOT_LISTED "list-drops-revoked":
        "The list has no revoked token",
        "the sweep would take a dead token for one that is owed";
    V2 PAGES "list-pages":
        "A page has at most 200 tokens, and `next` leads through all of them, each once",
        "a page over 64 KiB is refused, and a cursor that circles hides what is behind it";
    V1 BUSINESS_OPEN "key-works":
        "The business API takes the key (--probe)",
        "a key that opens nothing is of no use";
    V1 BUSINESS_SHUT "key-stops":
        "The business API answers 401 to the key once it is revoked (--probe)",
        "this is what a revoke is for";
    V1 MALFORMED "malformed-refused":
        "A request that is not as it should be gets 400 (or 413, 415, 422), issues and revokes nothing",
        "500 means that it may have been done, and is repeated for ever";
    V2 DATE "date-header":
        "Every answer has one Date, in the form of RFC 9110",
        "by it we tell that clocks differ before keys seem to be over too soon";
    V1 CLOCK "clock":
        "The Date is within 5 minutes of this machine's clock",
        "beyond that nothing is renewed, since nobody knows when a key ends";
    V1 NO_REDIRECT "no-redirect":
        "No answer is a redirect",
        "redirects are not followed: the shared secret would go to another address";
    V1 SIZE "answer-size":
        "No answer has more than 64 KiB",
        "more is not read";
    V2 JSON "json-content-type":
        "An answer of success is application/json",
        "a page of HTML with status 200 is told from an answer by it";
    V2 PROBLEM "problem-json":
        "An error is application/problem+json (RFC 9457) with a title or a detail",
        "its text is what the person who must act gets to read";
    V2 RETRY_AFTER "retry-after":
        "429 and 503 have a Retry-After",
        "without it nobody knows when to come back, and all come back at once";
    V1 SECRET_STAYS "secret-not-shown":
        "No answer has the shared secret in it",
        "error texts end up in logs and on screens";
    V1 NOTHING_LEFT "nothing-left":
        "Every token of this run is revoked at the end",
        "what this check issues must not outlive it";
}
