//! Where the shared secrets are found.

use std::path::Path;

use service_connector::exchange::{Exchange, Secrets};
use service_connector::model::name::EnvName;

fn name(text: &str) -> EnvName {
    text.parse().unwrap()
}

fn there(secrets: Secrets, names: &[EnvName]) -> Vec<bool> {
    let exchange = Exchange::new(secrets);
    names.iter().map(|name| exchange.lacks_secret(name).is_none()).collect()
}

#[test]
fn a_directory_holds_one_secret_per_file() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], bool); 10] = [
        ("A_PLAIN", b"abc", true),
        ("A_LINE", b"abc\n", true),
        ("A_DOS_LINE", b"abc\r\n", true),
        ("A_LONGEST", &[b'x'; 4096], true),
        ("A_TOO_LONG", &[b'x'; 4097], false),
        ("A_TWO_LINES", b"abc\n\n", false),
        ("A_SPACE", b"ab c", false),
        ("A_EMPTY", b"", false),
        ("A_ONLY_A_LINE_END", b"\n", false),
        ("A_BINARY", b"ab\xff\x00", false),
    ];
    for (file, bytes, expected) in cases {
        std::fs::write(dir.path().join(file), bytes).unwrap();
        let names = [name(file)];
        assert_eq!(there(Secrets::from_dir(dir.path(), &names), &names), [expected], "{file}");
    }
    let names = [name("A_MISSING")];
    assert_eq!(there(Secrets::from_dir(dir.path(), &names), &names), [false]);
    assert_eq!(there(Secrets::from_dir(Path::new("/nowhere"), &names), &names), [false]);
}

#[test]
fn the_directory_goes_before_the_environment() {
    // Set by cargo for every test, and printable.
    let names = [name("CARGO_PKG_NAME"), name("CARGO_PKG_VERSION"), name("NOT_SET_ANYWHERE")];
    assert_eq!(there(Secrets::from_env(&names), &names), [true, true, false]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("CARGO_PKG_NAME")).unwrap();
    let both = Secrets::from_dir_or_env(Some(dir.path()), &names);
    // A file that cannot be read hides the variable.
    assert_eq!(there(both, &names), [false, true, false]);
    assert_eq!(there(Secrets::from_dir_or_env(None, &names), &names), [true, true, false]);
}
