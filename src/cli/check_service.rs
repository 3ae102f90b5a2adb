//! `check-service`: does a service keep the contract?

mod junit;

use std::path::PathBuf;

use url::Url;

use crate::conformance::{self, Check, Journal, Report, Subject, Verdict};
use crate::exchange::Exchange;
use crate::model::name::{Email, ServiceId};
use crate::model::registry::{EmailPattern, Entry, Service};
use crate::registry_dir;
use crate::store;

use super::report::{palette, say};
use super::settings::Settings;
use super::{Failure, block_on, stop};

/// So many of the last calls are shown below a rule that is broken; --json has all.
const SHOWN_STEPS: usize = 4;

/// Check whether a service keeps the service contract.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  \
    service-connector check-service wiki --email test@your-domain.com --junit wiki.xml")]
pub struct Args {
    /// Its id in the registry
    #[arg(value_name = "SERVICE")]
    service: ServiceId,
    /// Whom the test tokens are for [default: conformance-check@ the first domain of `allow`]
    #[arg(long, value_name = "ADDRESS")]
    email: Option<Email>,
    /// An address of the business API that answers 200 to a key, such as /api/v1/me
    #[arg(long, value_name = "PATH")]
    probe: Option<String>,
    /// Issue 201 tokens more, to see the second page of the list
    #[arg(long)]
    many: bool,
    /// Where what is asked for is noted [default: check-service-SERVICE.journal in the state
    /// directory]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// For programs: JSON
    #[arg(long)]
    json: bool,
    #[expect(clippy::doc_markdown, reason = "it is the help, where backticks would show")]
    /// For CI servers: a JUnit report into this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub fn run(settings: &Settings, args: &Args) -> Result<u8, Failure> {
    let service = service(settings, &args.service)?;
    let subject = subject(&service, args)?;
    let usual = || conformance::journal_path(&settings.places.state, &service.id);
    let path = args.journal.clone().unwrap_or_else(usual);
    let journal = Journal::open(&path, &subject.endpoint)?;
    let secret = &subject.endpoint.secret;
    let names = journal.secrets();
    let exchange = Exchange::new(settings.secrets(names.iter().chain([secret])));
    if let Some(why) = exchange.lacks_secret(secret) {
        let message = format!(
            "the shared secret {secret} {why}: put it into the variable of that name, or into a \
             file of that name in --secrets DIR"
        );
        return Err(message.into());
    }
    if !args.json {
        introduce(&subject);
    }
    let on_check = |check: &Check| {
        if !args.json {
            show(check);
        }
    };
    let report = block_on(conformance::run(&subject, &exchange, journal, stop, on_check))?;
    if let Some(file) = &args.junit {
        junit::write(&report, file)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    if args.json {
        say(&serde_json::to_string_pretty(&report)?);
    } else {
        summarize(&report);
    }
    Ok(u8::from(!report.ok))
}

fn service(settings: &Settings, id: &ServiceId) -> Result<Service, Failure> {
    let loaded = registry_dir::load(&settings.places.registry, &settings.places.skills)?;
    match loaded.registry.entries.get(id) {
        Some(Entry::Usable(service)) => Ok((**service).clone()),
        Some(Entry::Broken(why)) => Err(format!("the registry entry of {id}: {why}").into()),
        None => {
            let there = settings.places.registry.display();
            Err(format!("there is no {id}.yaml in the registry {there}").into())
        }
    }
}

fn subject(service: &Service, args: &Args) -> Result<Subject, Failure> {
    let email = args.email.clone().map_or_else(|| test_account(service), Ok)?;
    let probe = args.probe.as_deref().map(|path| probe(service, path)).transpose()?;
    Ok(Subject {
        service: service.id.clone(),
        endpoint: service.endpoint.clone(),
        email,
        probe,
        many: args.many,
        random: store::random,
    })
}

fn test_account(service: &Service) -> Result<Email, Failure> {
    let domain = match service.allow.emails.first() {
        Some(EmailPattern::Domain(domain)) => domain,
        Some(EmailPattern::One(one)) => one.parts().1,
        None => return Err("say with --email whom the test tokens are for".into()),
    };
    Ok(format!("conformance-check@{domain}").parse()?)
}

/// At the service itself: a key goes nowhere else.
fn probe(service: &Service, path: &str) -> Result<String, Failure> {
    if !path.starts_with('/') || path.starts_with("//") || path.contains('\\') {
        return Err("--probe takes a path at the service, such as /api/v1/me".into());
    }
    Ok(Url::parse(&service.endpoint.exchange_url)?.join(path)?.into())
}

fn introduce(subject: &Subject) {
    let Subject { service, endpoint, email, .. } = subject;
    let contract = format!("{:?}", endpoint.contract).to_lowercase();
    let url = &endpoint.exchange_url;
    say(&format!("{service}, contract {contract}, with tokens for {email}: {url}\n"));
}

fn show(check: &Check) {
    let palette = palette();
    let Check { name, says, why, verdict, steps } = check;
    match verdict {
        Verdict::Pass => say(&format!("{0}✓{0:#} {name}: {says}", palette.add)),
        Verdict::Skip(reason) => {
            say(&format!("{0}- {name}: {says}{0:#}\n    skipped: {reason}", palette.faint));
        }
        Verdict::Fail(reason) => {
            say(&format!("{0}✗{0:#} {name}: {says}", palette.remove));
            say(&format!("    {reason}"));
            say(&format!("    Why it matters: {why}."));
            let skipped = steps.len().saturating_sub(SHOWN_STEPS);
            if skipped > 0 {
                say(&format!("    {0}… {skipped} calls before{0:#}", palette.faint));
            }
            for step in &steps[skipped..] {
                let (sent, seen) = (&step.sent, &step.seen);
                say(&format!("    {0}> {sent}\n    < {seen}{0:#}", palette.faint));
            }
        }
    }
}

fn summarize(report: &Report) {
    let count = |name| report.checks.iter().filter(|check| check.verdict.name() == name).count();
    let (passed, failed, skipped) = (count("pass"), count("fail"), count("skip"));
    let seconds = f64::from(u32::try_from(report.took_ms).unwrap_or(u32::MAX)) / 1000.0;
    if report.recovered > 0 {
        let recovered = report.recovered;
        say(&format!("\n{recovered} tokens of a check that was cut off were revoked first."));
    }
    if report.interrupted {
        say("\nInterrupted: the rules after that were not tried.");
    }
    say(&format!("\n{passed} kept, {failed} broken, {skipped} not tried, in {seconds:.1} s."));
    for left in &report.left {
        say(&format!("May be alive: {left}"));
    }
    if !report.left.is_empty() {
        say("Run the same command again: it revokes them first.");
    }
}
