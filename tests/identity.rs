//! Who is asking: a proxy's header, Flask's session as the real Flask writes it, JSON Web Tokens.

#[path = "identity/asked.rs"]
mod asked;
#[path = "identity/configured.rs"]
mod configured;
#[path = "identity/flask.rs"]
mod flask;
#[path = "identity/headers.rs"]
mod headers;
#[path = "identity/jwt.rs"]
mod jwt;
#[path = "support/python.rs"]
mod python;
#[path = "identity/snippets.rs"]
mod snippets;
#[path = "identity/together.rs"]
mod together;
