//! What `docker run --env-file` makes of a file. There is no engine where tests run: these are the
//! rules of the docker CLI (github.com/docker/cli, `pkg/kvfile/kvfile.go`; in words: docs.docker.com,
//! "docker container run", `--env-file`). Nothing is unquoted, expanded or trimmed behind the `=`.

use std::path::Path;

use crate::Read;

/// A longer line is an error: the scanner of Go's `bufio` takes no more.
const LONGEST_LINE: usize = 64 * 1024 - 1;

pub fn read(path: &Path) -> Result<Read, String> {
    let bytes = std::fs::read(path).unwrap();
    let text = String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    let mut found = Read::new();
    for line in text.strip_prefix('\u{feff}').unwrap_or(&text).split('\n') {
        if line.len() > LONGEST_LINE {
            return Err("a line is too long".to_owned());
        }
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A name alone would be taken from docker's own environment.
        let Some((name, value)) = line.split_once('=') else { continue };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("{line:?} has no name, or one with spaces"));
        }
        found.insert(name.to_owned(), value.to_owned());
    }
    Ok(found)
}
