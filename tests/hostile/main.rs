//! Input that is meant to hurt: files that people or attackers write, and what services answer,
//! through the real program, with little memory and little time.

mod files;
mod files_made;
#[path = "../support/scene.rs"]
mod scene;
#[path = "../support/service.rs"]
mod service;

use scene::Limits;

/// An ordinary run takes under 60 MB of address space, and half a second in a debug build on a
/// loaded machine. A file may take 300 MB more, as that is five times the largest here that is not
/// simply too large; whatever grows by powers is over that at once. The time is generous, as two
/// cores may be shared by many.
const LIMITS: Limits = Limits { memory: 360 * 1024, seconds: 20 };
