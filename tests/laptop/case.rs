//! A generated `.env`: what is in it, and what must become of it.

use fastrand::Rng;

use crate::kit::{END, Files, START};

/// A `.env` as its parts: what is somebody else's, byte for byte, and what is ours.
pub struct Case {
    parts: Vec<Part>,
    /// What is broken about it, for the message.
    pub form: &'static str,
    /// Whether there is no file at all.
    absent: bool,
}

enum Part {
    Foreign(Vec<u8>),
    Ours(String),
    /// A variable of this name between the markers, with nothing else that says whose it is.
    Old(String, String),
    /// Between somebody's unended line and our block.
    NewlineOfOurs,
}

impl Case {
    /// What stands in the file; none: there is no file.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            match part {
                Part::Foreign(foreign) => bytes.extend_from_slice(foreign),
                Part::Ours(ours) | Part::Old(_, ours) => bytes.extend_from_slice(ours.as_bytes()),
                Part::NewlineOfOurs => bytes.push(b'\n'),
            }
        }
        (!self.absent).then_some(bytes)
    }

    /// What must be left when nothing of ours is there any more, after these files were.
    pub fn without_us(&self, files: &Files) -> Option<Vec<u8>> {
        let mut bytes: Vec<u8> = Vec::new();
        for part in &self.parts {
            append(&mut bytes, part.foreign(files));
        }
        (!self.absent).then_some(bytes)
    }

    /// What must be there with this block in it.
    pub fn with_us(&self, files: &Files) -> Vec<u8> {
        let place = self.parts.iter().position(|part| matches!(part, Part::Ours(_)));
        let (mut bytes, mut placed) = (Vec::new(), false);
        for (at, part) in self.parts.iter().enumerate() {
            if Some(at) == place {
                self.block(&mut bytes, files);
                placed = true;
            }
            append(&mut bytes, part.foreign(files));
        }
        if !placed {
            self.block(&mut bytes, files);
        }
        bytes
    }

    fn block(&self, bytes: &mut Vec<u8>, files: &Files) {
        let glued = bytes.last().is_some_and(|last| *last != b'\n');
        let had = self.parts.iter().any(|part| matches!(part, Part::NewlineOfOurs));
        separate(bytes);
        let newline = "# The newline before this block came with it.\n";
        let made = "# This file came with this block.\n";
        let flags = if self.absent {
            made
        } else if glued || had {
            newline
        } else {
            ""
        };
        bytes.extend_from_slice(files.block(flags).as_bytes());
    }

    /// One of many forms.
    pub fn generate(rng: &mut Rng, old: &Files) -> Self {
        let forms: [fn(&mut Rng, &Files) -> Self; 14] = [
            no_block,
            no_block,
            no_file,
            block_anywhere,
            block_anywhere,
            newline_of_ours,
            crlf,
            older_script,
            older_script_glued,
            no_end,
            no_end_and_cut,
            doubled,
            no_start,
            edited,
        ];
        forms[rng.usize(..forms.len())](rng, old)
    }

    fn of(form: &'static str, parts: Vec<Part>) -> Self {
        Self { parts, form, absent: false }
    }
}

impl Part {
    /// What of it must stay. A name that nobody knows is never taken.
    fn foreign(&self, files: &Files) -> &[u8] {
        match self {
            Self::Foreign(foreign) => foreign,
            Self::Old(name, line) if files.variables.iter().all(|(known, _)| known != name) => {
                line.as_bytes()
            }
            _ => &[],
        }
    }
}

fn append(bytes: &mut Vec<u8>, foreign: &[u8]) {
    if !foreign.is_empty() {
        separate(bytes);
        bytes.extend_from_slice(foreign);
    }
}

/// Two parts never share a line.
fn separate(bytes: &mut Vec<u8>) {
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
}

fn no_block(rng: &mut Rng, _: &Files) -> Case {
    Case::of("no block", vec![Part::Foreign(tail(rng, 8))])
}

