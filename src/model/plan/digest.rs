//! The two digests: of what a plan does, and of what the guard holds back.
//!
//! A digest names a plan, so that what a person has read is what is carried out. It covers what is
//! done to what, and what that was found to be; it leaves out why and when, so that the same plan,
//! made a minute later, has the same name.

use std::collections::BTreeMap;

use super::super::action::{Action, Content, EndKind, Install, Issue, IssueOp};
use super::super::actual::{Actual, Installed, Piece};
use super::super::digest::Digest;
use super::super::home::{FileFacts, HomeFacts, HomeLook};
use super::super::name::{OpId, ServiceId, UserId};
use super::{Held, Loss, Plan};

impl Plan {
    /// The plan digest: every action as kind, user, service, existing op ids, fingerprints, file
    /// hashes and what is asked for whom, in order; no reasons, times, generations or new ids.
    #[must_use]
    pub fn digest(&self, actual: &Actual) -> Digest {
        let mut fields = Fields { actual, list: Vec::new() };
        for action in &self.actions {
            fields.action(action);
        }
        Digest::of_fields(fields.list.iter().map(String::as_str))
    }
}

impl Held {
    /// The digest of the held removals alone: what an approval names.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut lines: Vec<String> = self.losses.iter().map(line).collect();
        lines.sort_unstable();
        Digest::of_fields(lines.iter().map(String::as_str))
    }
}

fn line(loss: &Loss) -> String {
    let mut ops: Vec<&str> = loss.ops.iter().map(OpId::as_str).collect();
    ops.sort_unstable();
    format!("{} {} {}", loss.user, loss.service, ops.join(" "))
}

/// The fields of a digest as they are gathered. Each kind of action has a fixed number of them, or
/// says how many follow, so that no two lists of actions have the same fields.
struct Fields<'a> {
    actual: &'a Actual,
    list: Vec<String>,
}

impl Fields<'_> {
    fn add(&mut self, field: &(impl ToString + ?Sized)) {
        self.list.push(field.to_string());
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Issue(issue) => self.issue(issue),
            Action::Install(install) => self.install(install),
            Action::Revoke(revoke) => {
                self.add(if revoke.after_delivery { "revoke after delivery" } else { "revoke" });
                self.token(&revoke.user, &revoke.service, &revoke.op);
            }
            Action::End(end) => {
                self.add(match end.how {
                    EndKind::Expired(_) => "expired",
                    EndKind::Lost(_) => "lost",
                });
                self.token(&end.user, &end.service, &end.op);
            }
        }
    }

    fn issue(&mut self, issue: &Issue) {
        self.add("issue");
        self.add(&issue.user);
        self.add(&issue.service);
        match &issue.op {
            IssueOp::New => self.add("new"),
            IssueOp::Resume(op) => self.add(op),
        }
        self.add(&issue.binding.account);
        self.add(&issue.binding.email);
        self.add(&issue.ask.endpoint.exchange_url);
        self.add(&issue.ask.ttl_days);
    }

    fn token(&mut self, user: &UserId, service: &ServiceId, op: &OpId) {
        self.add(user);
        self.add(service);
        self.add(op);
        self.fingerprint(user, service, op);
    }

    fn fingerprint(&mut self, user: &UserId, service: &ServiceId, op: &OpId) {
        let token = self.actual.tokens_of(user, service).iter().find(|token| token.op == *op);
        let grant = token.and_then(|token| token.grant.as_ref());
        self.add(&grant.map(|grant| grant.fingerprint.to_string()).unwrap_or_default());
    }

    fn install(&mut self, install: &Install) {
        self.add("install");
        self.add(&install.user);
        self.add(&install.account);
        self.add(&install.slots.len());
        for (service, slot) in &install.slots {
            self.add(service);
            self.piece(&install.user, service, slot.before.as_ref());
            self.content(&install.user, service, slot.after.as_ref());
        }
        let records = self.actual.installed.get(&install.user);
        self.recorded(records.and_then(|records| records.get(&install.account)));
        self.seen(self.actual.homes.get(&install.account));
    }

    fn content(&mut self, user: &UserId, service: &ServiceId, content: Option<&Content>) {
        match content {
            None => self.add("gone"),
            Some(Content::Keep(piece) | Content::Of(piece)) => {
                self.add("this");
                self.piece(user, service, Some(piece));
            }
            Some(Content::New { rendition, until_then }) => {
                self.add("new");
                self.add(rendition);
                self.piece(user, service, until_then.as_ref());
            }
        }
    }

    fn piece(&mut self, user: &UserId, service: &ServiceId, piece: Option<&Piece>) {
        let Some(piece) = piece else { return self.add("nothing") };
        self.add(&piece.rendition);
        self.add(&piece.status);
        match &piece.op {
            None => self.add("no key"),
            Some(op) => {
                self.add(op);
                self.fingerprint(user, service, op);
            }
        }
    }

    fn recorded(&mut self, record: Option<&Installed>) {
        let Some(record) = record else { return self.add("no record") };
        self.add(&record.env);
        self.files(&record.skills);
    }

    fn seen(&mut self, look: Option<&HomeLook>) {
        match look {
            None | Some(HomeLook::Unknown(_)) => self.add("not looked"),
            Some(HomeLook::Absent(_)) => self.add("absent"),
            Some(HomeLook::Seen(HomeFacts { env, skills, rules_mode_ok, .. })) => {
                self.add(&env.map(|env| shown(env.file)).unwrap_or_default());
                self.files(skills.iter().map(|(file, facts)| (file, shown(*facts))));
                self.add(rules_mode_ok);
            }
        }
    }

    fn files<K: ToString, V: ToString>(&mut self, files: impl IntoIterator<Item = (K, V)>) {
        let files: BTreeMap<String, String> =
            files.into_iter().map(|(file, hash)| (file.to_string(), hash.to_string())).collect();
        self.add(&files.len());
        for (file, hash) in files {
            self.add(&file);
            self.add(&hash);
        }
    }
}

fn shown(facts: FileFacts) -> String {
    format!("{} {}", facts.digest, facts.mode_ok)
}
