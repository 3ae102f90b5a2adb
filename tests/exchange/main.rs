//! The HTTP edge against real sockets: what is sent, byte by byte, and what each answer means.

mod answers;
mod next_secret;
mod requests;
mod secrets;
mod server;
mod tls;
mod trouble;