fn no_file(_: &mut Rng, _: &Files) -> Case {
    Case { absent: true, ..Case::of("no file", Vec::new()) }
}

fn block_anywhere(rng: &mut Rng, old: &Files) -> Case {
    let above = Part::Foreign(foreign(rng, 5, true));
    let below = Part::Foreign(tail(rng, 5));
    Case::of("a block", vec![above, Part::Ours(old.block("")), below])
}

/// The file had no newline at its end before the block came.
fn newline_of_ours(rng: &mut Rng, old: &Files) -> Case {
    let mut above = foreign(rng, 5, false);
    above.extend_from_slice(b"LAST_LINE=unended");
    let block = old.block("# The newline before this block came with it.\n");
    Case::of(
        "a newline of ours",
        vec![Part::Foreign(above), Part::NewlineOfOurs, Part::Ours(block)],
    )
}

/// An editor turned every line's end.
fn crlf(rng: &mut Rng, old: &Files) -> Case {
    let turned = |bytes: Vec<u8>| {
        let mut turned = Vec::new();
        for byte in bytes {
            if byte == b'\n' {
                turned.push(b'\r');
            }
            turned.push(byte);
        }
        turned
    };
    let above = Part::Foreign(turned(foreign(rng, 5, true)));
    let below = Part::Foreign(turned(tail(rng, 5)));
    let block = old.block("").replace('\n', "\r\n");
    Case::of("CRLF", vec![above, Part::Ours(block), below])
}

/// What the snippet of the original plan leaves.
fn older_script(rng: &mut Rng, old: &Files) -> Case {
    let above = Part::Foreign(foreign(rng, 5, true));
    let below = Part::Foreign(tail(rng, 5));
    // What it got need not have been a file of ours.
    let mut parts = vec![above];
    parts.extend(older_block(rng.bool(), old, false));
    parts.push(below);
    Case::of("an older script's", parts)
}

/// The same, where the user's last line had no newline, and neither had what came.
fn older_script_glued(rng: &mut Rng, old: &Files) -> Case {
    let mut above = foreign(rng, 5, true);
    above.extend_from_slice(b"LAST_LINE=glued");
    let mut parts = vec![Part::Foreign(above)];
    parts.extend(older_block(rng.bool(), old, true));
    if rng.bool() {
        parts.push(Part::Foreign(tail(rng, 5)));
    }
    Case::of("an older script's, glued", parts)
}

/// Around a file of ours, or around variables alone; the last of its lines may be glued to the END.
fn older_block(is_document: bool, old: &Files, glued: bool) -> Vec<Part> {
    let end = |text: String| if glued { text.trim_end().to_owned() } else { text };
    if is_document {
        return vec![Part::Ours(format!("{START}{}{END}", end(old.env())))];
    }
    let last = old.variables.len() - 1;
    let old = old.variables.iter().enumerate().map(|(at, (name, value))| {
        let line = format!("{name}={value}\n");
        Part::Old(name.clone(), if at == last { end(line) } else { line })
    });
    let start = Part::Ours(START.to_owned());
    [start].into_iter().chain(old).chain([Part::Ours(END.to_owned())]).collect()
}

fn no_end(rng: &mut Rng, old: &Files) -> Case {
    let above = Part::Foreign(foreign(rng, 5, true));
    let below = Part::Foreign(tail(rng, 5));
    let block = if rng.bool() { old.block("") } else { format!("{START}{}{END}", old.env()) };
    let block = block.replace(END, "");
    Case::of("END is lost", vec![above, Part::Ours(block), below])
}

/// A part of the block's end is lost, with the end line.
fn no_end_and_cut(rng: &mut Rng, old: &Files) -> Case {
    let above = Part::Foreign(foreign(rng, 5, true));
    let block = old.block("");
    let lines: Vec<&str> = block.split_inclusive('\n').collect();
    let kept = rng.usize(1..lines.len() - 1);
    let mut below = b"SOMEBODYS=own\n".to_vec();
    below.extend(tail(rng, 5));
    let cut = Part::Ours(lines[..kept].concat());
    Case::of("cut after some lines", vec![above, cut, Part::Foreign(below)])
}

