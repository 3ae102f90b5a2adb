//! Where a service is tried: makes the calls, keeps what was sent and seen, and writes down what
//! must be revoked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::Subject;
use super::answer::{self, Answer};
use super::every_answer::EveryAnswer;
use super::journal::Journal;
use super::runner::{Halt, moot};
use crate::exchange::{Exchange, NoAnswer, RawCall, RawReply, Shown};
use crate::model::registry::{Contract, Endpoint};
use crate::model::secret::Secret;

/// So many calls in a row without an answer: the service is gone, and each more takes its whole
/// timeout.
const PATIENCE: u8 = 3;
/// How often a call is made that gets 429 or 503.
const TRIES: u8 = 4;
/// A service that asks for a longer wait is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Shorter texts are no keys, and would blot out half of a report.
const SHORTEST_KEY: usize = 6;

/// A call and its answer, for people: without secrets and keys.
#[derive(Serialize)]
pub struct Step {
    /// What was sent.
    pub sent: String,
    /// What was seen.
    pub seen: String,
}

/// What is asked in an exchange.
#[derive(Clone)]
pub(super) struct Ask {
    /// The `client_ref`; with v1 the journal's own name.
    pub(super) name: String,
    pub(super) email: String,
    pub(super) ttl_days: u16,
}

/// What an exchange brought.
#[expect(clippy::struct_field_names, reason = "token_id is the contract's name")]
pub(super) struct Token {
    pub(super) ask: Ask,
    pub(super) token_id: String,
    pub(super) key: Zeroizing<String>,
    pub(super) expires_at: String,
}

/// By which name a token is revoked.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    TokenId(&'a str),
    Ref(&'a str),
}

