//! The messages between the two sides: what is read is written as the same message, in one line
//! that is not longer than the helper takes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::from_slice;
use service_connector::wire::{Answer, MAX_LINE, Request, line};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = from_slice::<Request>(bytes) {
        let first = line(&request).expect("our messages can be written");
        one_line(&first);
        let again = from_slice::<Request>(&first).expect("what we write can be read");
        // It has neither `Debug` nor `==`, as it may hold keys.
        assert!(*line(&again).expect("written before") == *first, "another request");
    }
    if let Ok(answer) = from_slice::<Answer>(bytes) {
        let first = line(&answer).expect("our messages can be written");
        one_line(&first);
        assert_eq!(from_slice::<Answer>(&first).expect("what we write can be read"), answer);
    }
});

fn one_line(line: &[u8]) {
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    assert!(line.len() <= MAX_LINE);
}
