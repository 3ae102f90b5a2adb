//! The JSON of an answer, strictly: a name that stands twice in one object is refused, at any
//! depth, since readers differ on which one counts (RFC 8259, section 4).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use crate::model::secret::Secret;

/// As much of a JSON value as answers are made of. A text may be a key.
pub(super) enum Json {
    Text(Secret),
    Object(BTreeMap<String, Json>),
    Null,
    Other,
}

/// Why there is no value. It never shows what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadJson {
    #[error("its body ends before its JSON does")]
    Cut,
    #[error("its body is not JSON")]
    NotJson,
    #[error("its JSON has a name twice in one object")]
    Repeated,
}

impl Json {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BadJson> {
        serde_json::from_slice(bytes).map_err(|error| match error.classify() {
            Category::Eof | Category::Io => BadJson::Cut,
            Category::Syntax => BadJson::NotJson,
            // The only complaint that the visitor below has.
            Category::Data => BadJson::Repeated,
        })
    }

    /// A field of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.get(name),
            Self::Text(_) | Self::Null | Self::Other => None,
        }
    }

    /// A field of an object that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Self::Text(text)) => Some(text.expose()),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(Secret::new(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        // Read for what may stand twice inside; no answer of ours has a list.
        while items.next_element::<Json>()?.is_some() {}
        Ok(Json::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut object = BTreeMap::new();
        while let Some(name) = fields.next_key::<String>()? {
            if object.insert(name, fields.next_value::<Json>()?).is_some() {
                return Err(A::Error::custom("a name twice in one object"));
            }
        }
        Ok(Json::Object(object))
    }
}
