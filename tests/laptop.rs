//! The analyst's side: the script that brings keys and skills to a laptop, in the shells and with the
//! awks that laptops have.

#[path = "laptop/case.rs"]
mod case;
#[path = "laptop/everyday.rs"]
mod everyday;
#[path = "laptop/faults.rs"]
mod faults;
#[path = "laptop/kit.rs"]
mod kit;
#[path = "laptop/merge.rs"]
mod merge;
#[path = "support/python.rs"]
mod python;
#[path = "laptop/robust.rs"]
mod robust;
#[path = "laptop/rotation.rs"]
mod rotation;
#[path = "support/scene.rs"]
mod scene;
#[path = "laptop/secrets.rs"]
mod secrets;
#[path = "support/server.rs"]
mod server;
#[path = "support/service.rs"]
mod service;
#[path = "laptop/story.rs"]
mod story;
#[path = "ways/way.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod way;
