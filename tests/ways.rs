//! The whole story on real accounts, by each way in which the helper is reached: one protocol, one
//! start for a pass.

#[path = "ways/leavers.rs"]
mod leavers;
#[path = "support/scene.rs"]
mod scene;
#[path = "support/server.rs"]
mod server;
#[path = "support/service.rs"]
mod service;
#[path = "ways/story.rs"]
mod story;
#[path = "ways/way.rs"]
mod way;
