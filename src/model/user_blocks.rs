//! Finds each user's lines in `desired.yaml` without parsing all of it: 11 MB in a few
//! milliseconds.
//!
//! It reads only the plain form that the file has in practice, and gives up on anything else
//! (`None`): the caller then takes the slow way over the whole file.

use std::ops::Range;

use memchr::memchr_iter;

use super::desired::Desired;
use super::yaml::YamlError;

/// Up to this many bytes the whole file is read, known to be right or not: it takes no time (2 ms).
pub const SMALL: usize = 16 << 10;

/// Where the users stand.
#[derive(Debug, PartialEq, Eq)]
pub enum Layout<'t> {
    /// `users: {}`: the bytes of the `{}` with the space before it, and the end of the line.
    Nobody {
        /// ` {}`.
        braces: Range<usize>,
        /// Where the line ends, before its line break.
        line_end: usize,
    },
    /// One block of lines for each.
    Blocks {
        /// The spaces before each user's key.
        indent: &'t str,
        /// The users in the order of the file.
        users: Vec<Block<'t>>,
    },
}

/// One user's lines: from the key's to the last that is not a comment or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block<'t> {
    /// The key.
    pub user: &'t str,
    /// The bytes, the last line break included.
    pub range: Range<usize>,
    /// The key's line, from 1.
    pub line: u32,
}

/// Finds the users.
#[must_use]
pub fn scan(text: &str) -> Option<Layout<'_>> {
    // YAML takes a lone CR for the end of a line.
    let bytes = text.as_bytes();
    if memchr_iter(b'\r', bytes).any(|at| bytes.get(at + 1) != Some(&b'\n')) {
        return None;
    }
    let mut scan = Scan { found: None, depth: 0, inside: false };
    let (mut start, mut number) = (0, 0);
    let ends = memchr_iter(b'\n', bytes).map(|at| at + 1);
    for end in ends.chain((!text.ends_with('\n')).then_some(text.len())) {
        number += 1;
        scan.line(&text[start..end], start..end, number)?;
        start = end;
    }
    if scan.depth == 0 { scan.found.filter(|layout| !is_bare(layout)) } else { None }
}

/// What stands before a user's lines to make them a file.
const HEAD: &str = "version: 1\nusers:\n";
/// The line after it.
const FIRST_LINE: u32 = 3;

impl Layout<'_> {
    /// What these users' lines say. `text` is what was scanned.
    ///
    /// # Errors
    /// The first thing that is wrong in them, with its place in the text.
    pub fn read(&self, text: &str, wanted: impl Fn(&str) -> bool) -> Result<Desired, YamlError> {
        let Layout::Blocks { users, .. } = self else { return Ok(Desired::default()) };
        let mut desired = Desired::default();
        for block in users.iter().filter(|block| wanted(block.user)) {
            let lines = block.line.saturating_sub(FIRST_LINE);
            let bytes = block.range.start.saturating_sub(HEAD.len());
            let read = read_lines(&text[block.range.clone()])
                .map_err(|error| error.moved(lines, bytes))?;
            desired.users.extend(read.with_lines(|line| line + block.line - FIRST_LINE).users);
        }
        Ok(desired)
    }
}

/// What one user's lines say.
///
/// # Errors
/// The first thing that is wrong in them, with its place counted from two lines before them.
pub fn read_lines(lines: &str) -> Result<Desired, YamlError> {
    Desired::parse(&format!("{HEAD}{lines}"))
}

/// `users:` with nothing below it is null: the strict reader refuses it.
fn is_bare(layout: &Layout<'_>) -> bool {
    matches!(layout, Layout::Blocks { users, .. } if users.is_empty())
}

struct Scan<'t> {
    found: Option<Layout<'t>>,
    /// How many braces are open.
    depth: usize,
    /// Whether the lines belong to `users:`.
    inside: bool,
}

