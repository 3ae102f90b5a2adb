//! Too much, too many, and what laptops say.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant, SystemTime};

use service_connector::model::home::{HomeLook, LaptopSeen};
use service_connector::wire::{HomeFiles, MAX_FILE, PutError};

use crate::scene::{Scene, files, random_text, skill};

#[test]
fn endless_files_are_wrong_and_replaced() {
    let scene = Scene::new();
    let wanted = files(1, &["sc_crm.md"]);
    scene.put(&wanted).unwrap();
    // Sparse: a terabyte that costs its owner nothing.
    for name in [".service_env", ".claude_rules/sc_crm.md"] {
        File::options().write(true).open(scene.at(name)).unwrap().set_len(1 << 40).unwrap();
    }
    let begun = Instant::now();
    let facts = scene.seen();
    assert!(facts.env.is_some() && facts.skills.contains_key(&skill("sc_crm.md")));
    scene.put(&wanted).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    scene.holds(&wanted);
}

#[test]
fn a_file_at_the_limit_is_put_and_one_byte_more_is_refused() {
    let scene = Scene::new();
    let mut wanted = files(1, &[]);
    wanted.skills.insert(skill("sc_long.md"), "x".repeat(MAX_FILE));
    scene.put(&wanted).unwrap();
    scene.holds(&wanted);
    let too_many = (0..7).map(|n| (skill(&format!("sc_{n}.md")), "x".repeat(MAX_FILE)));
    let HomeFiles { env, skills } = files(1, &[]);
    let too_many = HomeFiles { env, skills: skills.into_iter().chain(too_many).collect() };
    assert!(matches!(scene.put(&too_many), Err(PutError::Refused(text)) if text.contains("set")));
    wanted.skills.get_mut("sc_long.md").unwrap().push('x');
    assert!(
        matches!(scene.put(&wanted), Err(PutError::Refused(text)) if text.contains("sc_long.md"))
    );
}

#[test]
fn a_hundred_thousand_names_are_an_answer_and_no_hang() {
    let scene = Scene::new();
    fs::create_dir(scene.at(".claude_rules")).unwrap();
    let make = |name: String| File::create(scene.at(".claude_rules").join(name)).unwrap();
    (0..10_000).for_each(|n| drop(make(format!("sc_{n}.md"))));
    assert_eq!(scene.seen().skills.len(), 10_000);
    (10_000..100_000).for_each(|n| drop(make(format!("sc_{n}.md"))));
    let begun = Instant::now();
    let is_told = |text: &str| text.contains(".claude_rules") && text.contains("10000 names");
    assert!(matches!(scene.look(), HomeLook::Unknown(text) if is_told(&text)));
    scene.refuses(&files(1, &["sc_crm.md"]), ".claude_rules", "10000 names");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!scene.at(".service_env").exists());
}

#[test]
fn what_laptops_say_is_read() {
    let scene = Scene::new();
    fs::create_dir(scene.at(".service_env_seen")).unwrap();
    let mut said: Vec<_> = (0..3).map(|_| (fastrand::u64(..), fastrand::u64(..))).collect();
    said.sort_unstable();
    let at = SystemTime::UNIX_EPOCH + Duration::new(fastrand::u64(1..1 << 31), 123_456_789);
    for (laptop, generation) in &said {
        let path = scene.at(&format!(".service_env_seen/{laptop:016x}"));
        fs::write(&path, format!("generation {generation}\n")).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(at)).unwrap();
    }
    let seen = |(laptop, generation): (u64, u64)| LaptopSeen {
        laptop: format!("{laptop:016x}").parse().unwrap(),
        generation,
        at: at.try_into().unwrap(),
    };
    assert_eq!(scene.seen().laptops, said.into_iter().map(seen).collect::<Vec<_>>());
}

#[test]
fn what_is_not_a_laptops_word_is_ignored() {
    let scene = Scene::new();
    fs::create_dir(scene.at(".service_env_seen")).unwrap();
    let at = |name: &str| scene.at(".service_env_seen").join(name);
    let hostile = [
        "",
        "generation",
        "generation ",
        "generation -1",
        "generation +1",
        "generation 1\n2",
        "generation 1 ",
        "Generation 1",
        "generation 99999999999999999999",
        "generation 0x1",
        "\u{feff}generation 1",
    ];
    for (n, text) in hostile.iter().enumerate() {
        fs::write(at(&format!("{n:016x}")), text).unwrap();
    }
    fs::write(at(&format!("{:016x}", 100)), format!("generation {}1", "0".repeat(1 << 20)))
        .unwrap();
    fs::write(at(&format!("{:016x}", 101)), [0xff; 16]).unwrap();
    for name in ["abc", "ABCDEF0123456789", "0123456789abcdef0", ".0123456789abcdef"] {
        fs::write(at(name), "generation 1\n").unwrap();
    }
    fs::write(scene.at("word"), "generation 1\n").unwrap();
    symlink(scene.at("word"), at(&format!("{:016x}", 102))).unwrap();
    fs::create_dir(at(&format!("{:016x}", 103))).unwrap();
    assert_eq!(scene.seen().laptops, []);
    // Of many, the last heard of count.
    for n in 200..300_u64 {
        fs::write(at(&format!("{n:016x}")), format!("generation {n}\n")).unwrap();
        let time = SystemTime::now() - Duration::from_secs(60 * n);
        let file = File::options().write(true).open(at(&format!("{n:016x}"))).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }
    let generations: Vec<_> = scene.seen().laptops.iter().map(|seen| seen.generation).collect();
    assert_eq!(generations, (200..232).collect::<Vec<_>>());
    for n in 1_000..3_000 {
        fs::write(at(&random_text()[..16]), format!("generation {n}\n")).unwrap();
    }
    assert_eq!(scene.seen().laptops, []);
    fs::remove_dir_all(at("")).unwrap();
    symlink(scene.outside("rules"), scene.at(".service_env_seen")).unwrap();
    assert_eq!(scene.seen().laptops, []);
}
