//! A key is in files of its owner's, and nowhere else that anybody could see.

use std::fs;
use std::process::Command;

use crate::kit::{Files, Laptop};

/// Runs a sync, and returns every argument and every variable of every program that it started.
fn started(laptop: &Laptop, words: &[&str], code: i32) -> String {
    let inner = laptop.command(words);
    let trace = laptop.path("trace");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-v", "-s", "100000", "-e", "trace=execve", "-o"]).arg(&trace);
    traced.arg(inner.get_program()).args(inner.get_args());
    traced.current_dir(inner.get_current_dir().unwrap()).env_clear();
    for (name, value) in inner.get_envs() {
        traced.env(name, value.unwrap());
    }
    let output = traced.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(code), "{said}");
    format!("{said}{}", String::from_utf8_lossy(&fs::read(trace).unwrap()))
}

#[test]
fn no_key_is_in_an_argument_a_variable_or_a_word_of_the_script() {
    let laptop = Laptop::new();
    laptop.write(".env", "OTHERS_SECRET=of-somebody-else\n");
    let mut secrets = vec!["of-somebody-else".to_owned()];
    let put = |secrets: &mut Vec<String>, generation, names: &[&str]| {
        let files = Files::new(generation, names, &["sc_po.md"]);
        files.put(&laptop.home());
        secrets.extend(files.variables.into_iter().map(|(_, value)| value));
    };
    let mut all = String::new();
    put(&mut secrets, 1, &["PO_API_KEY", "CRM_API_KEY"]);
    all += &started(&laptop, &["--check"], 2);
    all += &started(&laptop, &[], 0);
    put(&mut secrets, 2, &["PO_API_KEY"]);
    all += &started(&laptop, &[], 0);
    // A block that is broken is read with more care.
    laptop.write(".env", laptop.env().replace("# --- SERVICE CONNECTOR END ---\n", "NEW=line\n"));
    put(&mut secrets, 3, &["PO_API_KEY", "INV_API_KEY"]);
    all += &started(&laptop, &[], 0);
    laptop.write("copied.py", format!("KEY = '{}'\n", secrets.last().unwrap()));
    all += &started(&laptop, &["--scan", "."], 2);
    put(&mut secrets, 4, &[]);
    all += &started(&laptop, &[], 0);
    assert!(all.matches("execve(").count() > 60, "it was traced");
    for secret in secrets {
        assert!(!all.contains(&secret), "a key is where anybody sees it");
    }
    assert_eq!(laptop.env(), "OTHERS_SECRET=of-somebody-else\nNEW=line\n");
}
