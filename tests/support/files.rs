//! What a home holds, computed as the state and the helper would.

use std::collections::BTreeMap;

use service_connector::model::actual::{Installed, Piece};
use service_connector::model::digest::Digest;
use service_connector::model::env_file::EnvFile;
use service_connector::model::name::{EnvValue, OpId, ServiceId};
use service_connector::model::registry::Rendition;
use service_connector::model::skill;

/// The key that every service of the tests gives for this op.
pub fn key_of(op: &OpId) -> String {
    format!("secretkey{}", op.as_str().rsplit(':').next().unwrap_or_default())
}

/// The record of these pieces as files.
pub fn installed(
    renditions: &BTreeMap<Digest, Rendition>,
    generation: u64,
    pieces: BTreeMap<ServiceId, Piece>,
) -> Installed {
    let mut file = EnvFile { generation, skills: Vec::new(), variables: Vec::new() };
    for piece in pieces.values() {
        let rendition = &renditions[&piece.rendition];
        let text = skill::render(rendition, piece.status);
        file.skills.push((rendition.skill.clone(), Digest::of(text)));
        let Some(op) = &piece.op else { continue };
        for (name, template) in &rendition.env {
            let value = EnvValue::parse(&template.with(&key_of(op))).expect("a legal value");
            file.variables.push((name.clone(), value));
        }
    }
    let skills = file.skills.iter().cloned().collect();
    let env = Digest::of(file.render().as_bytes());
    Installed { generation, env, skills, pieces, confirmed: false }
}
