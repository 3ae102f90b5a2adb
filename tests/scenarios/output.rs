//! What commands print, and how they are set up. That no secret is ever printed is held after
//! every command of every story, by `Scene::wait`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use service_connector::example_service::{Fault, Kind, On};

use crate::scene::{Ran, Scene};

const CRM: Kind = Kind::Crm;

const ESCAPE: char = '\u{1b}';

fn is_plain(ran: &Ran) -> bool {
    !ran.text().contains(ESCAPE) && !ran.text().contains('\r')
}

#[test]
fn there_is_no_colour_and_no_progress_where_there_is_no_terminal() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    assert!(is_plain(&scene.run(&["plan"]).expect(2)));
    scene.faults(CRM).next(On::Exchange, Fault::Delay { millis: 1800 }, 1);
    assert!(is_plain(&scene.pass(0)), "a pass of more than a second");
    scene.disconnect("john", CRM);
    assert!(is_plain(&scene.run(&["plan"]).expect(2)));
    assert!(is_plain(&scene.run(&["status"]).expect(0)));
    scene.desired("users: []\n");
    assert!(is_plain(&scene.run(&["plan"]).expect(1)));
}

#[test]
fn colour_is_there_where_it_is_asked_for_and_no_color_has_the_last_word() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    let plan = |names: &[&str]| {
        let ran = scene.run_with(&["plan"], |command| {
            for name in names {
                command.env(name, "1");
            }
        });
        ran.expect(2)
    };
    assert!(!is_plain(&plan(&["CLICOLOR_FORCE"])));
    assert!(is_plain(&plan(&["NO_COLOR"])));
    assert!(is_plain(&plan(&["NO_COLOR", "CLICOLOR_FORCE"])));
}

#[test]
fn what_a_service_says_reaches_the_terminal_without_its_secrets_and_in_one_line() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    scene.pass(0);
    scene.rotate("john", CRM);
    scene.faults(CRM).next(On::Exchange, Fault::NewlineInKey, 1);
    let said = scene.pass(4);
    said.does_not_say("PATH=/tmp/elsewhere");
    let lines = said.stdout.lines().filter(|line| line.contains("its answer was refused")).count();
    assert_eq!(lines, 1);
}

#[test]
fn the_log_holds_no_secret_however_much_is_asked_of_it() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    let logged = |args: &[&str]| {
        scene.run_with(args, |command| {
            command.env("SC_LOG", "trace");
        })
    };
    logged(&["reconcile"]).expect(0);
    scene.rotate("john", CRM);
    logged(&["reconcile"]).expect(0);
    logged(&["status"]).expect(0);
}

#[test]
fn wrong_usage_ends_with_1_and_help_with_0() {
    let scene = Scene::new();
    for args in [
        &["plan", "--nonsense"][..],
        &["nonsense"],
        &[],
        &["plan", "--user", "Jo hn"],
        &["plan", "--service", "../crm"],
        &["plan", "--at", "soon"],
        &["reconcile", "--expect", "xyz"],
        &["approve"],
        &["connect", "john"],
        &["connect", "john", "crm", "--ttl-days", "many"],
    ] {
        scene.run(args).expect(1);
    }
    scene.run(&["--help"]).expect(0).says("reconcile");
    scene.run(&["--version"]).expect(0).says("service-connector ");
}

#[test]
fn an_unknown_setting_is_refused_with_its_place() {
    let scene = Scene::new();
    let path = scene.path("config.yaml");
    fs::write(&path, "version: 1\nguard:\n  at_lest: 3\n").unwrap();
    let config = path.to_str().unwrap();
    scene.run(&["--config", config, "plan"]).expect(1).says("config.yaml:3:3").says("at_least");
    scene.run(&["--config", "/nowhere.yaml", "plan"]).expect(1).says("/nowhere.yaml");
}

#[test]
fn a_configuration_file_says_where_everything_is_and_flags_go_before_it() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    let path = |name: &str| scene.path(name).display().to_string();
    let text = format!(
        "version: 1\nhomes: {{ direct: {}, create: true }}\nstate: {}\n",
        path("other_homes"),
        path("state")
    );
    fs::write(scene.path("config.yaml"), text).unwrap();
    let config = path("config.yaml");
    let without_variables = |args: &[&str]| {
        scene.run_with(args, |command| {
            command.env_remove("SC_HOMES").env_remove("SC_STATE").env("SC_CONFIG", &config);
        })
    };
    let homes = path("homes");
    without_variables(&["reconcile", "--homes", &homes]).expect(0);
    scene.working_key("john", CRM);
    assert!(!scene.path("other_homes").exists());
    scene.connect("eva", CRM);
    without_variables(&["reconcile"]).expect(0);
    assert!(scene.path("other_homes/eva/.service_env").exists());
}

#[test]
fn a_configuration_in_the_working_directory_that_others_may_write_is_refused() {
    let scene = Scene::new();
    let set_mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let path = scene.path("service-connector.yaml");
    fs::write(&path, "version: 1\nguard: { at_least: 3 }\n").unwrap();
    set_mode(&path, 0o664);
    scene.run(&["plan"]).expect(1).says("it is not yours alone to write");
    set_mode(&path, 0o600);
    scene.run(&["plan"]).expect(0);
    set_mode(scene.root(), 0o770);
    scene.run(&["plan"]).expect(1).says("its directory is not yours alone to write");
    // Whoever names it trusts it; but root, who may do anything, does not go where others say.
    let named = scene.run(&["--config", "service-connector.yaml", "plan"]);
    if rustix::process::geteuid().is_root() {
        named.expect(1).says("its directory is not yours alone to write: root goes where it says");
    } else {
        named.expect(0);
    }
}

#[test]
fn a_reader_that_is_gone_ends_the_output_and_not_the_work() {
    let scene = Scene::new();
    scene.connect("john", CRM);
    let mut pass = scene.start(&["reconcile"]);
    drop(pass.stdout.take());
    scene.wait(pass).expect(0);
    scene.working_key("john", CRM);
}
