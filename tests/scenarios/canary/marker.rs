//! A text that is nowhere else, and the forms in which it may turn up.

use std::fmt::Write as _;

use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};

/// How long each half is: by chance, nothing else is the same.
const HALF: usize = 14;

/// Two random texts with `+/` between them, which look different once they are URL-encoded. Each
/// half is looked for alone, so that a part of a secret is found, too.
#[derive(Clone)]
pub struct Marker {
    what: &'static str,
    text: String,
    forms: Vec<(&'static str, String)>,
}

impl Marker {
    pub fn new(what: &'static str) -> Self {
        let half = || std::iter::repeat_with(fastrand::alphanumeric).take(HALF).collect();
        let halves: [String; 2] = [half(), half()];
        let forms = halves.iter().flat_map(|half| forms(half)).collect();
        Self { what, text: halves.join("+/"), forms }
    }

    /// What to put into keys or secrets.
    pub fn text(&self) -> String {
        self.text.clone()
    }

    /// The forms in which it stands in these bytes.
    pub fn found_in(&self, bytes: &[u8]) -> Vec<String> {
        // Every form is ASCII: whatever is replaced here is none of it.
        let text = String::from_utf8_lossy(bytes);
        let found = self.forms.iter().filter(|(_, form)| text.contains(form.as_str()));
        found.map(|(name, _)| format!("{} ({name})", self.what)).collect()
    }

    /// Each form with its name.
    pub fn forms(&self) -> &[(&'static str, String)] {
        &self.forms
    }
}

fn forms(half: &str) -> Vec<(&'static str, String)> {
    let mut percent = String::new();
    for byte in half.bytes() {
        write!(percent, "%{byte:02X}").unwrap();
    }
    let mut forms = vec![
        // Letters and digits are the same URL-encoded.
        ("as it is", half.to_owned()),
        ("hex", HEXLOWER.encode(half.as_bytes())),
        ("HEX", HEXUPPER.encode(half.as_bytes())),
        ("URL-encoded to the last letter", percent.clone()),
        ("url-encoded to the last letter", percent.to_lowercase()),
    ];
    // What stands before it decides how it falls into groups of three bytes; the characters at
    // both ends that also depend on neighbours are left out.
    for before in 0..3 {
        let padded = [vec![0; before], half.as_bytes().to_vec()].concat();
        let whole = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
        forms.push(("base64", BASE64.encode(&padded)[whole.clone()].to_owned()));
        forms.push(("base64url", BASE64URL.encode(&padded)[whole].to_owned()));
    }
    forms
}
