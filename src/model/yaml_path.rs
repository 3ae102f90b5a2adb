//! Walks the events of a YAML text to tell about a place in it. Used only where something is wrong
//! already, so it may take its time.

use std::collections::HashMap;
use std::fmt::Write as _;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use serde_saphyr::{Location, Spanned};

/// A place in a text: line and column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Place {
    /// The very beginning.
    pub const START: Self = Self { line: 1, column: 1 };

    /// From numbers as they are counted.
    #[must_use]
    pub fn counted(line: usize, column: usize) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        Self { line: number(line), column: number(column) }
    }

    /// Where a value that was read stands.
    #[must_use]
    pub fn of<T>(spanned: &Spanned<T>) -> Self {
        Self::from(spanned.referenced)
    }
}

impl From<Location> for Place {
    fn from(location: Location) -> Self {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        Self { line: number(location.line()), column: number(location.column()) }
    }
}

/// A map or list that is open at some point of the walk.
enum Open {
    Map { key: Option<String>, lines: HashMap<String, u32> },
    List { index: usize },
}

#[derive(Default)]
struct Walk {
    open: Vec<Open>,
}

impl Walk {
    /// The keys that lead to what comes next.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::Map { key: Some(key), .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.extend(key.chars().take(64).flat_map(char::escape_debug));
                }
                Open::Map { key: None, .. } => {}
                Open::List { index } => {
                    let _ = write!(path, "[{index}]"); // a String takes all
                }
            }
        }
        path
    }

    /// Takes one event in. What it says of the place before is asked before it.
    fn step(&mut self, event: &Event<'_>, at: Place) {
        match event {
            Event::MappingStart(..) => {
                self.open.push(Open::Map { key: None, lines: HashMap::new() });
            }
            Event::SequenceStart(..) => self.open.push(Open::List { index: 0 }),
            Event::MappingEnd | Event::SequenceEnd => {
                self.open.pop();
                self.value_done();
            }
            Event::Scalar(text, ..) => self.scalar(text, at),
            Event::Alias(_) => self.scalar("*", at),
            _ => {}
        }
    }

    fn scalar(&mut self, text: &str, at: Place) {
        if let Some(Open::Map { key: key @ None, lines }) = self.open.last_mut() {
            *key = Some(text.to_owned());
            lines.entry(text.to_owned()).or_insert(at.line);
        } else {
            self.value_done();
        }
    }

    fn value_done(&mut self) {
        match self.open.last_mut() {
            // A map or list as a key ends here too; its value then counts as the key, which only
            // blurs a path that no schema of ours has.
            Some(Open::Map { key, .. }) => *key = None,
            Some(Open::List { index }) => *index += 1,
            None => {}
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open::Map { key: None, .. }))
    }
}

fn start(span: &Span) -> Place {
    Place::counted(span.start.line(), span.start.col() + 1)
}

fn events(text: &str) -> impl Iterator<Item = (Event<'_>, Place)> {
    Parser::new_from_str(text).map_while(Result::ok).map(|(event, span)| {
        let place = start(&span);
        (event, place)
    })
}

/// The keys that lead to this place, the key that stands there included.
#[must_use]
pub fn key_at(text: &str, place: Place) -> String {
    path_at(text, place, true)
}

/// The keys that lead to the map or list that begins at this place. A map in block style begins
/// where its first key does: that key is left out here, and belongs to `key_at`.
#[must_use]
pub fn container_at(text: &str, place: Place) -> String {
    path_at(text, place, false)
}

fn path_at(text: &str, place: Place, first_key: bool) -> String {
    let mut walk = Walk::default();
    let mut events = events(text).peekable();
    while let Some((event, at)) = events.next() {
        let opens = matches!(event, Event::MappingStart(..) | Event::SequenceStart(..));
        let is_node = opens || matches!(event, Event::Scalar(..) | Event::Alias(_));
        let key_follows = |next: &(Event<'_>, Place)| matches!(next, (Event::Scalar(..), after) if first_key && *after == place);
        if is_node && at >= place && !(opens && events.peek().is_some_and(key_follows)) {
            if at == place && !opens && walk.awaits_key() {
                walk.step(&event, at);
            }
            return walk.path();
        }
        walk.step(&event, at);
    }
    walk.path()
}

/// Whether the value at this place is an absent or plain null.
#[must_use]
pub fn is_null_at(text: &str, place: Place) -> bool {
    events(text).find(|(event, at)| *at >= place && matches!(event, Event::Scalar(..))).is_some_and(
        |(event, at)| match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => {
                at == place && matches!(&*text, "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        },
    )
}

/// Where the first tag stands, if there is one.
#[must_use]
pub fn first_tag(text: &str) -> Option<Place> {
    events(text).find_map(|(event, at)| match event {
        Event::Scalar(_, _, _, Some(_))
        | Event::SequenceStart(_, _, Some(_))
        | Event::MappingStart(_, _, Some(_)) => Some(at),
        _ => None,
    })
}

/// The line on which the key at this place first stands in the same map.
#[must_use]
pub fn first_line_of_key(text: &str, place: Place) -> Option<u32> {
    let mut walk = Walk::default();
    for (event, at) in events(text) {
        if let Event::Scalar(key, ..) = &event
            && at == place
            && let Some(Open::Map { lines, .. }) = walk.open.last()
        {
            return lines.get(&**key).copied();
        }
        walk.step(&event, at);
    }
    None
}

/// Where the key at the end of this path stands.
#[must_use]
pub fn place_of(text: &str, path: &[&str]) -> Option<Place> {
    let mut walk = Walk::default();
    for (event, at) in events(text) {
        let is_key = matches!(event, Event::Scalar(..)) && walk.awaits_key();
        walk.step(&event, at);
        if is_key && walk.open.len() == path.len() && walk.leads_to(path) {
            return Some(at);
        }
    }
    None
}

impl Walk {
    fn leads_to(&self, path: &[&str]) -> bool {
        self.open
            .iter()
            .zip(path)
            .all(|(open, part)| matches!(open, Open::Map { key: Some(key), .. } if key == part))
    }
}
