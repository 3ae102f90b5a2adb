//! Looking at homes and putting files there, from outside: what people do to their own homes, by
//! accident or on purpose, spoils at most those homes.

#[path = "homes/hostile.rs"]
mod hostile;
#[path = "homes/limits.rs"]
mod limits;
#[path = "homes/mounts.rs"]
mod mounts;
#[path = "homes/ordinary.rs"]
mod ordinary;
#[path = "homes/races.rs"]
mod races;
#[path = "homes/scene.rs"]
mod scene;
