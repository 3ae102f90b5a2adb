//! Filling an install: from what the plan names to the bytes that go into a home.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::OptionalExtension;

use crate::model::action::{Content, Install, InstallReason, Slot, status_until};
use crate::model::actual::{Installed, Piece};
use crate::model::digest::Digest;
use crate::model::env_file::EnvFile;
use crate::model::name::{AccountName, EnvName, EnvValue, OpId, ServiceId, SkillFile, UserId};
use crate::model::registry::Rendition;
use crate::model::secret::Secret;
use crate::model::skill::{self, Status};
use crate::model::token::Phase;
use crate::wire::HomeFiles;

use super::schema::NOT_ENDED;
use super::seal::Identity;
use super::{Store, StoreError};

/// What became of filling an install.
pub enum Filled {
    /// These files are to be put.
    Files {
        /// The whole set for the home.
        files: HomeFiles,
        /// Their generation.
        generation: u64,
        /// The tokens whose keys are in them.
        holds: Vec<(ServiceId, OpId)>,
    },
    /// The home has what it should have.
    Nothing,
    /// A key cannot be unsealed. It is due for renewal now; the home stays as it is.
    Unreadable(ServiceId),
}

/// The parts of a home as texts.
#[derive(Default)]
struct Parts {
    variables: Vec<(EnvName, EnvValue)>,
    skills: BTreeMap<SkillFile, String>,
}

impl Store {
    /// Fills an install with what the state holds now, and records what is about to be put: the
    /// generation and the digests are on disk before the first byte goes into the home.
    ///
    /// `renditions` are those of the registry; what they lack, the state remembers.
    ///
    /// # Errors
    /// The database's.
    pub fn fill(
        &mut self,
        install: &Install,
        renditions: &BTreeMap<Digest, Rendition>,
    ) -> Result<Filled, StoreError> {
        self.in_transaction(|store| store.fill_within(install, renditions))
    }

    fn fill_within(
        &self,
        install: &Install,
        renditions: &BTreeMap<Digest, Rendition>,
    ) -> Result<Filled, StoreError> {
        let mut pieces = BTreeMap::new();
        for (service, slot) in &install.slots {
            if let Some(piece) = self.piece(install, service, slot)? {
                pieces.insert(service.clone(), self.without_ended(piece)?);
            }
        }
        let record = self.installed_in(&install.user, &install.account)?;
        let same = record.as_ref().filter(|record| record.pieces == pieces);
        let only_contents = [InstallReason::Changed, InstallReason::Moved];
        if same.is_some_and(|record| record.confirmed)
            && install.why.iter().all(|why| only_contents.contains(why))
        {
            return Ok(Filled::Nothing);
        }
        let mut parts = Parts::default();
        for (service, piece) in &pieces {
            let rendition = self.rendition(piece.rendition, renditions)?;
            if !self.add_part(&mut parts, install, service, piece, &rendition)? {
                return Ok(Filled::Unreadable(service.clone()));
            }
        }
        // The same contents go under the same number, unless somebody has seen a higher one.
        let kept = same.filter(|record| install.seen <= record.generation);
        let generation = match kept {
            Some(record) => record.generation,
            None => self.next_generation(&install.user, install.seen)?,
        };
        let (files, env, skills) = files(parts, generation);
        let holds = pieces.iter().filter_map(|(service, piece)| {
            piece.op.as_ref().map(|op| (service.clone(), op.clone()))
        });
        let holds = holds.collect();
        let confirmed = kept.is_some_and(|record| record.confirmed);
        let next = Installed { generation, env, skills, pieces, confirmed };
        if record.as_ref() != Some(&next) {
            self.record_installed(&install.user, &install.account, &next)?;
        }
        Ok(Filled::Files { files, generation, holds })
    }

    /// What stands in a slot now.
    fn piece(
        &self,
        install: &Install,
        service: &ServiceId,
        slot: &Slot,
    ) -> Result<Option<Piece>, StoreError> {
        match &slot.after {
            None => Ok(None),
            Some(Content::Keep(piece) | Content::Of(piece)) => Ok(Some(piece.clone())),
            Some(Content::New { rendition, until_then }) => {
                let newest = self.newest_active(&install.user, service, &install.account)?;
                let newest = newest.map(|(op, expires_at)| Piece {
                    op: Some(op),
                    rendition: *rendition,
                    status: status_until(expires_at),
                });
                Ok(newest.or_else(|| until_then.clone()))
            }
        }
    }

    /// A piece that is to stay although its token has ended keeps its skill; the key is gone.
    fn without_ended(&self, piece: Piece) -> Result<Piece, StoreError> {
        let phase = piece.op.as_ref().map(|op| self.phase_of(op)).transpose()?.flatten();
        let has_ended = phase.is_some_and(Phase::is_end);
        Ok(if has_ended { Piece { op: None, status: Status::Expired, ..piece } } else { piece })
    }

    /// The newest active token of a connection that is bound to this account.
    fn newest_active(
        &self,
        user: &UserId,
        service: &ServiceId,
        account: &AccountName,
    ) -> Result<Option<(OpId, Timestamp)>, StoreError> {
        let sql = format!(
            "SELECT op, expires_at FROM token WHERE user = ?1 AND service = ?2 AND account = ?3 \
             AND phase = 'active' AND {NOT_ENDED} AND key_readable = 1 ORDER BY seq DESC LIMIT 1"
        );
        let values = [user.as_str(), service.as_str(), account.as_str()];
        Ok(self
            .collect(&sql, values, |row| Ok((self.parse(row, 0, "op id")?, self.time(row, 1)?)))?
            .pop())
    }

