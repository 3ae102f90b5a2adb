//! A Chromium of its own for a test, and the chromedriver that it is asked through.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::{Element, ElementRef};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long something may take until it is seen: a build machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What `WebDriver` calls the id of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Nothing that talks to anybody but the page.
const ARGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// A browser; it ends with the test, however that ends.
pub struct Chrome {
    pub client: Client,
    driver: Driver,
    session: String,
}

impl Chrome {
    /// Starts one.
    pub async fn start() -> Self {
        let driver = Driver::start();
        let Value::Object(capabilities) = json!({
            "goog:chromeOptions": { "args": ARGS },
            "goog:loggingPrefs": { "browser": "ALL" },
        }) else {
            unreachable!("it is an object")
        };
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let client = builder.connect(&driver.url()).await.expect("chromedriver opens Chromium");
        let session = client.session_id().await.unwrap().unwrap();
        let chrome = Self { client, driver, session };
        chrome.look(1280, false).await;
        chrome.devtools("Emulation.setLocaleOverride", json!({ "locale": "en-GB" })).await;
        let zone = json!({ "timezoneId": "Europe/Prague" });
        chrome.devtools("Emulation.setTimezoneOverride", zone).await;
        chrome
    }

    /// Opens an address.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// How wide the page is, and whether the system is dark.
    pub async fn look(&self, width: u32, dark: bool) {
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// A command of the browser's own protocol.
    pub async fn devtools(&self, command: &str, params: Value) -> Value {
        self.ask("goog/cdp/execute", json!({ "cmd": command, "params": params })).await
    }

    /// What the browser's console has said since it was asked last: errors and refusals.
    pub async fn complaints(&self) -> Vec<String> {
        let said = self.ask("se/log", json!({ "type": "browser" })).await;
        let lines = said.as_array().unwrap().iter();
        let lines = lines.filter(|line| line["level"] == "SEVERE");
        lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    async fn ask(&self, what: &str, body: Value) -> Value {
        let url = format!("{}/session/{}/{what}", self.driver.url(), self.session);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.post(url).json(&body).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        answer["value"].take()
    }

    /// What a script gives back.
    pub async fn run(&self, script: &str, args: Vec<Value>) -> Value {
        self.client.execute(script, args).await.unwrap()
    }

    /// The element that a script finds.
    pub async fn element(&self, script: &str, args: Vec<Value>) -> Option<Element> {
        let found = self.run(script, args).await;
        let id = found.get(ELEMENT)?.as_str()?.to_owned();
        Some(Element::from_element_id(self.client.clone(), ElementRef::from(id)))
    }

    /// Waits until a script gives what is wanted; `what` is for who reads the failure.
    pub async fn until(&self, what: &str, script: &str, args: Vec<Value>, wanted: &Value) {
        let begin = Instant::now();
        loop {
            let found = self.run(script, args.clone()).await;
            if found == *wanted {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: wanted {wanted}, but there is {found}");
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    }
}

struct Driver {
    child: Child,
    port: u16,
    _scratch: TempDir,
}

impl Driver {
    fn start() -> Self {
        // Two that start at once may choose the same port: the other one says so and ends.
        let begun = (0..10).find_map(|_| Self::try_start());
        begun.expect("chromedriver starts (Debian: apt-get install chromium chromium-driver)")
    }

    fn try_start() -> Option<Self> {
        // Chromium's profile goes there, and with it.
        let scratch = tempfile::tempdir().unwrap();
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", scratch.path())
            .env("XDG_CONFIG_HOME", scratch.path())
            .env("XDG_CACHE_HOME", scratch.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver is there (Debian: apt-get install chromium chromium-driver)");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut driver = Self { child, port: 0, _scratch: scratch };
        driver.port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        })?;
        Some(driver)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Chromium is of the same group.
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        _ = killpg(group, Signal::SIGKILL); // it has ended already, then
        drop(self.child.wait());
    }
}
