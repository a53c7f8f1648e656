//! Habits of this repository that no other tool looks after. It reads what isn't in the published package.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in its helpers too"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// All text files of these kinds, by their path from the root.
fn files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root().join(&folder)).unwrap();
        for entry in entries.map(|entry| entry.unwrap()) {
            let path = folder.join(entry.file_name());
            let is_folder = entry.file_type().unwrap().is_dir();
            if is_folder && entry.file_name() != "target" && entry.file_name() != ".git" {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|&wanted| extension == wanted))
                && !is_folder
            {
                let text = fs::read_to_string(root().join(&path)).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(!files.is_empty(), "{extensions:?}");
    files.sort();
    files
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with what is wrong, a line each.
#[track_caller]
fn assert_none(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn no_line_ends_with_white_space_and_each_file_with_one_line_break() {
    let mut wrong = Vec::new();
    for (path, text) in files(&["rs", "md", "toml", "sql", "yml", "py"]) {
        for (number, line) in (1..).zip(text.lines()) {
            if line.ends_with(char::is_whitespace) || line.contains('\t') {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            wrong.push(format!("{}, at its end", path.display()));
        }
    }
    assert_none("white space", &wrong);
}

#[test]
fn prose_fits_its_page() {
    const WIDTH: usize = 135;
    let mut wrong = Vec::new();
    for (path, text) in files(&["rs", "md"]) {
        let markdown = path.extension().unwrap() == "md";
        for (number, line) in (1..).zip(text.lines()) {
            let prose = markdown && !line.starts_with('|') || line.trim_start().starts_with("//");
            if prose && line.chars().count() > WIDTH {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert_none("lines too long to read", &wrong);
}

/// One file has one concept, which rarely takes so much to say.
#[test]
fn files_that_have_grown_long_are_known() {
    const LIMIT: usize = 600;
    const KNOWN: [&str; 1] = ["src/cluster/tests.rs"];
    let mut wrong = Vec::new();
    for (path, text) in files(&["rs"]) {
        let path = path.to_str().unwrap();
        let lines = text.lines().count();
        if lines > LIMIT && !KNOWN.contains(&path) {
            wrong.push(format!("{path} has {lines} lines"));
        }
    }
    assert_none("split these, or list them here", &wrong);
}

/// A file that no module names is dead, and looks alive.
#[test]
fn every_source_file_is_part_of_a_module() {
    let sources = files(&["rs"]);
    let mut wrong = Vec::new();
    for (path, _) in &sources {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap();
        let of_cargo = ["examples", "benches", "tests", "fuzz/fuzz_targets"]
            .map(Path::new)
            .contains(&folder)
            || folder.ends_with("src/bin");
        let data = path.starts_with("tests/data") || path.starts_with("tests/it/live/syntax");
        if of_cargo || data || ["main", "lib"].contains(&name) {
            continue;
        }
        let (name, parents) = match name {
            "mod" => (
                folder.file_name().unwrap().to_str().unwrap(),
                folder.parent(),
            ),
            name => (name, Some(folder)),
        };
        let declared = format!("mod {name};");
        let by_path = format!("{name}.rs\"]");
        let by_folder = format!("{name}/mod.rs\"]");
        let known = sources.iter().any(|(other, text)| {
            let near =
                other.parent() == parents || other.with_extension("").as_path() == parents.unwrap();
            near && text.contains(&declared) || text.contains(&by_path) || text.contains(&by_folder)
        });
        if !known {
            wrong.push(path.display().to_string());
        }
    }
    assert_none("no `mod` for", &wrong);
}

#[test]
fn links_lead_to_files_that_are_there() {
    let mut wrong = Vec::new();
    for (path, text) in files(&["md"]) {
        let folder = root().join(path.parent().unwrap());
        for link in text.split("](").skip(1) {
            let link = link.split([')', ' ']).next().unwrap();
            let file = link.split('#').next().unwrap();
            let elsewhere = link.contains("://") || link.contains("::") || file.is_empty();
            if !elsewhere && !folder.join(file).exists() {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert_none("dead links", &wrong);
}

/// Code that isn't run where it stands: the text, what its fence says, how many such blocks there are, and where they are
/// run. The first steps of the guide are hidden lines of its last one.
const EXCERPTS: [(&str, &str, usize, &str); 5] = [
    ("README.md", "rust", 1, "examples/todo/live.rs"),
    (
        "src/guide/first_suite.md",
        "no_run",
        2,
        "src/guide/first_suite.md",
    ),
    (
        "src/guide/other_pools.md",
        "ignore",
        4,
        "clients/tests/it/apps.rs",
    ),
    (
        "src/guide/from_sqlx_test.md",
        "ignore",
        1,
        "clients/tests/it/guide/from_sqlx_test.rs",
    ),
    (
        "src/guide/from_zero_to_production.md",
        "ignore",
        1,
        "clients/tests/it/guide/from_zero_to_production.rs",
    ),
];

#[test]
fn code_that_is_not_run_is_an_excerpt_of_code_that_is() {
    for (text, fence, expected, source) in EXCERPTS {
        let tested = read(source);
        let (_, tested) = tested
            .split_once("```test_harness\n")
            .unwrap_or(("", &tested));
        let prose = read(text);
        let blocks = blocks(&prose)
            .into_iter()
            .filter(|block| block.fence == fence);
        let mut seen = 0;
        for block in blocks.take(expected) {
            seen += 1;
            let mut lines = tested
                .lines()
                .map(|line| line.trim_start_matches("# ").trim());
            // An excerpt imports less.
            let says = |line: &&str| {
                !line.is_empty() && !line.starts_with("# ") && !line.starts_with("use ")
            };
            for line in block.lines.into_iter().filter(says) {
                let found = lines.any(|other| other == line);
                assert!(found, "{text}: not in {source}, or not there: {line}");
            }
        }
        assert_eq!(seen, expected, "{text}");
    }
}

/// Or is where it comes from, which is another crate's.
#[test]
fn code_of_the_guide_is_run() {
    let mut wrong = Vec::new();
    let mut run = 0;
    for (path, text) in files(&["md"]) {
        if !path.starts_with("src/guide") {
            continue;
        }
        for block in blocks(&text) {
            let not_run = block.fence.contains("no_run") || block.fence.contains("ignore");
            let excerpt = EXCERPTS
                .iter()
                .any(|&(text, fence, ..)| path == Path::new(text) && block.fence == fence);
            let before = block.heading == "Before" && block.fence.starts_with("ignore (");
            run += usize::from(block.fence == "test_harness");
            if not_run && !excerpt && !before {
                wrong.push(format!("{}: {}", path.display(), block.heading));
            }
        }
    }
    assert!(run > 5, "{run}");
    assert_none("neither run nor listed as an excerpt", &wrong);
}

/// What is fenced in a text: below which heading, as what, and its lines.
struct Block<'a> {
    heading: &'a str,
    fence: &'a str,
    lines: Vec<&'a str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut heading = "";
    let mut open: Option<Block<'_>> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(fence), None) => {
                let lines = Vec::new();
                open = Some(Block {
                    heading,
                    fence,
                    lines,
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.lines.push(line.trim()),
            (None, None) => heading = line.strip_prefix("# ").unwrap_or(heading),
        }
    }
    blocks
}

#[test]
fn every_example_is_tested_and_has_its_line_in_the_readme() {
    let manifest = read("Cargo.toml");
    let readme = read("README.md");
    let mut wrong = Vec::new();
    let mut folders = 0;
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().into_string().unwrap();
        let name = file.trim_end_matches(".rs");
        if name == "parts" {
            continue;
        }
        folders += 1;
        if !readme.contains(&format!("\n* [`{name}`](examples/{file})")) {
            wrong.push(format!("README.md doesn't list {name}"));
        }
        let of_its_own = entry.path().join("Cargo.toml").exists();
        let target = manifest.split("[[").find(|target| {
            target.starts_with("example]]") && target.contains(&format!("\"{name}\""))
        });
        if !of_its_own && !target.is_some_and(|target| target.contains("test = true")) {
            wrong.push(format!("Cargo.toml doesn't test {name}"));
        }
    }
    assert!(folders > 5, "{folders}");
    assert_none("examples", &wrong);
}

#[test]
fn postgresql_is_looked_for_in_the_same_places_by_the_script_and_by_the_tests() {
    let source = read("src/cluster/find.rs");
    let (_, list) = source.split_once("const USUAL: ").unwrap();
    let (list, _) = list.split_once("];").unwrap();
    let by_tests = list.split('"').skip(1).step_by(2);
    let script = read("scripts/setup");
    let by_script = script.lines().filter_map(|line| {
        let place = line.strip_prefix("        /")?;
        place.split([' ', ';']).next()
    });
    let by_tests: Vec<_> = by_tests.collect();
    assert!(by_tests.len() > 5, "{by_tests:?}");
    assert_eq!(by_tests, by_script.collect::<Vec<_>>());
}

#[test]
fn every_setting_is_in_the_table() {
    let text = read("src/config.rs");
    let table: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("/// |"))
        .collect();
    let settings = text.lines().filter_map(|line| {
        let name = line.strip_prefix("    pub fn ")?;
        name.split(['(', '<']).next().filter(|&name| name != "new")
    });
    let wrong: Vec<_> = settings
        .filter(|name| {
            let link = format!("[`{name}`](Self::{name})");
            !table.iter().any(|row| row.contains(&link))
        })
        .map(str::to_owned)
        .collect();
    assert!(table.len() > 10, "{table:?}");
    assert_none("the table of Config doesn't list", &wrong);
}

/// As the event and the cause do, on whose lines it stands.
#[test]
fn the_help_of_an_error_begins_in_lower_case() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in files(&["rs"]) {
        if !path.starts_with("src") {
            continue;
        }
        for help in text.split(".help(").skip(1) {
            let literal = ["format!(", "concat!("]
                .iter()
                .fold(help.trim_start(), |help, name| {
                    help.trim_start_matches(name).trim_start()
                });
            let Some(words) = literal.strip_prefix('"') else {
                continue;
            };
            seen += 1;
            let mut letters = words.chars();
            // Several capitals are a name of SQL's or of the environment's.
            if letters.next().is_some_and(char::is_uppercase)
                && !letters.next().is_some_and(char::is_uppercase)
            {
                let words = words.lines().next().unwrap_or_default();
                wrong.push(format!("{}: {words}", path.display()));
            }
        }
    }
    assert!(seen > 10, "{seen}");
    assert_none("these begin with a capital", &wrong);
}

#[test]
fn the_changelog_keeps_its_shape() {
    const KINDS: [&str; 6] = [
        "Added",
        "Changed",
        "Deprecated",
        "Fixed",
        "Removed",
        "Security",
    ];
    let text = read("CHANGELOG.md");
    let (head, versions) = text.split_once("\n## ").unwrap();
    assert!(head.starts_with("# Changelog\n"));
    for (number, version) in versions.split("\n## ").enumerate() {
        let (title, body) = version.split_once('\n').unwrap();
        if number == 0 {
            assert_eq!(title, "[Unreleased]");
        } else {
            let (version, date) = title.split_once(" - ").unwrap();
            assert!(
                version.starts_with('[') && version.ends_with(']'),
                "{title}"
            );
            assert_eq!(date.len(), "2026-01-31".len(), "{title}");
        }
        for section in body.split("\n### ").skip(1) {
            let (kind, entries) = section.split_once('\n').unwrap();
            assert!(KINDS.contains(&kind), "{kind}");
            for entry in entries.trim().split("\n- ") {
                assert!(entry.ends_with('.'), "no full stop at the end of: {entry}");
                let lines = entry.lines().skip(1);
                assert!(
                    lines.into_iter().all(|line| line.starts_with("  ")),
                    "{entry}"
                );
            }
        }
    }
}

#[test]
fn versions_are_the_same_everywhere() {
    let manifest = read("Cargo.toml");
    let value = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim_matches([' ', '=', '"']).to_owned()
    };
    let (version, rust) = (value("version"), value("rust-version"));
    let (compatible, _) = version.rsplit_once('.').unwrap();
    let readme = read("README.md");
    assert!(readme.contains(&format!("\nactix-shareddb = \"{compatible}\"\n")));
    assert!(readme.contains(&format!("Rust {rust} or newer")));
    let workflow = read(".github/workflows/ci.yml");
    assert!(workflow.contains(&format!("rust: [stable, \"{rust}\"]")));
    for package in ["clients", "examples/guestbook"] {
        let manifest = read(&format!("{package}/Cargo.toml"));
        assert!(
            manifest.contains(&format!("rust-version = \"{rust}\"")),
            "{package}"
        );
    }
}

#[test]
fn contributing_is_short_enough_to_be_read() {
    let lines = read("CONTRIBUTING.md").lines().count();
    assert!(lines <= 80, "{lines}");
}
