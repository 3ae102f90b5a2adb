//! A user who swaps directories and links under the helper's hands, thousands of times.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use service_connector::wire::{Answer, Reply, Said};

use crate::server::{ANALYSTS, on_a_server};
use crate::talk::{self, files, put_line};

/// Accounts that are asked for in one start, all of them swapping.
const ACCOUNTS: u32 = 4;
/// Runs of the helper's process for one account.
const RUNS: usize = 2_400;

#[test]
fn directories_swapped_for_links_meanwhile_lead_nowhere() {
    on_a_server("directories_swapped_for_links_meanwhile_lead_nowhere", |server| {
        talk::install(server);
        let outside = Path::new("/home/outside");
        fs::create_dir_all(outside.join("rules")).unwrap();
        fs::write(outside.join("rules/sc_old.md"), "outside").unwrap();
        fs::write(outside.join("env"), "outside").unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode;
        for path in ["rules", "rules/sc_old.md", "env"] {
            fs::set_permissions(outside.join(path), open(0o777)).unwrap();
        }
        let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("racer{n}")).collect();
        for (uid, name) in (33_000..).zip(&names) {
            let home = server.account(name, uid, &[ANALYSTS]);
            fs::create_dir(home.join(".claude_rules")).unwrap();
            fs::write(home.join(".service_env"), "mine").unwrap();
            symlink(outside.join("rules"), home.join("rules_link")).unwrap();
            symlink(outside.join("env"), home.join("env_link")).unwrap();
            for entry in [".", ".claude_rules", ".service_env", "rules_link", "env_link"] {
                std::os::unix::fs::lchown(home.join(entry), Some(uid), Some(uid)).unwrap();
            }
        }
        let done = AtomicBool::new(false);
        let (mut put, mut refused) = (0, 0);
        thread::scope(|scope| {
            let done = &done;
            // These threads are root's, which lets them swap more than any user could.
            for pair in names.chunks(2) {
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        for name in pair {
                            swap(name, ".claude_rules", "rules_link");
                            swap(name, ".service_env", "env_link");
                        }
                    }
                });
            }
            for generation in 0..u64::try_from(RUNS).unwrap() / u64::from(ACCOUNTS) {
                let set = files(generation, &["sc_crm.md"]);
                let lines = names.iter().flat_map(|name| put_line(generation, name, &set));
                for said in talk::say(&lines.collect::<Vec<u8>>()) {
                    match said {
                        Said::Reply(Reply { answer: Answer::Put(Ok(_)), .. }) => put += 1,
                        Said::Reply(Reply { answer: Answer::Put(Err(_)), .. }) => refused += 1,
                        other => panic!("{other:?}"),
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(put + refused, RUNS);
        assert!(put > 0 && refused > 0, "{put} put, {refused} refused");
        let names: Vec<_> = fs::read_dir(outside.join("rules")).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing was made or removed outside");
        for path in ["rules/sc_old.md", "env"] {
            assert_eq!(fs::read_to_string(outside.join(path)).unwrap(), "outside");
            let meta = fs::metadata(outside.join(path)).unwrap();
            assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o777));
        }
    });
}

fn swap(name: &str, one: &str, other: &str) {
    let home = Path::new("/home").join(name);
    // One of the two may be missing for a moment, while the helper replaces it.
    renameat_with(CWD, home.join(one), CWD, home.join(other), RenameFlags::EXCHANGE).ok();
}
