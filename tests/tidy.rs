//! The habits of the house that a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the top down; a file may import from its own layer and those after it.
const LAYERS: [&str; 14] = [
    "main", "gateway", "protocol", "leaf", "broker", "command", "model", "wire", "log", "flash", "fixed",
    "limits", "time", "units",
];
/// Layers below which nothing may name `std`.
const STD_LAYERS: [&str; 3] = ["main", "gateway", "protocol"];
/// Files of the core that exist with std only.
const STD_FILES: [&str; 12] = [
    "flash/file.rs",
    "flash/file/disk.rs",
    "flash/file/open.rs",
    "flash/file/tests.rs",
    "flash/image.rs",
    "flash/fault.rs",
    "flash/fault/device.rs",
    "flash/fault/journal.rs",
    "flash/fault/medium.rs",
    "flash/fault/random.rs",
    "flash/fault/tape.rs",
    "flash/fault/tear.rs",
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn each_source(mut visit: impl FnMut(&str, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 40, "the sources were found");
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        visit(&name, &fs::read_to_string(&file).unwrap());
    }
}

/// Everything before the unit tests, which stand at the end of a file.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

fn layer(file: &str) -> Option<usize> {
    let first = file.split(['/', '.']).next().unwrap();
    LAYERS.iter().position(|layer| *layer == first)
}

#[test]
fn imports_only_point_down_the_layers() {
    let mut wrong = Vec::new();
    each_source(|file, text| {
        let Some(own) = layer(file) else { return };
        for line in product(text).lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                match LAYERS.iter().position(|layer| *layer == name) {
                    Some(used) if used < own => wrong.push(format!("{file} imports {name}: {}", line.trim())),
                    _ => {}
                }
            }
        }
    });
    // The kinds of command are words of the model's tables too; see `command`.
    wrong.retain(|line| !(line.starts_with("model/") && line.contains("imports command")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn protocol_and_broker_meet_only_at_command() {
    each_source(|file, text| {
        if file.starts_with("protocol/") {
            assert!(!product(text).contains("crate::broker"), "{file}");
        }
    });
}

#[test]
fn the_core_names_no_std() {
    each_source(|file, text| {
        let top = file.split(['/', '.']).next().unwrap();
        if STD_LAYERS.contains(&top) || STD_FILES.contains(&file) || file == "lib.rs" {
            return;
        }
        for line in product(text).lines() {
            let code = line.split("//").next().unwrap();
            assert!(!code.contains("std::"), "{file}: {line}");
        }
    });
}

#[test]
fn files_and_functions_fit_a_head() {
    let mut wrong = Vec::new();
    each_source(|file, text| {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            wrong.push(format!("{file} has {} lines", lines.len()));
        }
        let mut open: Option<(usize, &str)> = None;
        for (number, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let begins = line.trim_start().split('(').next().unwrap().split(' ').any(|word| word == "fn");
            match open {
                None if begins && !line.trim_end().ends_with(';') && !line.contains("//") => {
                    open = Some((number, indent));
                }
                Some((start, own)) if *line == format!("{own}}}") => {
                    if number - start > FUNCTION_LINES_MAX {
                        wrong.push(format!("{file}:{} is a function of {} lines", start + 1, number - start));
                    }
                    open = None;
                }
                Some((start, _)) if number == start && line.trim_end().ends_with('}') => open = None,
                _ => {}
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_begins_with_a_header() {
    each_source(|file, text| assert!(text.starts_with("//! "), "{file} does not say what it is"));
}

#[test]
fn nothing_unfinished_is_left() {
    each_source(|file, text| {
        for mark in ["todo!", "unimplemented!", "FIXME", "TODO", "XXX", "dbg!"] {
            assert!(!text.contains(mark), "{file}: {mark}");
        }
    });
}
