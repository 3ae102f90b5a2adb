//! That the server of a test is one, and stays inside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::server::{ANALYSTS, PORTAL, RECONCILER, STATE, on_a_server};

#[test]
fn accounts_of_a_test_exist_on_its_server_alone() {
    on_a_server("accounts_of_a_test_exist_on_its_server_alone", |server| {
        let home = server.account("alice", 3001, &[ANALYSTS]);
        let said = |user: &str, args: &[&str]| {
            let output = server.run_as(user, args[0]).args(&args[1..]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(said("alice", &["id", "-un"]), "alice");
        assert_eq!(said("alice", &["id", "-Gn"]), "alice analysts");
        assert_eq!(said(PORTAL, &["id", "-Gn"]), "sc-portal service-connector");
        assert_eq!(said("root", &["id", "-u"]), "0");
        assert_eq!(said(RECONCILER, &["sh", "-c", "umask"]), "0077");
        let meta = fs::metadata(home).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (3001, 0o700));
        assert_eq!(fs::metadata(STATE).unwrap().mode() & 0o7777, 0o2750);
        server.remove_account("alice");
        assert!(!fs::read_to_string("/etc/passwd").unwrap().contains("alice"));
        assert!(fs::read_to_string("/etc/passwd").unwrap().contains(PORTAL));
    });
    // This thread never left the machine.
    assert!(!fs::read_to_string("/etc/passwd").unwrap().contains(PORTAL));
    assert!(!fs::exists(STATE).unwrap());
}
