//! Builds `brig-init`, the PID 1 of every sandbox, as a static program, so that `brig` can carry it inside.
//!
//! It calls `rustc` itself rather than a second `cargo`: a nested cargo would wait for the lock of the target directory
//! that the outer one holds, or want a second one, and would take over flags which are meant for `brig`. The crate has
//! no dependencies, so that two calls do it: one for its library and one for its program.
//!
//! It sets `BRIG_INIT_PATH`, for `include_bytes!(env!("BRIG_INIT_PATH"))`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// More than this means that something crept in.
const LARGEST: u64 = 1_500_000;

fn main() {
    match build() {
        Ok(init) => println!("cargo::rustc-env=BRIG_INIT_PATH={}", init.display()),
        Err(reason) => {
            for line in reason.lines() {
                println!("cargo::error={line}");
            }
            exit(1);
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let sources = Path::new("crates/brig-init/src");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", sources.display());
    let target = variable("TARGET")?;
    refuse_other_systems(&target)?;
    let out = PathBuf::from(variable("OUT_DIR")?);

    let library = out.join("libbrig_init.rlib");
    rustc(&target, "rlib", &sources.join("lib.rs"), &library, &[])?;
    let init = out.join("brig-init");
    let with_library: [&OsStr; 7] = [
        OsStr::new("--extern"),
        &joined("brig_init=", &library),
        // Link-time optimisation across the standard library: half of the size.
        OsStr::new("-Clto=fat"),
        OsStr::new("-Cpanic=abort"),
        OsStr::new("-Cstrip=symbols"),
        // No interpreter, no libraries: it has to run in every image, or in none.
        OsStr::new("-Ctarget-feature=+crt-static"),
        // A fixed address, which saves the relocations. Nothing that a sandbox sends is parsed here.
        OsStr::new("-Crelocation-model=static"),
    ];
    rustc(&target, "bin", &sources.join("main.rs"), &init, &with_library)?;

    let size = std::fs::metadata(&init).map_err(|error| format!("{}: {error}", init.display()))?.len();
    if size > LARGEST {
        return Err(format!("brig-init has become {size} bytes, which is more than {LARGEST}"));
    }
    Ok(init)
}

fn rustc(target: &str, kind: &str, source: &Path, output: &Path, more: &[&OsStr]) -> Result<(), String> {
    let mut command = Command::new(variable("RUSTC")?);
    command
        .args(["--edition=2024", "--crate-name=brig_init", "-Copt-level=s", "-Ccodegen-units=1"])
        .args(["--crate-type", kind, "--target", target, "--cap-lints=allow"])
        .arg("-o")
        .arg(output)
        .arg(source)
        .args(more)
        // They are for brig itself; rustc does not read them, but a wrapper in its place might.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        command.arg(joined("-Clinker=", Path::new(&linker)));
    }
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "brig-init, which runs inside of every sandbox, could not be built as a static program for {target}.\n\
         If the linker did not find `-lc`, install libc's static library: `libc6-dev` on Debian and Ubuntu, \
         `glibc-static` on Fedora.\n\
         If rustc did not find `std`, install the target: `rustup target add {target}`.\n{said}"
    ))
}

fn refuse_other_systems(target: &str) -> Result<(), String> {
    let system = variable("CARGO_CFG_TARGET_OS")?;
    let processor = variable("CARGO_CFG_TARGET_ARCH")?;
    if system == "linux" && matches!(processor.as_str(), "x86_64" | "aarch64") {
        return Ok(());
    }
    Err(format!("brig runs on Linux on x86_64 and aarch64; {target} is neither"))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}

fn joined(prefix: &str, path: &Path) -> OsString {
    let mut whole = OsString::from(prefix);
    whole.push(path);
    whole
}