impl<'t> Scan<'t> {
    fn line(&mut self, line: &'t str, range: Range<usize>, number: u32) -> Option<()> {
        let body = line.strip_suffix('\n').unwrap_or(line);
        let body = body.strip_suffix('\r').unwrap_or(body);
        let spaces = body.bytes().take_while(|c| *c == b' ').count();
        let (indent, content) = body.split_at(spaces);
        if content.starts_with('#') || content.is_empty() {
            return Some(());
        }
        let was_open = self.depth > 0;
        self.depth = braces(content, self.depth)?;
        if was_open || (self.inside && self.is_deeper(indent)) {
            return self.extend(range.end);
        }
        if indent.is_empty() {
            return self.top_level(content, &range);
        }
        self.inside.then_some(())?;
        self.user(indent, content, range, number)
    }

    fn is_deeper(&self, indent: &str) -> bool {
        matches!(&self.found, Some(Layout::Blocks { indent: users, .. })
            if !users.is_empty() && indent.len() > users.len())
    }

    /// The line belongs to what came before.
    fn extend(&mut self, end: usize) -> Option<()> {
        if let (true, Some(Layout::Blocks { users, .. })) = (self.inside, &mut self.found) {
            users.last_mut()?.range.end = end;
        }
        Some(())
    }

    fn top_level(&mut self, content: &'t str, range: &Range<usize>) -> Option<()> {
        self.inside = false;
        let Some(rest) = content.strip_prefix("users:") else {
            return content.starts_with("version:").then_some(());
        };
        if self.found.is_some() {
            return None;
        }
        let value = rest.trim_start_matches(' ');
        let before = range.start + content.len() - rest.len();
        let found = if value.is_empty() || (value.starts_with('#') && value.len() < rest.len()) {
            self.inside = true;
            Layout::Blocks { indent: "", users: Vec::new() }
        } else if let Some(after) = value.strip_prefix("{}")
            && (after.is_empty() || after.starts_with(' '))
        {
            let end = range.start + content.len() - after.len();
            Layout::Nobody { braces: before..end, line_end: range.start + content.len() }
        } else {
            return None;
        };
        self.found = Some(found);
        Some(())
    }

    fn user(
        &mut self,
        spaces: &'t str,
        content: &'t str,
        range: Range<usize>,
        line: u32,
    ) -> Option<()> {
        let Some(Layout::Blocks { indent, users }) = &mut self.found else { return None };
        if indent.is_empty() {
            *indent = spaces;
        }
        let (key, rest) = content.split_once(':')?;
        let is_key = rest.is_empty() || rest.starts_with(' ');
        let user = unquoted(key.trim_end_matches(' '))?;
        if !is_key || *indent != spaces {
            return None;
        }
        users.push(Block { user, range, line });
        Some(())
    }
}

/// A key without its quotes, if there is nothing in it that quoting changes.
fn unquoted(key: &str) -> Option<&str> {
    let inner = |quote| key.strip_prefix(quote).and_then(|key| key.strip_suffix(quote));
    let name = inner('"').or_else(|| inner('\'')).unwrap_or(key);
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    (!name.is_empty() && name.bytes().all(plain)).then_some(name)
}

/// Whether a byte is what a plain file holds, and changes nothing in how the bytes after it are read.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut c = 0_u8;
    while c < 128 {
        plain[c as usize] = c.is_ascii_alphanumeric()
            || matches!(c, b' ' | b':' | b',' | b'.' | b'_' | b'-' | b'+');
        c += 1;
    }
    plain
};

/// How many braces are open after this line. `None` for anything that no plain file holds.
fn braces(content: &str, mut depth: usize) -> Option<usize> {
    let bytes = content.as_bytes();
    let mut at = 0;
    while let Some(plain) = bytes[at..].iter().position(|c| !PLAIN[usize::from(*c)]) {
        at += plain;
        match bytes[at] {
            b'#' if at == 0 || bytes[at - 1] == b' ' => return Some(depth),
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            quote @ (b'"' | b'\'') => {
                let len = content[at + 1..].find(char::from(quote))?;
                if content[at + 1..at + 1 + len].contains('\\') {
                    return None;
                }
                at += len + 1;
            }
            _ => return None,
        }
        at += 1;
    }
    Some(depth)
}
