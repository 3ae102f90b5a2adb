//! What went wrong, as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::ProblemJson;
use crate::causes::chain;
use crate::desired_file::{EditError, LoadError};
use crate::editor::RefusedEdit;
use crate::model::change::ChangeError;
use crate::portal::PortalError;

/// An answer that is an error.
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// For people.
    pub(super) detail: String,
    /// In seconds.
    pub(super) retry_after: Option<u32>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    pub(super) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Somebody must mend something, or wait: what it is goes to the log, for it may name others.
    fn unavailable(detail: &str, error: &dyn std::error::Error) -> Self {
        tracing::warn!(error = chain(error), "the portal could not answer");
        let detail = format!(
            "{detail} Try again in a moment; if it stays so, tell whoever runs this portal."
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5)
    }

    pub(super) fn stopping() -> Self {
        let detail = "The portal is being stopped. Try again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(2)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemJson {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            error: self.detail,
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<PortalError> for Problem {
    fn from(error: PortalError) -> Self {
        use PortalError as Error;
        match &error {
            Error::State(_) => Self::unavailable("How things stand cannot be told now.", &error),
            Error::Registry(_) | Error::People(_) | Error::Desired(_) | Error::DesiredPart(_) => {
                Self::unavailable("The portal's files cannot be read now.", &error)
            }
            Error::Approval(_) => Self::unavailable("It cannot be approved here now.", &error),
            Error::NoService(_) | Error::Nobody(_) => {
                Self::new(StatusCode::NOT_FOUND, format!("{}.", upper(&error)))
            }
            Error::NotAllowed(_) => Self::new(StatusCode::FORBIDDEN, error.to_string()),
            Error::NotNow(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            Error::Refused(refused) => Self::of_edit(refused),
            Error::Stopping => Self::stopping(),
            Error::File(_) => Self::new(StatusCode::NOT_FOUND, "There is no such file."),
        }
    }
}

impl Problem {
    fn of_edit(refused: &RefusedEdit) -> Self {
        match refused {
            RefusedEdit::Ended => Self::stopping(),
            RefusedEdit::Change(error) => match error {
                ChangeError::Disabled(_) => Self::new(
                    StatusCode::FORBIDDEN,
                    "You are offboarded: nothing can be connected for you. If that is wrong, tell \
                     whoever runs this portal.",
                ),
                ChangeError::NotConnected { service, .. } => {
                    Self::new(StatusCode::CONFLICT, format!("You are not connected to {service}."))
                }
                ChangeError::Ttl(_) => {
                    Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{error}."))
                }
            },
            RefusedEdit::File(error) => match &**error {
                EditError::Conflict { .. } => Self::new(
                    StatusCode::PRECONDITION_FAILED,
                    "Something was changed meanwhile. Look again, and then decide.",
                ),
                EditError::Load(LoadError::Missing(_) | LoadError::Read { .. }) => {
                    Self::unavailable("Nothing can be changed now: the file is not there.", error)
                }
                EditError::Load(_) | EditError::Text { .. } => {
                    tracing::warn!(error = chain(&**error), "an edit could not be made");
                    Self::new(
                        StatusCode::CONFLICT,
                        "Nothing can be changed at the moment: the desired state was edited by hand and \
                         cannot be used as it is. Tell whoever runs this portal.",
                    )
                }
                error => Self::unavailable("Nothing can be changed now.", error),
            },
        }
    }
}

/// With a capital letter.
fn upper(error: &impl ToString) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
