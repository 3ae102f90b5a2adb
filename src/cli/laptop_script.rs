//! `laptop-script`: what analysts run on their laptops.

use super::report::say_text;
use crate::laptop_script::LAPTOP_SCRIPT;

pub fn run() {
    say_text(LAPTOP_SCRIPT);
}
