//! What the skills show really runs: each `python` block, in the order of the file, in a project
//! with a `.env`, against the running example service. A block that begins with `# name.py` is
//! saved under that name, as the skill says; the others are scripts of their own beside it.

#[path = "support/python.rs"]
mod python;
#[path = "support/service.rs"]
mod service;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use minijinja::{Environment, UndefinedBehavior, context};
use serde_json::json;
use service_connector::example_service::Kind;
use tempfile::TempDir;

use python::python;
use service::Service;

/// A skill, rendered for a running service, and the project of an analyst who is connected to it.
struct Project {
    service: Service,
    key: String,
    prefix: &'static str,
    skill: String,
    directory: TempDir,
}

fn prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::PurchaseOrders => "PO",
        Kind::Invoicing => "INV",
        Kind::Crm => "CRM",
    }
}

fn render(kind: Kind, base_url: &str) -> String {
    let path = format!("{}/skills/sc_{}.md", env!("CARGO_MANIFEST_DIR"), kind.id());
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let fields = context! {
        service => context! {
            id => kind.id(),
            name => kind.name(),
            description => "What it is for.",
            base_url => base_url,
        },
        env => context! {
            api_key => format!("{}_API_KEY", prefix(kind)),
            base_url => format!("{}_BASE_URL", prefix(kind)),
        },
        status => "active until 2027-02-20",
    };
    environment.render_str(&fs::read_to_string(path).unwrap(), fields).unwrap()
}

impl Project {
    async fn new(kind: Kind) -> Self {
        let service = Service::start(kind).await;
        let key = service.exchange("ref-1").await.str("api_key").to_owned();
        let base_url = service.running.base_url();
        let skill = render(kind, &base_url);
        let directory = tempfile::tempdir().unwrap();
        let prefix = prefix(kind);
        let env = format!("{prefix}_API_KEY={key}\n{prefix}_BASE_URL={base_url}\n");
        fs::write(directory.path().join(".env"), env).unwrap();
        Self { service, key, prefix, skill, directory }
    }

    /// Runs all blocks in order; gives what they printed, one text a block.
    async fn run_all(&self) -> Vec<String> {
        let mut printed = Vec::new();
        for (number, block) in blocks(&self.skill).into_iter().enumerate() {
            let output = self.run(&file_name(block, number), block).await;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "block {number} failed:\n{block}\n{errors}");
            printed.push(String::from_utf8(output.stdout).unwrap());
        }
        printed
    }

    /// Saves a script and runs it, without blocking the service that runs in the same thread.
    async fn run(&self, name: &str, script: &str) -> Output {
        let path = self.directory.path().join(name);
        fs::write(&path, script).unwrap();
        let output = tokio::task::spawn_blocking(move || run_python(&path)).await.unwrap();
        for stream in [&output.stdout, &output.stderr] {
            let shown = String::from_utf8_lossy(stream);
            assert!(!shown.contains(&self.key), "{name} prints the key");
        }
        output
    }
}

fn run_python(script: &Path) -> Output {
    let mut command = Command::new(python());
    // Nothing of this process's environment: the key can come from `.env` alone.
    command.arg(script).current_dir(script.parent().unwrap()).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.output().unwrap()
}

fn blocks(skill: &str) -> Vec<&str> {
    let parts = skill.split("```python\n").skip(1);
    parts.map(|part| part.split_once("```").expect("a block without an end").0).collect()
}

fn file_name(block: &str, number: usize) -> String {
    let first = block.lines().next().unwrap_or_default();
    let stem = first.strip_prefix("# ").and_then(|name| name.strip_suffix(".py"));
    stem.map_or_else(|| format!("block_{number}.py"), |stem| format!("{stem}.py"))
}

#[tokio::test]
async fn what_the_purchase_orders_skill_shows_runs() {
    let printed = Project::new(Kind::PurchaseOrders).await.run_all().await;
    assert_eq!(printed.len(), 7);
    assert_eq!(printed[0], "True True\n");
    assert!(printed[2].contains("john@your-domain.com"));
    assert!(printed[3].starts_with("PO-1002 Northlight Computing 6396.00 EUR\nPO-1003"));
    assert_eq!(printed[4], "4 x Laptop 14in\n4 x Docking station\n");
    assert_eq!(printed[5], "PO-1007 approved by john@your-domain.com\n");
    assert_eq!(printed[6], "approved\n");
}

