//! JSON Schemas of the files that people write, from the types that read them: an editor completes
//! and checks by them.
//!
//! The schema says what a file may look like. What depends on other files, or on other entries of
//! the same one, only the program itself checks (`validate`).

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::name::{AccountName, Email, EnvName, ServiceId, SkillFile, UserId};
use super::yaml::{Bounded, Entries, Version1};

/// A type whose schema is a text of a pattern (ECMA 262).
macro_rules! pattern {
    ($name:ident, $pattern:literal, $description:literal) => {
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "description": $description,
                })
            }
        }
    };
}

pattern!(UserId, r"^(?!.*\.\.)[a-z_][a-z0-9._-]{0,31}$", "A person's id");
pattern!(AccountName, r"^(?!.*\.\.)[a-z_][a-z0-9._-]{0,31}$", "An account on the server");
pattern!(ServiceId, "^[a-z][a-z0-9_]{0,31}$", "A service's id in the registry");
pattern!(EnvName, "^[A-Z][A-Z0-9_]{0,63}$", "The name of an environment variable");
pattern!(SkillFile, r"^sc_[a-z0-9_]{1,60}\.md$", "The file name of a skill");
pattern!(Email, r"^[!-?A-~]+@[!-?A-~]+$", "An e-mail address");

/// A domain name.
pub struct Domain;
pattern!(Domain, r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$", "A domain name");

/// A point in time (RFC 3339).
pub struct Time;

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "A time such as 2026-11-01T00:00:00Z",
        })
    }
}

impl JsonSchema for Version1 {
    fn schema_name() -> Cow<'static, str> {
        "Version1".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1, "description": "The version of the format" })
    }
}

impl<const MIN: u16, const MAX: u16> JsonSchema for Bounded<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("From{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl<K: JsonSchema, V: JsonSchema> JsonSchema for Entries<K, V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Entries_{}_{}", K::schema_name(), V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (names, values) = (generator.subschema_for::<K>(), generator.subschema_for::<V>());
        json_schema!({
            "type": "object",
            "propertyNames": names,
            "additionalProperties": values,
        })
    }
}

/// The schema of a file that is read as `T`.
#[must_use]
pub fn of<T: JsonSchema>(title: &str) -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    // What may be left out may still not be null.
    RecursiveTransform(|schema: &mut Schema| {
        if schema.get("default").is_some_and(serde_json::Value::is_null) {
            schema.remove("default");
        }
    })
    .transform(&mut schema);
    schema
}
