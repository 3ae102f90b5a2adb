//! `registry/<id>.yaml`, and the templates in it. Behind a line `----skill----` comes the skill's
//! template.
#![no_main]

use libfuzzer_sys::fuzz_target;
use service_connector::model::name::EnvValue;
use service_connector::model::registry::{STATUS_MARK, Service};
use service_connector::model::registry_entry::RegistryError;
use service_connector::model::skill::{Status, render};
use service_connector::model::skill_lint::lint;
use service_connector::model::yaml;

const SKILL: &str = "# {{ service.name }}\nStatus: {{ status }}\n`{{ env.api_key }}`\n";

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = yaml::utf8(bytes) else { return };
    let (entry, skill) = text.split_once("----skill----\n").unwrap_or((text, SKILL));
    let service = match Service::parse("crm", entry, |_| Ok(skill.to_owned())) {
        Ok(service) => service,
        Err(RegistryError::Yaml(error)) => {
            return assert!(entry.get(error.range.clone()).is_some(), "{error}");
        }
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(service.id.as_str(), "crm");
    let endpoint = &service.endpoint;
    for url in
        [&endpoint.exchange_url, &endpoint.revoke_url, &endpoint.list_url, &endpoint.health_url]
    {
        let safe = ["https://", "http://127.", "http://localhost", "http://[::1]"];
        assert!(safe.iter().any(|start| url.starts_with(start)), "{url}");
    }
    for (_, template) in &service.rendition.env {
        EnvValue::parse(&template.with("k")).expect("a value around a good key is a good value");
    }
    for status in [Status::Expired, Status::ActiveUntil("2026-02-20".parse().expect("a date"))] {
        assert!(!render(&service.rendition, status).contains(STATUS_MARK));
    }
    assert!(lint(&service).iter().all(|warning| !warning.is_empty()));
    assert!(service.renew_before_days < service.ttl_days);
});
