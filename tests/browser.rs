//! What people see, in Debian's Chromium: the card, the pages around it, the fleet.
//!
//! Screenshots for the README: `SC_SCREENSHOTS=docs/screenshots cargo test --test browser screenshots`
//! (needs Debian's pngquant and fonts-inter beside the browser).

#[path = "browser/accessible.rs"]
mod accessible;
#[path = "browser/chrome.rs"]
mod chrome;
#[path = "browser/clicks.rs"]
mod clicks;
#[path = "support/door.rs"]
mod door;
#[path = "browser/eyes.rs"]
mod eyes;
#[path = "browser/fake.rs"]
mod fake;
#[path = "browser/fleet.rs"]
mod fleet;
#[path = "browser/http.rs"]
mod http;
#[path = "browser/keyboard.rs"]
mod keyboard;
#[path = "support/node.rs"]
mod node;
#[path = "browser/pages.rs"]
mod pages;
#[path = "support/python.rs"]
mod python;
#[path = "browser/real.rs"]
mod real;
#[path = "support/scene.rs"]
mod scene;
#[path = "browser/screenshots.rs"]
mod screenshots;
#[path = "support/service.rs"]
mod service;
#[path = "browser/states.rs"]
mod states;
#[path = "browser/trouble.rs"]
mod trouble;
#[path = "browser/two.rs"]
mod two;
#[path = "browser/world.rs"]
mod world;
