//! `demo`: the whole cycle on this machine, told by the product's own commands.

mod stage;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::settings::Settings;
use crate::identity::Identity;
use crate::model::name::{Email, ServiceId, UserId};

use super::report::{palette, say};
use super::serve::{Door, OpenPortal};
use super::{Failure, block_on, edit, plan, reconcile, status, watch};
use stage::{PERSONS, Stage};

/// Where the portal is, unless somebody else is there.
const PORTAL: &str = "127.0.0.1:8017";

/// Show the whole cycle on this machine: three example services on loopback, a scratch state,
/// scratch homes; connect, drift, rotation, disconnect.
///
/// Afterwards it stays up, so that you can try commands of your own in another terminal.
#[derive(clap::Args)]
pub struct Args {
    /// End when the story is told; exit 0 only if every step held
    #[arg(long)]
    once: bool,
}

/// The story, on its stage.
struct Story {
    stage: Stage,
    settings: Settings,
    john: UserId,
    orders: ServiceId,
}

pub fn run(args: &Args) -> Result<u8, Failure> {
    let began = Timestamp::now();
    let stage = Stage::set_up()?;
    let settings = stage.settings()?;
    let (john, orders) = ("john".parse()?, "purchase_orders".parse()?);
    let story = Story { stage, settings, john, orders };
    let told = story.tell().and_then(|()| {
        let took = Timestamp::now().duration_since(began);
        say(&format!("\nEvery step held, in {:.1} s.", took.as_secs_f64()));
        if args.once { Ok(()) } else { story.stay_up() }
    });
    story.stage.take_down();
    told.map(|()| 0)
}

impl Story {
    fn tell(&self) -> Result<(), Failure> {
        self.introduce();
        let first_key = self.connect()?;
        self.nothing_to_do()?;
        self.drift()?;
        let second_key = self.rotate(&first_key)?;
        self.disconnect(&second_key)
    }

    fn introduce(&self) {
        heading("Service Connector: keys for people and their agents, declaratively");
        say(
            "Three example services run on loopback, each with a ledger of every key it ever issued:",
        );
        for service in self.stage.services() {
            say(&format!("  {:<16} {}", service.name, service.base_url));
        }
        say(&format!("Everything else is in {}.", self.stage.dir().display()));
    }

    fn connect(&self) -> Result<String, Failure> {
        heading("1. John clicks Connect. That edits desired.yaml, and nothing else");
        for service in ["purchase_orders", "crm"] {
            self.command(&format!("connect john {service}"), |settings| {
                let args = edit::ConnectArgs::new(&self.john, &service.parse()?);
                edit::connect(settings, &args)
            })?;
        }
        self.show_file("desired.yaml");
        heading("2. What will that take? `plan` shows it and does nothing");
        let code = self.command("plan", |settings| plan::run(settings, &plan::Args::default()))?;
        expect("plan says that there are changes to make (exit 2)", code == 2)?;
        heading("3. One pass: ask the services for keys, write them down, put the files");
        self.reconcile()?;
        self.show_home()?;
        heading("4. What John's agent does with it: a call in John's name");
        let key = self.key()?;
        self.call(&key, 200)?;
        Ok(key)
    }

    fn nothing_to_do(&self) -> Result<(), Failure> {
        heading("5. Again: there is nothing to do");
        let code = self.command("plan", |settings| plan::run(settings, &plan::Args::default()))?;
        expect("an unchanged world needs nothing (exit 0)", code == 0)
    }

    fn drift(&self) -> Result<(), Failure> {
        heading("6. Somebody edits the file by hand and loses a skill");
        let home = self.stage.home("john");
        let mut file = fs::OpenOptions::new().append(true).open(home.join(".service_env"))?;
        file.write_all(b"PO_API_KEY=not-the-key\n")?;
        fs::remove_file(home.join(".claude_rules/sc_crm.md"))?;
        say("$ echo PO_API_KEY=not-the-key >> ~john/.service_env");
        say("$ rm ~john/.claude_rules/sc_crm.md");
        let code = self.command("plan", |settings| plan::run(settings, &plan::Args::default()))?;
        expect("the drift is found (exit 2)", code == 2)?;
        self.reconcile()?;
        let mended = fs::read_to_string(home.join(".service_env"))?;
        expect("the file is as it was", !mended.contains("not-the-key"))?;
        expect("the skill is back", home.join(".claude_rules/sc_crm.md").exists())
    }

    fn rotate(&self, first_key: &str) -> Result<String, Failure> {
        heading("7. A rotation: the new key is in place before the old one goes");
        self.command("rotate john purchase_orders", |settings| {
            edit::rotate(settings, &edit::RotateArgs::new(&self.john, &self.orders))
        })?;
        self.reconcile()?;
        let key = self.key()?;
        expect("the key is another one", key != first_key)?;
        say("The new key:");
        self.call(&key, 200)?;
        say("The old key, for the grace of 7 days, since a laptop may still hold it:");
        self.call(first_key, 200)?;
        self.command("status", |settings| status::run(settings, &status::Args::default()))?;
        Ok(key)
    }

