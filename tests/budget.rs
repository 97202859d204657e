//! Budgets that are easily overrun without anybody noticing.

/// Each package is somebody else's code that runs as the operator. Raise this on purpose, with a reason in the commit.
const PACKAGES: usize = 275;

#[test]
fn the_lock_file_stays_within_its_budget() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let packages = lock.lines().filter(|line| *line == "[[package]]").count();
    assert!(packages <= PACKAGES, "{packages} packages in Cargo.lock, and at most {PACKAGES} were meant to be");
}

/// Programs go by the codes, so each is told of.
#[test]
fn every_code_of_a_problem_is_documented() {
    let api = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md")).unwrap();
    for code in brig_core::problem::Code::ALL {
        assert!(api.contains(&format!("`{code}`")), "docs/api.md does not say what `{code}` means");
    }
}

/// A module that is not named in `main.rs` would pass by never running.
#[test]
fn every_area_is_in_the_one_binary() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let main = std::fs::read_to_string(format!("{folder}/main.rs")).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            assert!(main.contains(&format!("mod {module};")), "tests/{name} is in no binary");
        }
    }
}
