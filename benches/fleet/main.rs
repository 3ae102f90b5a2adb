//! Figures of a fleet: `cargo bench --bench fleet -- [plan|look|click|converge|figures|watch|isolation|clicks|portal|helper] [NUMBER]`; see
//! `benches/README.md`. Each makes what it needs in a scratch directory, and says medians.

mod click;
mod converge;
mod figures;
mod fleet;
mod helper;
mod look;
mod measure;
mod plan;
mod portal;
mod watch;
#[path = "../../tests/support/server.rs"]
mod server;

/// What is asked for.
struct Wish {
    what: Option<String>,
    number: Option<usize>,
}

fn main() {
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let [what, dir] = words.as_slice()
        && what == plan::CHILD
    {
        return plan::measured_alone(dir.as_ref());
    }
    let number = words.iter().find_map(|word| word.parse().ok());
    let what = words.into_iter().find(|word| word.parse::<usize>().is_err());
    let wish = Wish { what, number };
    wish.run("plan", &[2_000, 20_000], plan::run);
    wish.run("look", &[20_000], look::run);
    wish.run("click", &[100, 20_000], click::run);
    wish.run("converge", &[1_250], converge::run);
    wish.run("figures", &[20_000], figures::run);
    wish.run("watch", &[20_000], watch::run);
    wish.run("isolation", &[400], watch::isolation);
    wish.run("clicks", &[1_000], portal::clicks);
    wish.run("portal", &[20_000], portal::run);
    wish.run("helper", &[2_000], helper::run);
}

impl Wish {
    /// Runs the part, if it is asked for, with the number that is asked for or with its own.
    fn run(&self, part: &str, own: &[usize], run: fn(usize)) {
        if self.what.as_deref().is_none_or(|what| what == part) {
            for number in self.number.as_ref().map_or(own, std::slice::from_ref) {
                println!("{part}, {number} users");
                run(*number);
            }
        }
    }
}