    /// Adds one connection's part. False: its key cannot be unsealed.
    fn add_part(
        &self,
        parts: &mut Parts,
        install: &Install,
        service: &ServiceId,
        piece: &Piece,
        rendition: &Rendition,
    ) -> Result<bool, StoreError> {
        if let Some(op) = &piece.op {
            let Some(key) = self.unseal(op, install, service)? else { return Ok(false) };
            for (name, template) in &rendition.env {
                let value = zeroize::Zeroizing::new(template.with(key.expose()));
                let value = EnvValue::parse(&value)
                    .map_err(|error| self.damaged("value of a variable", &error))?;
                parts.variables.push((name.clone(), value));
            }
        }
        parts.skills.insert(rendition.skill.clone(), skill::render(rendition, piece.status));
        Ok(true)
    }

    /// The key of a token that is bound to this account; none, and remembered, if it cannot be
    /// unsealed.
    fn unseal(
        &self,
        op: &OpId,
        install: &Install,
        service: &ServiceId,
    ) -> Result<Option<Secret>, StoreError> {
        let sql = "SELECT 1 FROM token WHERE op = ?1 AND account = ?2";
        let values = [op.as_str(), install.account.as_str()];
        let is_bound = self.connection.query_row(sql, values, |_| Ok(())).optional();
        let identity = Identity { op, user: &install.user, service };
        let key = match is_bound.map_err(self.database())? {
            Some(()) => self.sealed_key(op, identity)?,
            None => None,
        };
        if key.is_none() {
            self.execute("UPDATE token SET key_readable = 0 WHERE op = ?1", [op.as_str()])?;
        }
        Ok(key)
    }

    /// The key of a token, unsealed; none if it cannot be.
    pub(super) fn sealed_key(
        &self,
        op: &OpId,
        whose: Identity<'_>,
    ) -> Result<Option<Secret>, StoreError> {
        let sql = "SELECT sealed FROM token WHERE op = ?1";
        let row = |row: &rusqlite::Row<'_>| row.get::<_, Option<Vec<u8>>>(0);
        let sealed = self.connection.query_row(sql, [op.as_str()], row).optional();
        let sealed = sealed.map_err(self.database())?.flatten();
        Ok(sealed.zip(self.keys.as_ref()).and_then(|(s, keys)| keys.unseal(&s, whose)))
    }

    fn rendition(
        &self,
        digest: Digest,
        renditions: &BTreeMap<Digest, Rendition>,
    ) -> Result<Rendition, StoreError> {
        if let Some(rendition) = renditions.get(&digest) {
            let values = (digest.to_string(), self.json(rendition)?);
            self.execute("INSERT OR IGNORE INTO rendition (digest, body) VALUES (?1, ?2)", values)?;
            return Ok(rendition.clone());
        }
        let sql = "SELECT body FROM rendition WHERE digest = ?1";
        let bodies = self.collect(sql, [digest.to_string()], |row| self.get::<String>(row, 0))?;
        let body = bodies.first().ok_or_else(|| self.damaged("rendition", &digest))?;
        self.read_json("rendition", body)
    }

    fn next_generation(&self, user: &UserId, seen: u64) -> Result<u64, StoreError> {
        let sql = "SELECT highest FROM generation WHERE user = ?1";
        let highest = self.collect(sql, [user.as_str()], |row| self.number(row, 0))?;
        let next = highest.first().copied().unwrap_or(0).max(seen) + 1;
        let stored = i64::try_from(next).map_err(|error| self.damaged("generation", &error))?;
        let values = (user.as_str(), stored);
        self.execute("INSERT OR REPLACE INTO generation (user, highest) VALUES (?1, ?2)", values)?;
        Ok(next)
    }

    fn record_installed(
        &self,
        user: &UserId,
        account: &AccountName,
        installed: &Installed,
    ) -> Result<(), StoreError> {
        let generation = i64::try_from(installed.generation)
            .map_err(|error| self.damaged("generation", &error))?;
        self.execute(
            "INSERT OR REPLACE INTO installed \
             (user, account, generation, env, skills, pieces, confirmed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            (
                user.as_str(),
                account.as_str(),
                generation,
                installed.env.to_string(),
                self.json(&installed.skills)?,
                self.json(&installed.pieces)?,
                installed.confirmed,
            ),
        )
    }
}

/// The files, and the digests of what will be seen.
fn files(parts: Parts, generation: u64) -> (HomeFiles, Digest, BTreeMap<SkillFile, Digest>) {
    let skills: BTreeMap<SkillFile, Digest> =
        parts.skills.iter().map(|(file, text)| (file.clone(), Digest::of(text))).collect();
    let manifest = skills.iter().map(|(file, digest)| (file.clone(), *digest)).collect();
    let env = EnvFile { generation, skills: manifest, variables: parts.variables }.render();
    let digest = Digest::of(env.as_bytes());
    (HomeFiles { env, skills: parts.skills }, digest, skills)
}
