//! The report as XML of the `JUnit` form, which CI servers read.

use std::io;
use std::path::Path;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::conformance::{Check, Report, Verdict};

pub fn write(report: &Report, file: &Path) -> io::Result<()> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let count = |name| report.checks.iter().filter(|check| check.verdict.name() == name).count();
    let seconds = format!("{}.{:03}", report.took_ms / 1000, report.took_ms % 1000);
    xml.create_element("testsuite")
        .with_attribute(("name", format!("check-service {}", report.service).as_str()))
        .with_attribute(("tests", report.checks.len().to_string().as_str()))
        .with_attribute(("failures", count("fail").to_string().as_str()))
        .with_attribute(("errors", u8::from(report.interrupted).to_string().as_str()))
        .with_attribute(("skipped", count("skip").to_string().as_str()))
        .with_attribute(("time", seconds.as_str()))
        .with_attribute(("timestamp", report.at.to_string().as_str()))
        .write_inner_content(|xml| {
            report.checks.iter().try_for_each(|check| case(xml, report, check))
        })?;
    let mut bytes = xml.into_inner();
    bytes.push(b'\n');
    std::fs::write(file, bytes)
}

fn case(xml: &mut Writer<Vec<u8>>, report: &Report, check: &Check) -> io::Result<()> {
    let case = xml
        .create_element("testcase")
        .with_attribute(("classname", report.service.as_str()))
        .with_attribute(("name", check.name));
    match &check.verdict {
        Verdict::Pass => case.write_empty().map(drop),
        Verdict::Skip(reason) => {
            let reason = legal(reason);
            let inner = |xml: &mut Writer<Vec<u8>>| {
                let skipped = xml.create_element("skipped");
                skipped.with_attribute(("message", reason.as_str())).write_empty().map(drop)
            };
            case.write_inner_content(inner).map(drop)
        }
        Verdict::Fail(reason) => {
            let (reason, story) = (legal(reason), legal(&story(check)));
            let inner = |xml: &mut Writer<Vec<u8>>| {
                let failure = xml.create_element("failure");
                let failure = failure.with_attribute(("message", reason.as_str()));
                failure.write_text_content(BytesText::new(&story)).map(drop)
            };
            case.write_inner_content(inner).map(drop)
        }
    }
}

fn story(check: &Check) -> String {
    let steps = check.steps.iter().map(|step| format!("\n> {}\n< {}", step.sent, step.seen));
    format!("{}\nWhy it matters: {}.{}", check.says, check.why, steps.collect::<String>())
}

/// What XML 1.0 cannot hold, not even escaped, is left out.
fn legal(text: &str) -> String {
    let legal = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    text.chars().filter(legal).collect()
}
