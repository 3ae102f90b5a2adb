//! The pictures of the README, in light and dark, wide and narrow. Written only when asked for:
//! `SC_SCREENSHOTS=docs/screenshots`; the test itself holds that there is a picture of each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::BASE64;
use serde_json::json;

use crate::chrome::Chrome;
use crate::fake::Portal;
use crate::{fleet, world};

const LOOKS: [(u32, bool); 4] = [(1280, false), (1280, true), (360, false), (360, true)];

fn file(what: &str, (width, dark): (u32, bool)) -> String {
    format!("{what}-{width}-{}.png", if dark { "dark" } else { "light" })
}

async fn take(chrome: &Chrome, path: &Path, (width, dark): (u32, bool), height: u32) {
    chrome.look(width, dark).await;
    let metrics =
        json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
    chrome.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let picture = chrome.devtools("Page.captureScreenshot", json!({ "format": "png" })).await;
    let bytes = BASE64.decode(picture["data"].as_str().unwrap().as_bytes()).unwrap();
    fs::write(path, bytes).unwrap();
    let mut smaller = Command::new("pngquant");
    let done =
        smaller.args(["--force", "--speed", "1", "--strip", "--ext", ".png"]).arg(path).status();
    assert!(done.is_ok_and(|status| status.success()), "pngquant is needed (Debian: pngquant)");
}

async fn take_all(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let card = Portal::start();
    card.change(|world| {
        world::enter(world.service("purchase_orders"), "connected");
        world::enter(world.service("invoicing"), "connected");
        world.service("invoicing")["laptops"] = json!(0);
    });
    let admins = fleet::portal(false);
    let chrome = Chrome::start().await;
    for look in LOOKS {
        chrome.open(&card.page()).await;
        chrome.badge("crm", "Not connected").await;
        take(&chrome, &dir.join(file("card", look)), look, if look.0 > 1000 { 680 } else { 820 })
            .await;
        chrome.open(&format!("{}fleet", admins.page())).await;
        chrome.reads_anywhere("hana there is no account").await;
        take(&chrome, &dir.join(file("fleet", look)), look, 900).await;
    }
}

#[tokio::test]
async fn screenshots_are_there_and_small() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(dir) = std::env::var_os("SC_SCREENSHOTS") {
        take_all(&root.join(PathBuf::from(dir))).await;
    }
    for what in ["card", "fleet"] {
        for look in LOOKS {
            let picture = root.join("docs/screenshots").join(file(what, look));
            let size = fs::metadata(&picture).map_or(0, |found| found.len());
            assert!((1..60_000).contains(&size), "{}: {size} bytes", picture.display());
        }
    }
}
