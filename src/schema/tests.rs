use tempfile::TempDir;

use super::*;

fn dir(files: &[(&str, &[u8])]) -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("a file in it");
    }
    dir
}

fn scripts(dir: &TempDir) -> Vec<Script> {
    Schema::dir(dir.path())
        .scripts()
        .expect("the scripts")
        .expect("not the existing database")
}

fn error(dir: &TempDir) -> String {
    let error = Schema::dir(dir.path()).scripts().expect_err("an error");
    format!("{error:?}").replace(&dir.path().display().to_string(), "DIR")
}

fn script(name: &str, text: &str) -> Script {
    Script {
        name: name.to_owned(),
        place: format!("anywhere/{name}"),
        text: text.to_owned(),
    }
}

#[test]
fn the_existing_database_has_no_scripts() {
    assert_eq!(Schema::existing().scripts().expect("no error"), None);
}

#[test]
fn a_directory_gives_its_sql_files_in_the_order_of_their_names() {
    let dir = dir(&[
        ("9.sql", b"9"),
        ("10.sql", b"10"),
        ("0002_todo.up.sql", b"up"),
        ("0002_todo.down.sql", b"down"),
        ("README.md", b"no"),
        (".#10.sql", b"an editor's"),
    ]);
    fs::create_dir(dir.path().join("old.sql")).expect("a subdirectory");
    let texts: Vec<_> = scripts(&dir)
        .into_iter()
        .map(|script| script.text)
        .collect();
    assert_eq!(texts, ["up", "10", "9"]);
}

#[test]
fn a_relative_directory_is_one_of_the_package() {
    let error = Schema::dir("no/such/dir").scripts().expect_err("an error");
    assert_eq!(
        format!("{error:?}"),
        format!(
            "cannot read the schema's directory {}/no/such/dir\n  \
            caused by: No such file or directory (os error 2)\n  \
            help: The path given to Schema::dir is relative to the directory of the package under test.",
            env!("CARGO_MANIFEST_DIR")
        )
    );
}

#[test]
fn a_directory_without_sql_is_an_error() {
    assert_eq!(
        error(&dir(&[("0001.down.sql", b"")])),
        "the schema's directory DIR holds no *.sql file\n  help: Subdirectories, hidden files and *.down.sql are not \
        read. For a database without tables use Schema::sql(\"\")."
    );
}

#[test]
fn a_file_that_is_not_utf_8_is_an_error_that_names_it() {
    assert_eq!(
        error(&dir(&[("1.sql", b"SELECT '\xff'")])),
        "cannot read the schema's file DIR/1.sql\n  caused by: stream did not contain valid UTF-8"
    );
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_an_error_that_names_it() {
    let dir = dir(&[]);
    std::os::unix::fs::symlink("nowhere", dir.path().join("1.sql")).expect("a broken link");
    assert_eq!(
        error(&dir),
        "cannot read the schema's file DIR/1.sql\n  caused by: No such file or directory (os error 2)"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf_8_is_an_error() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let dir = dir(&[]);
    fs::write(dir.path().join(OsStr::from_bytes(b"\xff.sql")), "").expect("a file");
    assert_eq!(
        error(&dir),
        "the name of the schema's file DIR/\u{fffd}.sql is not UTF-8"
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_script() {
    assert_eq!(
        scripts(&dir(&[("1.sql", b"\xef\xbb\xbfSELECT 1")]))[0].text(),
        "SELECT 1"
    );
}

#[test]
fn positions_are_counted_in_characters() {
    let script = script("1.sql", "SELECT 'ä',\r\n  'ö', x\nFROM t");
    for (position, expected) in [
        (1, "anywhere/1.sql:1:1"),
        (9, "anywhere/1.sql:1:9"),
        (10, "anywhere/1.sql:1:10"),
        (14, "anywhere/1.sql:2:1"),
        (21, "anywhere/1.sql:2:8"),
        (23, "anywhere/1.sql:3:1"),
        (28, "anywhere/1.sql:3:6"),
    ] {
        assert_eq!(script.place_of(position), expected);
    }
}

#[test]
fn the_fingerprint_tells_everything_apart_that_matters() {
    let base = [script("1.sql", "a"), script("2.sql", "b")];
    let same = fingerprint(&base, "alice");
    assert_eq!(same.len(), 24);
    assert_eq!(same, fingerprint(&base.clone(), "alice"));
    let others = [
        fingerprint(&base, "bob"),
        fingerprint(&base[..1], "alice"),
        fingerprint(&[script("1.sql", "a"), script("2.sql", "c")], "alice"),
        fingerprint(&[script("1.sql", "a"), script("3.sql", "b")], "alice"),
        fingerprint(&[script("1.sql", "a2.sql"), script("", "b")], "alice"),
        fingerprint(&[script("2.sql", "b"), script("1.sql", "a")], "alice"),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, same, "variant {index}");
    }
}

#[test]
fn the_fingerprint_is_the_same_wherever_the_directory_is() {
    let (one, two) = (dir(&[("1.sql", b"a")]), dir(&[("1.sql", b"a")]));
    assert_ne!(scripts(&one), scripts(&two));
    assert_eq!(
        fingerprint(&scripts(&one), "alice"),
        fingerprint(&scripts(&two), "alice")
    );
}
