//! README's set-up, typed as it stands there, against a running service.

use std::fs;
use std::path::Path;
use std::process::Command;

use service_connector::example_service::{Config, ExampleService, Kind};
use service_connector::model::secret::Secret;

/// The shell blocks that stand behind a `<!-- setup -->`.
fn setup() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(readme).unwrap();
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
