//! What people see: errors with their place, outcomes, progress.

use std::error::Error;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use anstyle::AnsiColor;
use indicatif::{ProgressBar, ProgressDrawTarget};

pub use crate::causes::chain;
use crate::desired_file::LoadError;
use crate::model::outcome::{Found, Outcome, What};
use crate::model::plan::text::Palette;
use crate::model::registry_entry::RegistryError;
use crate::model::yaml::YamlError;
use crate::observe::IntentError;
use crate::reconcile::PassError;
use crate::registry_dir::{Problem, ProblemError};

use super::settings::SettingsError;

/// A line that is longer than this, in bytes, is not shown: the renderer takes 30 s and 1 GB for one
/// of 60 MB, and nobody reads it.
const LONGEST_LINE: usize = 4096;
/// A pass that takes longer than this shows that it lives.
const PATIENCE: Duration = Duration::from_secs(1);

/// The colours of standard output, or none where it takes none.
pub fn palette() -> Palette {
    match anstream::AutoStream::choice(&std::io::stdout()) {
        anstream::ColorChoice::Never => Palette::PLAIN,
        _ => Palette::COLOURED,
    }
}

/// Prints an error with its causes; the place in a file, where there is one.
pub fn error(error: &(dyn Error + 'static)) {
    if let Some((path, place)) = place_of(error) {
        return show_place(path, place);
    }
    let bold_red = AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{bold_red}error{bold_red:#}: {}", chain(error));
}

/// The place in a file that an error is about.
fn place_of<'a>(error: &'a (dyn Error + 'static)) -> Option<(&'a Path, &'a YamlError)> {
    if let Some(SettingsError::Wrong { path, source }) = error.downcast_ref() {
        return Some((path, source));
    }
    if let Some(PassError::Intent(error)) = error.downcast_ref() {
        return place_of(error);
    }
    match error.downcast_ref::<IntentError>() {
        Some(IntentError::Wrong { path, source }) => return Some((path, source)),
        Some(IntentError::Desired(LoadError::Invalid { path, error, .. })) => {
            return Some((path, error));
        }
        _ => {}
    }
    match error.downcast_ref::<crate::desired_file::EditError>() {
        Some(crate::desired_file::EditError::Load(LoadError::Invalid { path, error, .. })) => {
            Some((path, error))
        }
        _ => None,
    }
}

/// One wrong file of the registry.
pub fn problem(problem: &Problem) {
    if let ProblemError::Contents(RegistryError::Yaml(place)) = &problem.error {
        return show_place(&problem.path, place);
    }
    let bold_red = AnsiColor::Red.on_default().bold();
    let path = problem.path.display();
    anstream::eprintln!("{bold_red}error{bold_red:#}: {path}: {}", chain(&problem.error));
}

fn show_place(path: &Path, error: &YamlError) {
    let title = if error.key.is_empty() {
        error.message.clone()
    } else {
        format!("{}: {}", error.key, error.message)
    };
    let path = path.display().to_string();
    // The renderer shows those of ASCII as pictures, and lets these through to the terminal.
    let steers = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
    if error.source_line.len() > LONGEST_LINE || error.source_line.contains(steers) {
        let bold_red = AnsiColor::Red.on_default().bold();
        anstream::eprintln!("{bold_red}error{bold_red:#}: {title}");
        anstream::eprintln!(" --> {path}:{}:{}", error.line, error.column);
        return;
    }
    let from = error.source_line.char_indices().nth(error.column.saturating_sub(1) as usize);
    let from = from.map_or(error.source_line.len(), |(at, _)| at);
    let length = error.range.end.saturating_sub(error.range.start).max(1);
    let to = (from + length).min(error.source_line.len()).max(from);
    let snippet = Snippet::source(error.source_line.as_str())
        .line_start(error.line as usize)
        .path(&path)
        .annotation(AnnotationKind::Primary.span(from..to));
    let report = &[Level::ERROR.primary_title(&title).element(snippet)];
    let coloured = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    anstream::eprintln!("{}", renderer.render(report));
}

/// One line for an outcome.
pub fn outcome(outcome: &Outcome) -> String {
    let Outcome { user, service, what, found } = outcome;
    let palette = palette();
    let service = service.as_ref().map(|service| format!(" {service}")).unwrap_or_default();
    let (sign, style, done) = match what {
        What::Issue(why) => ('+', palette.add, format!("key issued ({why})")),
        What::Install(account) => ('~', palette.change, format!("files put into {account}'s home")),
        What::Revoke(why) => ('-', palette.remove, format!("key revoked ({why})")),
        What::End(how) => ('-', palette.remove, format!("key ended: {how}")),
    };
    let tried = match what {
        What::Issue(_) => "no key",
        What::Install(_) => "files not put",
        What::Revoke(_) => "revoke still owed",
        What::End(_) => "not noted",
    };
    match found {
        Found::Done => format!("{style}{sign}{style:#} {user}{service}: {done}"),
        Found::Already => format!("= {user}{service}: as it should be"),
        Found::Failed(why) => {
            let warn = palette.warn;
            format!("{warn}!{warn:#} {user}{service}: {tried}: {why}")
        }
    }
}

/// A line on the terminal that shows that a long pass lives.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows itself after a second; never where standard error is no terminal, or without colour.
    pub fn start() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let wanted = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        if wanted {
            let later = bar.clone();
            tokio::spawn(async move {
                tokio::time::sleep(PATIENCE).await;
                later.set_draw_target(ProgressDrawTarget::stderr());
                later.enable_steady_tick(Duration::from_millis(120));
            });
        }
        Self(bar)
    }

    /// One more action ended; its line goes above the progress line.
    pub fn outcome(&self, found: &Outcome) {
        self.0.inc(1);
        self.0.set_message(format!("{} actions done", self.0.position()));
        let line = outcome(found);
        self.0.suspend(|| say(&line));
    }

    /// Takes the line away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Prints a line. A reader that is gone (`| head`) ends the output, not the work.
pub fn say(line: &str) {
    note(writeln!(anstream::stdout(), "{line}"));
}

/// Prints a whole file's text as it is.
pub fn say_text(text: &str) {
    note(io::stdout().write_all(text.as_bytes()));
}

fn note(said: io::Result<()>) {
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            SAID_IN_VAIN.get_or_init(|| error);
        }
        _ => {}
    }
}

/// The first error of standard output, but for a reader that is gone: what was to be said is not
/// there, as on a full disk.
static SAID_IN_VAIN: OnceLock<io::Error> = OnceLock::new();

/// Why not everything that was to be said could be.
pub fn said_in_vain() -> Option<&'static io::Error> {
    SAID_IN_VAIN.get()
}