#[tokio::test]
async fn what_the_invoicing_skill_shows_runs() {
    let printed = Project::new(Kind::Invoicing).await.run_all().await;
    assert_eq!(printed.len(), 7);
    assert_eq!(printed[0], "True True\n");
    assert!(printed[3].starts_with("INV-1002 Ostrava Tramways 185000.00 "));
    assert_eq!(printed[4], "paid 4800.00 EUR\ndraft 1920.00 EUR\n");
    assert_eq!(printed[5], "INV-1006 sent by john@your-domain.com\n");
    assert!(printed[6].starts_with("422: ") && printed[6].contains("currency"));
}

#[tokio::test]
async fn what_the_crm_skill_shows_runs() {
    let printed = Project::new(Kind::Crm).await.run_all().await;
    assert_eq!(printed.len(), 7);
    assert_eq!(printed[0], "True True\n");
    assert!(printed[3].contains("proposal D-1002 Route planning 420000.00 CZK\n"));
    assert_eq!(printed[4], "D-1003 Reporting for branches qualified\n");
    assert_eq!(printed[5], "D-1007 qualified by john@your-domain.com\n");
    assert_eq!(printed[6], "won\n");
}

const KINDS: [Kind; 3] = [Kind::PurchaseOrders, Kind::Invoicing, Kind::Crm];

#[tokio::test]
async fn lists_of_more_than_one_page_are_read_to_the_end() {
    let project = Project::new(Kind::Crm).await;
    project.run_all().await;
    let script = "from crm_client import pages\n\
                  print(len(list(pages('/api/v1/deals', 'deals', limit=2))))\n";
    let output = project.run("paging.py", script).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7\n");
}

#[tokio::test]
async fn a_revoked_key_is_a_401_that_says_so() {
    for kind in KINDS {
        let project = Project::new(kind).await;
        project.run_all().await;
        project.service.revoke(json!({"client_ref": "ref-1"})).await;
        let output = project.run("again.py", blocks(&project.skill)[2]).await;
        assert!(!output.status.success());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("ApiError: 401: the key is missing, unknown, expired or revoked"));
    }
}

#[tokio::test]
async fn a_disconnected_project_is_seen_without_a_call() {
    for kind in KINDS {
        let project = Project::new(kind).await;
        fs::write(project.directory.path().join(".env"), "OTHER=kept\n").unwrap();
        let blocks = blocks(&project.skill);
        let check = project.run("check.py", blocks[0]).await;
        assert_eq!(String::from_utf8_lossy(&check.stdout), "False False\n");
        project.run(&file_name(blocks[1], 1), blocks[1]).await;
        let output = project.run("me.py", blocks[2]).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(&format!("401: {}_API_KEY or", project.prefix)), "{errors}");
    }
}

#[tokio::test]
async fn the_key_does_not_follow_a_redirect() {
    use service_connector::example_service::{Fault, On};
    for kind in KINDS {
        let project = Project::new(kind).await;
        project.run_all().await;
        project.service.faults().next(On::Business, Fault::Redirect, 1);
        let output = project.run("again.py", blocks(&project.skill)[2]).await;
        assert!(String::from_utf8_lossy(&output.stderr).contains("ApiError: 302"));
    }
}

#[test]
fn a_skill_says_all_that_an_agent_needs() {
    for kind in KINDS {
        let skill = render(kind, "https://service.internal.example.com");
        for needed in [
            "## The key",
            "## Authentication",
            "## Endpoints",
            "## Common patterns",
            "## Data model",
            "**On 401**",
            "active until 2027-02-20",
            "bool(os.environ.get(",
            "https://service.internal.example.com",
        ] {
            assert!(skill.contains(needed), "{}: {needed}", kind.id());
        }
        let names_the_key = |line: &&str| line.contains(&format!("${}", prefix(kind)));
        assert_eq!(skill.lines().find(names_the_key), None, "a key on a command line");
        assert!(!skill.contains("{{") && !skill.contains("curl -"), "{}", kind.id());
    }
}

#[test]
fn the_registry_names_what_the_examples_and_skills_use() {
    for kind in KINDS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("registry");
        let entry = fs::read_to_string(directory.join(format!("{}.yaml", kind.id()))).unwrap();
        for line in [
            format!("id: {}", kind.id()),
            format!("name: {}", kind.name()),
            format!("secret: {}", kind.secret_variable()),
            format!("skill: sc_{}.md", kind.id()),
            format!("icon: {}.svg", kind.id()),
            format!("  {}_API_KEY: \"{{{{ api_key }}}}\"", prefix(kind)),
            format!("  {}_BASE_URL: \"{{{{ base_url }}}}\"", prefix(kind)),
        ] {
            assert!(entry.lines().any(|found| found.starts_with(&line)), "{line}");
        }
        assert!(directory.join(format!("{}.svg", kind.id())).is_file());
    }
}