pub(super) struct Bench<'a> {
    pub(super) subject: &'a Subject,
    pub(super) exchange: &'a Exchange,
    pub(super) journal: RefCell<Journal>,
    pub(super) observed: RefCell<EveryAnswer>,
    /// The tokens that were there before: of other people, never to be revoked.
    pub(super) others: RefCell<BTreeSet<String>>,
    /// A text that is not the shared secret.
    pub(super) wrong_secret: Secret,
    instance: String,
    stopping: watch::Receiver<bool>,
    /// Revokes go on when the checks were stopped.
    pub(super) paying: Cell<bool>,
    pub(super) unanswered: Cell<u8>,
    keys: RefCell<Vec<Zeroizing<String>>>,
    steps: RefCell<Vec<Step>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        subject: &'a Subject,
        exchange: &'a Exchange,
        journal: Journal,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let random = || format!("{:032x}", (subject.random)());
        Self {
            subject,
            exchange,
            journal: RefCell::new(journal),
            observed: RefCell::default(),
            others: RefCell::default(),
            wrong_secret: Secret::new(random()),
            instance: random()[..16].to_owned(),
            stopping,
            paying: Cell::new(false),
            unanswered: Cell::new(0),
            keys: RefCell::default(),
            steps: RefCell::default(),
        }
    }

    pub(super) fn contract(&self) -> Contract {
        self.subject.endpoint.contract
    }

    pub(super) fn is_v2(&self) -> bool {
        self.contract() == Contract::V2
    }

    pub(super) fn take_steps(&self) -> Vec<Step> {
        self.steps.take()
    }

    /// A new name, of the form that op ids have.
    pub(super) fn new_ask(&self) -> Ask {
        Ask {
            name: format!("sc1:{}:{:032x}", self.instance, (self.subject.random)()),
            email: self.subject.email.to_string(),
            ttl_days: 1,
        }
    }

    pub(super) fn ask_body(&self, ask: &Ask) -> Value {
        let mut body = json!({ "user_email": ask.email, "ttl_days": ask.ttl_days });
        if self.is_v2() {
            body["client_ref"] = ask.name.as_str().into();
        }
        body
    }

    /// Asks for a token as our client does.
    pub(super) async fn exchange(&self, ask: &Ask) -> Result<Answer, Halt> {
        self.exchange_as(ask, Shown::SharedSecret).await
    }

    pub(super) async fn exchange_as(&self, ask: &Ask, shown: Shown<'_>) -> Result<Answer, Halt> {
        let body = self.ask_body(ask).to_string().into_bytes();
        self.exchange_raw(&ask.name, body, &ask.name, shown).await
    }

    /// Asks in any form. Under the name it is in the journal before it is sent.
    pub(super) async fn exchange_raw(
        &self,
        name: &str,
        body: Vec<u8>,
        idempotency_key: &str,
        shown: Shown<'_>,
    ) -> Result<Answer, Halt> {
        self.may_go_on()?;
        self.journaled(|journal| journal.ask(name))?;
        let idempotency_key = self.is_v2().then_some(idempotency_key);
        let url = &self.subject.endpoint.exchange_url;
        let raw = RawCall { url, body: Some(body), idempotency_key, shown };
        let answer = match self.call(&raw).await {
            Err(Halt::NotSent(why)) => {
                self.journaled(|journal| journal.refused(name))?;
                return Err(Halt::NotSent(why));
            }
            answer => answer?,
        };
        match (answer.status, answer.text("token_id")) {
            (200, Some(id)) if answer.text("api_key") != Some(id) && !self.is_others(id) => {
                self.journaled(|journal| journal.token(name, id))?;
            }
            (408 | 425 | 429, _) => {}
            (400..500, _) => self.journaled(|journal| journal.refused(name))?,
            _ => {}
        }
        Ok(answer)
    }

    /// A token that works as well as it goes: the rules that are about something else go on.
    pub(super) async fn token(&self) -> Result<Token, Halt> {
        let ask = self.new_ask();
        let answer = match self.exchange(&ask).await {
            Ok(answer) => answer,
            Err(halt) => return Err(as_moot(halt)),
        };
        match (answer.json(), read(&ask, &answer)) {
            (Ok(_), Some(token)) => Ok(token),
            _ => moot(format!("no token could be had (see exchange-answer): {}", answer.story)),
        }
    }

    pub(super) async fn revoke(&self, by: By<'_>) -> Result<Answer, Halt> {
        self.revoke_as(by, Shown::SharedSecret).await
    }

    pub(super) async fn revoke_as(&self, by: By<'_>, shown: Shown<'_>) -> Result<Answer, Halt> {
        self.revoke_at(&self.subject.endpoint, by, shown).await
    }

    /// Where the token was issued: the registry may name another place by now.
    pub(super) async fn revoke_at(
        &self,
        endpoint: &Endpoint,
        by: By<'_>,
        shown: Shown<'_>,
    ) -> Result<Answer, Halt> {
        let body = match by {
            By::TokenId(id) if self.is_others(id) => {
                return moot(format!("the token {id} was there before: it is not revoked"));
            }
            By::TokenId(id) => json!({ "token_id": id }),
            By::Ref(name) => json!({ "client_ref": name }),
        };
        let url = &endpoint.revoke_url;
        let body = Some(body.to_string().into_bytes());
        let raw = RawCall { url, body, idempotency_key: None, shown };
        let answer = self.call_at(endpoint, &raw).await?;
        if answer.must_confirm().is_ok() {
            let (By::TokenId(name) | By::Ref(name)) = by;
            self.journaled(|journal| journal.revoked(name))?;
        }
        Ok(answer)
    }

    pub(super) fn is_others(&self, token_id: &str) -> bool {
        self.others.borrow().contains(token_id)
    }

    pub(super) async fn call(&self, raw: &RawCall<'_>) -> Result<Answer, Halt> {
        self.call_at(&self.subject.endpoint, raw).await
    }

    /// Makes a call, waiting where the service asks for it.
    async fn call_at(&self, endpoint: &Endpoint, raw: &RawCall<'_>) -> Result<Answer, Halt> {
        let sent = self.clean(&answer::sent(raw));
        for tries_left in (0..TRIES).rev() {
            self.may_go_on()?;
            let reply = match self.exchange.raw(endpoint, raw).await {
                Ok(reply) => reply,
                Err(none) => return self.unanswered(sent, none),
            };
            self.unanswered.set(0);
            let answer = self.received(raw, &sent, &reply);
            let wait = wait(&reply);
            if tries_left == 0 || wait.is_none_or(|wait| wait > LONGEST_WAIT) {
                return Ok(answer);
            }
            self.wait(wait.unwrap_or_default()).await;
        }
        unreachable!("the last try returned")
    }

    fn may_go_on(&self) -> Result<(), Halt> {
        if *self.stopping.borrow() && !self.paying.get() {
            return moot("interrupted");
        }
        if self.unanswered.get() >= PATIENCE {
            return moot("the service does not answer any more");
        }
        Ok(())
    }

    fn unanswered(&self, sent: String, none: NoAnswer) -> Result<Answer, Halt> {
        self.unanswered.set(self.unanswered.get() + 1);
        let story = format!("no answer: {}", none.why);
        self.steps.borrow_mut().push(Step { sent, seen: none.why });
        Err(if none.sent { Halt::Broken(story) } else { Halt::NotSent(story) })
    }

    fn received(&self, raw: &RawCall<'_>, sent: &str, reply: &RawReply) -> Answer {
        let mut answer = Answer::new(reply, String::new());
        if let Some(key) = answer.text("api_key").filter(|key| key.len() >= SHORTEST_KEY) {
            self.keys.borrow_mut().push(Zeroizing::new(key.to_owned()));
        }
        let seen = answer::shown(reply, |text| self.clean(text));
        answer.story = format!("{sent} got {seen}");
        let body = reply.body.as_ref().map(|body| body.as_slice()).unwrap_or_default();
        let shows_secret = self.exchange.secret_is_in(body);
        // The contract says nothing of the business API.
        if self.subject.probe.as_deref() != Some(raw.url) {
            self.observed.borrow_mut().observe(reply, &answer.story, shows_secret);
        }
        self.steps.borrow_mut().push(Step { sent: sent.to_owned(), seen });
        answer
    }

    /// The text without secrets and keys.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = self.exchange.without_secrets(text);
        for key in self.keys.borrow().iter() {
            text = text.replace(key.as_str(), "(key)");
        }
        text
    }

    async fn wait(&self, wait: Duration) {
        let mut stopping = self.stopping.clone();
        let until_stop = async {
            // While paying there is nothing left to be stopped but by the end of the process.
            if self.paying.get() || stopping.wait_for(|stopping| *stopping).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = until_stop => {}
        }
    }

    pub(super) fn journaled(
        &self,
        write: impl FnOnce(&mut Journal) -> std::io::Result<()>,
    ) -> Result<(), Halt> {
        let written = write(&mut self.journal.borrow_mut());
        written.or_else(|error| moot(format!("the journal cannot be written: {error}")))
    }
}

/// The fields of a grant, whatever else is wrong with it.
pub(super) fn read(ask: &Ask, answer: &Answer) -> Option<Token> {
    Some(Token {
        ask: ask.clone(),
        token_id: answer.text("token_id")?.to_owned(),
        key: Zeroizing::new(answer.text("api_key")?.to_owned()),
        expires_at: answer.text("expires_at").unwrap_or_default().to_owned(),
    })
}

/// What kept this rule from being tried is another rule's failure.
pub(super) fn as_moot(halt: Halt) -> Halt {
    match halt {
        Halt::Broken(what) | Halt::NotSent(what) | Halt::Moot(what) => Halt::Moot(what),
    }
}

/// How long to wait before the same call again; none: it is answered.
fn wait(reply: &RawReply) -> Option<Duration> {
    matches!(reply.status, 429 | 503).then(|| {
        let wait = reply.retry_after().and_then(|wait| Duration::try_from(wait).ok());
        wait.unwrap_or(Duration::from_secs(1))
    })
}