    fn disconnect(&self, key: &str) -> Result<(), Failure> {
        heading("8. John clicks Disconnect");
        self.command("disconnect john purchase_orders", |settings| {
            edit::disconnect(settings, &edit::DisconnectArgs::new(&self.john, &self.orders))
        })?;
        self.reconcile()?;
        self.show_home()?;
        let home = self.stage.home("john");
        let skill = home.join(".claude_rules/sc_purchase_orders.md");
        expect("the skill is gone", !skill.exists())?;
        say("The same key again:");
        self.call(key, 401)?;
        let live = self.stage.live_tokens("purchase_orders")?;
        expect("the service's own ledger has no key of his that works", live == 0)
    }

    fn reconcile(&self) -> Result<(), Failure> {
        let code = self.command("reconcile", |settings| {
            reconcile::run(settings, &reconcile::Args::default())
        })?;
        expect("the pass converged (exit 0)", code == 0)
    }

    /// Runs one of the product's commands, showing what a person would have typed.
    fn command(
        &self,
        typed: &str,
        run: impl FnOnce(&Settings) -> Result<u8, Failure>,
    ) -> Result<u8, Failure> {
        let strong = palette().strong;
        say(&format!("{strong}$ service-connector {typed}{strong:#}"));
        let code = run(&self.settings);
        say("");
        code
    }

    fn show_file(&self, name: &str) {
        say(&format!("$ cat {name}"));
        let text = fs::read_to_string(self.stage.dir().join(name)).unwrap_or_default();
        say(text.trim_end());
    }

    /// What is in John's home, the keys left out.
    fn show_home(&self) -> Result<(), Failure> {
        let home = self.stage.home("john");
        say("$ cat ~john/.service_env     (keys not shown here)");
        for line in fs::read_to_string(home.join(".service_env"))?.lines() {
            match line.split_once('=') {
                Some((name, _)) if name.ends_with("_API_KEY") => say(&format!("{name}=…")),
                _ => say(line),
            }
        }
        let mut skills: Vec<String> = fs::read_dir(home.join(".claude_rules"))?
            .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()?;
        skills.sort();
        say(&format!("$ ls ~john/.claude_rules\n{}\n", skills.join("  ")));
        Ok(())
    }

    /// John's key to Purchase Orders, read as his agent reads it.
    fn key(&self) -> Result<String, Failure> {
        let text = fs::read_to_string(self.stage.home("john").join(".service_env"))?;
        let key = text.lines().find_map(|line| line.strip_prefix("PO_API_KEY="));
        Ok(key.ok_or("there is no PO_API_KEY in .service_env")?.to_owned())
    }

    fn call(&self, key: &str, expected: u16) -> Result<(), Failure> {
        let path = "/api/v1/orders?status=pending&limit=2";
        let url = format!("{}{path}", self.stage.base_url("purchase_orders"));
        let (code, body) = block_on(async {
            let answer = reqwest::Client::new().get(url).bearer_auth(key).send().await?;
            let code = answer.status().as_u16();
            Ok::<(u16, Value), reqwest::Error>((code, answer.json().await?))
        })??;
        say(&format!("GET {path} -> {code}"));
        for order in body["orders"].as_array().into_iter().flatten() {
            let text = |field: &str| order[field].as_str().unwrap_or_default().to_owned();
            say(&format!("  {}  {}  {}", text("id"), text("supplier"), text("status")));
        }
        if let Some(detail) = body["detail"].as_str() {
            say(&format!("  {detail}"));
        }
        expect(&format!("the service answers {expected}"), code == expected)
    }

    fn stay_up(&self) -> Result<(), Failure> {
        let program = std::env::current_exe()?;
        let portal = self.open_portal()?;
        heading("The portal is open. Connect somebody yourself:");
        say(&format!("  {}", portal.place));
        heading("It stays up until Ctrl-C. Or try it in another terminal:");
        say(&format!("  cd {}", self.stage.dir().display()));
        say(&format!("  alias service-connector={}", program.display()));
        say("  service-connector status");
        say("  service-connector connect eva invoicing");
        say("  service-connector rotate john crm --leaked");
        say("  $EDITOR desired.yaml; service-connector plan");
        // The loop acts upon each click, until it is told to end.
        watch::run(&self.settings)?;
        portal.close()
    }

    /// The portal of the demo's people, on this machine alone.
    fn open_portal(&self) -> Result<OpenPortal, Failure> {
        let mut demo = Vec::new();
        for (user, email) in PERSONS {
            demo.push((user.parse()?, email.parse()?));
        }
        let people = demo.iter().map(|(_, email): &(UserId, Email)| email.clone()).collect();
        let identity = Identity::demo(people);
        let anywhere = "127.0.0.1:0".parse()?;
        let address = if TcpListener::bind(PORTAL).is_ok() { PORTAL.parse()? } else { anywhere };
        let base_path = "/service-connectors";
        OpenPortal::open(&self.settings, Door { address: &address, base_path, identity, demo })
    }
}

fn heading(text: &str) {
    let strong = palette().strong;
    say(&format!("\n{strong}{text}{strong:#}\n"));
}

/// A step of the story that must hold.
fn expect(what: &str, holds: bool) -> Result<(), Failure> {
    if !holds {
        return Err(format!("this step of the story did not hold: {what}").into());
    }
    let add = palette().add;
    say(&format!("{add}ok{add:#}: {what}"));
    Ok(())
}