fn doubled(rng: &mut Rng, old: &Files) -> Case {
    let mut parts = Vec::new();
    for _ in 0..rng.usize(2..4) {
        parts.push(Part::Foreign(foreign(rng, 3, true)));
        let block = old.block("");
        let block = match rng.u8(..3) {
            0 => block.replace(END, ""),
            1 => format!("{START}{}{END}", old.env()),
            _ => block,
        };
        parts.push(Part::Ours(block));
    }
    parts.push(Part::Foreign(tail(rng, 3)));
    Case::of("doubled", parts)
}

fn no_start(rng: &mut Rng, old: &Files) -> Case {
    let above = Part::Foreign(foreign(rng, 5, true));
    let below = Part::Foreign(tail(rng, 5));
    let block = old.block("").replace(START, "");
    // Without the marker, where a block begins is known by its own first line alone.
    Case::of("START is lost", vec![above, Part::Ours(block), below])
}

/// Somebody wrote between the markers.
fn edited(rng: &mut Rng, old: &Files) -> Case {
    let above = Part::Foreign(foreign(rng, 3, true));
    let block = old.block("");
    let lines: Vec<&str> = block.split_inclusive('\n').collect();
    let at = rng.usize(2..lines.len());
    let inside = Part::Foreign(b"SOMEBODYS=own\n# and a word\n".to_vec());
    let (one, other) = (lines[..at].concat(), lines[at..].concat());
    let below = Part::Foreign(tail(rng, 3));
    Case::of("edited", vec![above, Part::Ours(one), inside, Part::Ours(other), below])
}

/// The end of a file: most end with a newline.
fn tail(rng: &mut Rng, most: usize) -> Vec<u8> {
    let ended = rng.u8(..4) != 0;
    foreign(rng, most, ended)
}

/// Lines that are somebody else's, with or without the last newline.
fn foreign(rng: &mut Rng, most: usize, ended: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.usize(..=most) {
        bytes.extend(line(rng));
        bytes.extend_from_slice(if rng.u8(..6) == 0 { b"\r\n" } else { b"\n" });
    }
    if !ended && !bytes.is_empty() {
        bytes.pop();
        if rng.bool() && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

fn line(rng: &mut Rng) -> Vec<u8> {
    let unique = format!("{:08x}", rng.u32(..));
    let text = match rng.u8(..16) {
        0 => String::new(),
        1 => format!("# a word {unique}"),
        2 => format!("export DATABASE_URL=postgres://me:{unique}@db/x?y=1#z"),
        3 => format!("QUOTED=\"two words, $HOME and \\\"{unique}\\\"\""),
        4 => format!("  spaced  =  {unique}  "),
        5 => format!("PO_API_KEY=my-own-{unique}"),
        6 => format!("export CRM_API_KEY='{unique}'"),
        7 => format!("#--- SERVICE CONNECTOR START --- {unique}"),
        8 => format!("# --- SERVICE CONNECTOR END --- of {unique}"),
        9 => format!("česky={unique} žluťoučký kůň"),
        10 => "x".repeat(rng.usize(1..5000)) + &unique,
        11 => format!("-n {unique} \\t %s %d & \\0"),
        12 => {
            let mut bytes: Vec<u8> =
                (0..rng.usize(1..40)).map(|_| rng.u8(..)).filter(|byte| *byte != b'\n').collect();
            bytes.extend_from_slice(unique.as_bytes());
            return bytes;
        }
        13 => "\t ".to_owned(),
        14 => format!("BEGIN-{unique}: |"),
        _ => format!("NAME_{unique}=value"),
    };
    text.into_bytes()
}
