//! The example for service owners, run as it stands in the document: it keeps every rule.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "support/python.rs"]
mod python;

/// The Python block that stands behind `<!-- example -->`.
fn example() -> String {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/service-contract.md");
    let text = fs::read_to_string(document).unwrap();
    let (_, block) = text.split_once("<!-- example -->\n```python\n").unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(dir: &Path, port: u16, secret: &str) -> Running {
    let log = fs::File::create(dir.join("log")).unwrap();
    let child = Command::new(python::python_with_flask())
        .arg("service.py")
        .current_dir(dir)
        .env("SC_SECRET_WIKI", secret)
        .env("KEY_SECRET", "a secret of the service's own")
        .env("PORT", port.to_string())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let running = Running(child);
    let begin = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let log = fs::read_to_string(dir.join("log")).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(30), "the example does not listen: {log}");
        std::thread::sleep(Duration::from_millis(50));
    }
    running
}

fn registry(dir: &Path, port: u16) {
    fs::create_dir_all(dir.join("registry")).unwrap();
    fs::create_dir_all(dir.join("skills")).unwrap();
    let entry = format!(
        "id: wiki\nname: Wiki\ndescription: A wiki.\nbase_url: http://127.0.0.1:{port}\n\
         contract: v2\nsecret: SC_SECRET_WIKI\nenv_prefix: WIKI_\n\
         env: {{ WIKI_API_KEY: \"{{{{ api_key }}}}\" }}\nskill: sc_wiki.md\n\
         allow: {{ emails: [\"*@your-domain.com\"], users: [] }}\n"
    );
    fs::write(dir.join("registry/wiki.yaml"), entry).unwrap();
    fs::write(dir.join("skills/sc_wiki.md"), "# {{ service.name }}: {{ status }}\n").unwrap();
}

#[test]
fn the_example_for_service_owners_keeps_every_rule() {
    let dir = tempfile::tempdir().unwrap();
    let secret = format!("{:032x}", fastrand::u128(..));
    let port = {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        free.local_addr().unwrap().port()
    };
    fs::write(dir.path().join("service.py"), example()).unwrap();
    registry(dir.path(), port);
    let _running = start(dir.path(), port, &secret);
    let output = Command::new(env!("CARGO_BIN_EXE_service-connector"))
        .args(["check-service", "wiki", "--probe", "/api/v1/me", "--many", "--json"])
        .current_dir(dir.path())
        .env("SC_SECRET_WIKI", &secret)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    let report: Value = serde_json::from_str(&said).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let skipped: Vec<&Value> = checks.iter().filter(|check| check["result"] == "skip").collect();
    assert!(checks.len() > 30);
    assert_eq!(skipped.len(), 1, "all but retry-after are tried: {skipped:?}");
}
