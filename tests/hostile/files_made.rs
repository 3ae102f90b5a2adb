//! Hostile files that are too large, or too odd as bytes, to lie around.

/// Makes the bytes of a file; given the good one.
type Maker = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// One of them.
pub struct Made {
    pub name: &'static str,
    pub bytes: Maker,
    /// A part of what is said of it.
    pub says: &'static str,
}

const MIB: usize = 1 << 20;

fn made(
    name: &'static str,
    says: &'static str,
    bytes: impl Fn(&[u8]) -> Vec<u8> + 'static,
) -> Made {
    Made { name, bytes: Box::new(bytes), says }
}

/// The same bytes whatever the good file is.
fn fixed(name: &'static str, says: &'static str, bytes: impl Into<Vec<u8>>) -> Made {
    let bytes = bytes.into();
    made(name, says, move |_| bytes.clone())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn utf16(good: &[u8], mark: bool, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mark = mark.then_some(0xfeff);
    mark.into_iter().chain(text(good).encode_utf16()).flat_map(order).collect()
}

/// The good file with these bytes in the place of the `h` of `john`.
fn in_john(good: &[u8], bytes: &[u8]) -> Vec<u8> {
    let at = text(good).find("john").unwrap() + 2;
    [&good[..at], bytes, &good[at + 1..]].concat()
}

/// What every reader must refuse as bytes already.
fn encodings() -> Vec<Made> {
    let not_utf8 = "these bytes are not UTF-8";
    vec![
        made("utf16_le_mark", not_utf8, |good| utf16(good, true, u16::to_le_bytes)),
        made("utf16_be_mark", not_utf8, |good| utf16(good, true, u16::to_be_bytes)),
        made("utf16_le", "a NUL byte", |good| utf16(good, false, u16::to_le_bytes)),
        made("utf16_be", "a NUL byte", |good| utf16(good, false, u16::to_be_bytes)),
        made("utf32_le", "a NUL byte", |good| {
            text(good).chars().flat_map(|c| u32::from(c).to_le_bytes()).collect()
        }),
        made("cut_in_a_character", not_utf8, |good| [good, b"# \xf0\x9f\x98"].concat()),
        made("nul_at_the_end", "a NUL byte", |good| [good, b"\0"].concat()),
        fixed("nul_alone", "1:1 error: a NUL byte", vec![0; MIB]),
        fixed("bytes_ff", not_utf8, vec![0xff; MIB]),
        fixed("gzip", not_utf8, b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x4c".to_vec()),
        fixed("elf", "a NUL byte", b"\x7fELF\x02\x01\x01\0\0\0".to_vec()),
    ]
}

fn in_a_name() -> Vec<Made> {
    let not_utf8 = "desired.yaml:3:5 error: these bytes are not UTF-8";
    vec![
        made("latin_1", not_utf8, |good| in_john(good, b"\xe9")),
        made("overlong_slash", not_utf8, |good| in_john(good, b"\xc0\xaf")),
        made("overlong_nul", not_utf8, |good| in_john(good, b"\xc0\x80")),
        made("lone_surrogate", not_utf8, |good| in_john(good, b"\xed\xa0\x80")),
        made("pair_of_surrogates", not_utf8, |good| in_john(good, b"\xed\xa0\xbd\xed\xb8\x80")),
        made("beyond_unicode", not_utf8, |good| in_john(good, b"\xf4\x90\x80\x80")),
        made("nul_in_a_name", "desired.yaml:3:5", |good| in_john(good, b"\0")),
        made("not_a_character", "unexpected character", |good| {
            in_john(good, "\u{ffff}".as_bytes())
        }),
    ]
}

/// `list` is the field with the names.
fn too_much(list: &str) -> Vec<Made> {
    let deep = "nested deeper than 32 levels";
    let users = |body: String| format!("version: 1\n{list}:\n{body}\n");
    vec![
        fixed("mib_70", "at most 67108864 (64 MiB) are read", vec![b'#'; 70 * MIB]),
        fixed("lists", deep, "[".repeat(MIB)),
        fixed("maps", deep, "{".repeat(MIB)),
        fixed("lists_closed", deep, users(format!("  {}{}", "[".repeat(9999), "]".repeat(9999)))),
        fixed("dashes", "", "- ".repeat(MIB / 8)),
        fixed("questions", "", "? ".repeat(MIB / 8)),
        fixed("tags", "", users("! ".repeat(MIB / 8))),
        fixed("a_tag_and_lists", "", format!("# !\n{}", "[".repeat(MIB))),
        fixed("anchors", "", users("&a ".repeat(MIB / 8))),
        fixed("an_anchor", "anchors", users(format!("  &{} a: {{}}", "a".repeat(MIB)))),
        fixed("aliases", "", users(format!("  a: [{}]", "*a, ".repeat(MIB / 8)))),
        fixed("a_name", "", users(format!("  {}: {{}}", "a".repeat(100_000)))),
        fixed("a_quoted_name", "", users(format!("  \"{}\": {{}}", "\\x61".repeat(MIB / 4)))),
        fixed("an_unknown_field", "", users(format!("  a: {{ {}: 1 }}", "b".repeat(100_000)))),
        fixed("a_number", "", format!("version: {}\n{list}: {{}}\n", "1".repeat(MIB))),
        fixed("a_text", "", format!("version: 1\n{list}: |\n{}", "  x\n".repeat(MIB / 8))),
        fixed("quotes", "", "'".repeat(MIB + 1)),
        fixed("colons", "", users(format!("  {}", "a: ".repeat(MIB / 8)))),
        fixed("names_twice", "", users("  a: {}\n".repeat(100_000))),
        fixed("documents", "", "---\n".repeat(MIB / 8)),
        fixed("directives", "", "%A b\n".repeat(MIB / 8)),
        fixed("spaces", "nothing stands here", " ".repeat(MIB)),
        fixed("line_ends", "nothing stands here", "\r".repeat(MIB)),
        fixed("a_line_of_flow", "", format!("version: 1\n{list}: {{{}", "a: {}, ".repeat(MIB / 8))),
        fixed("backslashes", "", format!("\"{}", "\\".repeat(MIB + 1))),
    ]
}

pub fn desired() -> Vec<Made> {
    [encodings(), in_a_name(), too_much("users")].into_iter().flatten().collect()
}

pub fn people() -> Vec<Made> {
    [encodings(), too_much("people")].into_iter().flatten().collect()
}

pub fn registry() -> Vec<Made> {
    let mut all = encodings();
    all.push(fixed("too_large", "is larger than 1 MiB", vec![b'#'; 2 * MIB]));
    all.push(fixed("lists", "", "[".repeat(MIB / 2)));
    all.push(made("a_name", "", |good| {
        text(good).replace("name: CRM", &format!("name: \"{}", "x".repeat(MIB / 2))).into_bytes()
    }));
    all
}
