//! The fuzz targets on what the transcripts hold, and on what they have found before.
//!
//! With `FUZZ_SEEDS`, a folder, what is taken from the transcripts is written there as well, for the fuzzer to begin with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::super::message::Message;
use super::super::tests::model::record::encode;
use super::super::tests::{backend_message, frontend_message, words};
use super::*;
use crate::mux::split::tests::cases;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).expect("it is part of the repository");
    let mut files: Vec<_> = files
        .map(|file| file.expect("it can be read").path())
        .collect();
    files.sort();
    files
}

/// What each side of each transcript's conversations sends.
fn conversations() -> Vec<(String, Vec<Message>)> {
    let mut all = Vec::new();
    for path in files(&folder("traces")) {
        let text = fs::read_to_string(&path).expect("a transcript is text");
        let name = path.file_stem().expect("it has a name").to_string_lossy();
        let mut sides: BTreeMap<String, Vec<Message>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let words = words(line);
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            match &words[..] {
                ["pg", "B", message @ ..] => {
                    let side = sides.entry("pg".to_owned()).or_default();
                    side.push(backend_message(message));
                }
                ["pg", ..] => {}
                [session, "F", message @ ..] => {
                    let side = sides.entry((*session).to_owned()).or_default();
                    side.push(frontend_message(message));
                }
                _ => {}
            }
        }
        all.extend(
            sides
                .into_iter()
                .map(|(side, sent)| (format!("{name}.{side}"), sent)),
        );
    }
    all
}

fn seed(target: &str, name: &str, data: &[u8]) {
    if let Some(folder) = env::var_os("FUZZ_SEEDS") {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::write(folder.join(name), data).expect("a file can be written");
    }
}

#[test]
fn a_stranger_with_the_manners_of_the_transcripts_disturbs_nobody() {
    for (name, sent) in conversations() {
        let Some(session) = name.strip_suffix(".pg") else {
            for order in 0..10 {
                frontend(&encode(&stranger::TAGS, order, &sent));
            }
            seed("frontend", &name, &encode(&stranger::TAGS, 0, &sent));
            continue;
        };
        for order in 0..10 {
            backend(&encode(&forger::TAGS, order, &sent));
        }
        seed("backend", session, &encode(&forger::TAGS, 0, &sent));
    }
}

#[test]
fn texts_of_all_sorts_are_cut_into_tokens_and_statements() {
    let mut texts: Vec<_> = cases::SPLIT
        .iter()
        .map(|(text, _)| text.as_bytes().to_vec())
        .collect();
    for (_, sent) in conversations() {
        texts.extend(sent.iter().filter_map(|message| {
            let mut fields = message.fields();
            match message.tag() {
                b'Q' => fields.string(),
                b'P' => fields.string().and_then(|_| fields.string()),
                _ => None,
            }
            .map(|text| text.to_vec())
        }));
    }
    for (number, text) in texts.iter().enumerate() {
        for scs in [0, 1] {
            let data = [&[scs], &text[..]].concat();
            sql(&data);
            seed("sql", &format!("{number}_{scs}"), &data);
        }
        seed("oracle", &number.to_string(), text);
    }
}

#[test]
fn what_was_found_before_is_mended() {
    for path in files(&folder("data/found")) {
        let data = fs::read(&path).expect("it can be read");
        let name = path
            .file_name()
            .expect("it has a name")
            .to_string_lossy()
            .into_owned();
        match name.split('_').next() {
            Some("frontend") => frontend(&data),
            Some("backend") => backend(&data),
            Some("sql") => sql(&data),
            Some("startup") => crate::socket::fuzzing::startup(&data),
            _ => panic!("no target is named by {name}"),
        }
    }
}
