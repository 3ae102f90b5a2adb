//! README's set-up, typed as it stands there, against a running service.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rcgen::{KeyPair, PKCS_RSA_SHA256};

use service_connector::example_service::{Config, ExampleService, Kind};
use service_connector::model::secret::Secret;

fn readme() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    fs::read_to_string(readme).unwrap()
}

/// The shell blocks that stand behind a `<!-- setup -->`.
fn setup() -> String {
    let text = readme();
    let blocks = text.split("<!-- setup -->\n```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect()
}

#[tokio::test]
async fn the_set_up_of_the_readme_ends_with_a_key_in_a_home() {
    let dir = tempfile::tempdir().unwrap();
    let secret = format!("{:032x}", service_connector::store::random());
    let config =
        Config::new(Kind::PurchaseOrders, dir.path().join("wiki"), Secret::new(secret.clone()));
    let service = ExampleService::start(config).await.unwrap();
    let script = setup().replace("http://127.0.0.1:7101", &service.base_url());
    assert!(script.contains("service-connector reconcile"), "README has a set-up");
    let bin = Path::new(env!("CARGO_BIN_EXE_service-connector")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = tokio::task::spawn_blocking({
        let dir = dir.path().to_owned();
        move || {
            Command::new("bash")
                .args(["-euo", "pipefail", "-c", &script])
                .env("PATH", path)
                .env("SHARED_SECRET", secret)
                .current_dir(dir)
                .output()
                .unwrap()
        }
    })
    .await
    .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("All right. Services: 1"), "{said}");
    assert!(said.contains("connected"), "{said}");
    let home = dir.path().join("connector/homes/john");
    let env = fs::read_to_string(home.join(".service_env")).unwrap();
    assert!(env.contains("\nWIKI_API_KEY="), "the key is there");
    assert!(home.join(".claude_rules/sc_wiki.md").exists());
    service.stop().await;
}

#[test]
fn a_portal_opens_with_the_identity_of_the_readme() {
    let text = readme();
    let block = text.split("```yaml\nidentity:").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    // An account that every machine has, in the place of the web server's.
    let block = block.replace("www-data", "daemon");
    write("service-connector.yaml", &format!("version: 1\nidentity:{block}"));
    write("flask.key", &format!("{:032x}", service_connector::store::random()));
    write("portal.pem", &KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().public_key_pem());
    for (name, empty) in [("desired.yaml", "users"), ("people.yaml", "people")] {
        write(name, &format!("version: 1\n{empty}: {{}}\n"));
    }
    fs::create_dir(dir.path().join("registry")).unwrap();
    let mut portal = Command::new(env!("CARGO_BIN_EXE_service-connector"))
        .args(["--config", "service-connector.yaml", "serve", "--listen", "unix:portal.sock"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let first = BufReader::new(portal.stdout.take().unwrap()).lines().next();
    portal.kill().unwrap();
    let said = portal.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let first = first.map(Result::unwrap).unwrap_or_default();
    assert!(first.starts_with("The portal is at "), "{first}\n{said}");
    assert!(!said.contains("nobody"), "{said}");
}
