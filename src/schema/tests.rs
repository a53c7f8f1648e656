use std::fs;

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
    files::read_dir(dir.path()).expect("the scripts")
}

fn steps(schema: &Schema) -> Vec<Step> {
    schema
        .steps()
        .expect("no error")
        .expect("not the existing database")
}

fn error(dir: &TempDir) -> String {
    let error = Schema::dir(dir.path()).steps().expect_err("an error");
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
fn the_existing_database_has_no_steps() {
    assert_eq!(Schema::existing().steps().expect("no error"), None);
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
    let error = Schema::dir("no/such/dir").steps().expect_err("an error");
    assert_eq!(
        format!("{error:?}"),
        format!(
            "cannot read the schema's directory {}/no/such/dir\n  \
            caused by: No such file or directory (os error 2)\n  \
            help: the path given to Schema::dir is relative to the directory of the package under test",
            env!("CARGO_MANIFEST_DIR")
        )
    );
}

#[test]
fn a_directory_without_sql_is_an_error() {
    assert_eq!(
        error(&dir(&[("0001.down.sql", b"")])),
        "the schema's directory DIR holds no *.sql file\n  help: subdirectories, hidden files and *.down.sql are not \
        read; for a database without tables use Schema::sql(\"\")"
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

fn scripted(scripts: &[(&str, &str)]) -> Vec<Step> {
    scripts
        .iter()
        .map(|(name, text)| Step::Script(script(name, text)))
        .collect()
}

fn code(fingerprint: &str) -> Schema {
    Schema::run(fingerprint, async |_| Ok(()))
}

#[test]
fn the_fingerprint_tells_everything_apart_that_matters() {
    let base = scripted(&[("1.sql", "a"), ("2.sql", "b")]);
    let same = fingerprint(&base, "alice");
    assert_eq!(same.len(), 24);
    assert_eq!(same, fingerprint(&base.clone(), "alice"));
    let others = [
        fingerprint(&base, "bob"),
        fingerprint(&base[..1], "alice"),
        fingerprint(&scripted(&[("1.sql", "a"), ("2.sql", "c")]), "alice"),
        fingerprint(&scripted(&[("1.sql", "a"), ("3.sql", "b")]), "alice"),
        fingerprint(&scripted(&[("1.sql", "a2.sql"), ("", "b")]), "alice"),
        fingerprint(&scripted(&[("2.sql", "b"), ("1.sql", "a")]), "alice"),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(*other, same, "variant {index}");
    }
}

#[test]
fn code_is_known_by_its_fingerprint_and_by_the_files_that_it_depends_on() {
    let files = dir(&[("V1__a.sql", b"a"), (".hidden", b"h")]);
    fs::create_dir(files.path().join("below")).expect("a subdirectory");
    let deep = files.path().join("below/V2__b.rs");
    fs::write(&deep, "b").expect("a file");
    let schema = code("1").depends_on(files.path());
    let names = || fingerprint(&steps(&schema), "alice");
    let first = names();

    assert_eq!(first, names());
    assert_ne!(first, fingerprint(&steps(&code("1")), "alice"));
    assert_ne!(
        first,
        fingerprint(&steps(&code("2").depends_on(files.path())), "alice")
    );
    fs::write(&deep, "c").expect("a file");
    let changed = names();
    assert_ne!(first, changed);
    fs::rename(&deep, files.path().join("below/V3__b.rs")).expect("another name");
    assert_ne!(changed, names());
    fs::write(files.path().join(".hidden"), "other").expect("a file");
    fs::remove_file(files.path().join("below/V3__b.rs")).expect("a file");
    fs::remove_dir(files.path().join("below")).expect("an empty directory");
    let one = code("1").depends_on(files.path().join("V1__a.sql"));
    assert_eq!(steps(&one).len(), 2);
    assert_eq!(steps(&schema).len(), 2);
}

#[test]
fn what_code_depends_on_has_to_be_there() {
    let error = code("1")
        .depends_on("no/such")
        .steps()
        .expect_err("an error");
    assert_eq!(
        format!("{error:?}"),
        format!(
            "cannot read what the schema depends on, {}/no/such\n  \
            caused by: No such file or directory (os error 2)\n  \
            help: the path given to Schema::depends_on is relative to the directory of the package under test",
            env!("CARGO_MANIFEST_DIR")
        )
    );
}

#[test]
fn schemas_follow_each_other_in_the_order_that_they_are_written_in() {
    let files = dir(&[("1.sql", b"a")]);
    let schema = Schema::dir(files.path())
        .then(code("1"))
        .then(Schema::sql("b"));
    let kinds: Vec<_> = steps(&schema)
        .into_iter()
        .map(|step| match step {
            Step::Script(script) => script.text().to_owned(),
            Step::Code(code) => format!("code {}", code.fingerprint()),
            Step::Watched(_) => "watched".to_owned(),
        })
        .collect();
    assert_eq!(kinds, ["a", "code 1", "b"]);
}

#[test]
fn the_existing_database_is_not_a_part_of_another_schema() {
    for schema in [
        Schema::existing().then(Schema::sql("a")),
        Schema::sql("a").then(Schema::existing()),
        Schema::existing().depends_on("src"),
    ] {
        let error = schema.steps().expect_err("an error");
        assert_eq!(
            format!("{error:?}"),
            "Schema::existing() was combined with another schema\n  help: make all of it with Schema::dir, sql or run, \
            or write the rows in `set_up`; nothing is ever committed to an existing database"
        );
    }
}

#[test]
fn the_fingerprint_is_the_same_wherever_the_directory_is() {
    let (one, two) = (dir(&[("1.sql", b"a")]), dir(&[("1.sql", b"a")]));
    let [one, two] = [one, two].map(|dir| steps(&Schema::dir(dir.path())));
    assert_ne!(one, two);
    assert_eq!(fingerprint(&one, "alice"), fingerprint(&two, "alice"));
}
