//! The headings of the FAQ are the errors' own words.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| sources(folder)))
        .collect()
}

#[test]
fn an_error_is_titled_by_its_own_words() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code: String = sources(&folder)
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let faq = fs::read_to_string(folder.join("faq.md")).unwrap();
    let (_, ours) = faq.split_once("# Errors of this crate").unwrap();
    let (ours, _) = ours.split_once("# Errors of PostgreSQL").unwrap();
    let titles: Vec<_> = ours
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'))
        .collect();
    assert!(titles.len() > 5, "{titles:?}");
    for title in titles {
        assert!(code.contains(title), "no error says: {title}");
    }
}
