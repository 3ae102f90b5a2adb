//! The JSON of an answer.

use serde_json::error::Category;

use crate::model::json::Json;

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

pub(super) fn parse(bytes: &[u8]) -> Result<Json, BadJson> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Eof | Category::Io => BadJson::Cut,
        Category::Syntax => BadJson::NotJson,
        // The only complaint that the reader of `Json` has.
        Category::Data => BadJson::Repeated,
    })
}
