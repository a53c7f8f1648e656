//! The files of a schema: scripts that run, and others on which its code depends.

use std::fs;
use std::io;
use std::path::Path;

use super::package_dir;
use crate::error::{Error, Result};
use crate::mux::lexer::Tokens;
use crate::mux::split::statements;

/// One text that the server runs as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// The file's name, which is part of the schema: a renamed migration may run at another time.
    pub(super) name: String,
    /// What errors call it. Where the directory is doesn't matter to the schema.
    pub(super) place: String,
    pub(super) text: String,
}

impl Script {
    pub(super) fn of_text(text: &str) -> Self {
        Self {
            name: String::new(),
            place: "<Schema::sql>".to_owned(),
            text: text.to_owned(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where in the text the server's position is, which counts characters from 1.
    pub(crate) fn place_of(&self, position: u32) -> String {
        self.place_after(self.text.chars().take(position.saturating_sub(1) as usize))
    }

    /// Where the statement of this number starts, counted from 1.
    pub(crate) fn place_of_statement(&self, number: usize) -> String {
        let text = self.text.as_bytes();
        let start = statements(text, true)
            .get(number - 1)
            .and_then(|statement| {
                let first = Tokens::new(&text[statement.clone()], true).next()?;
                self.text.get(..statement.start + first.start)
            });
        match start {
            Some(before) => format!(
                "{}, in its statement {number}",
                self.place_after(before.chars())
            ),
            // What we don't take for a statement, the server does.
            None => format!("{}, in its statement {number}", self.place),
        }
    }

    fn place_after(&self, before: impl Iterator<Item = char>) -> String {
        let (mut line, mut column) = (1, 1);
        for character in before {
            if character == '\n' {
                (line, column) = (line + 1, 1);
            } else {
                column += 1;
            }
        }
        format!("{}:{line}:{column}", self.place)
    }
}

/// A file that counts, but that somebody else runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    /// The path below the one that was given. Where that is doesn't matter to the schema.
    name: String,
    content: Vec<u8>,
}

impl Watched {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }
}

/// The scripts of a directory, in the order of their names.
pub(super) fn read_dir(path: &Path) -> Result<Vec<Script>> {
    let whole = package_dir()?.join(path);
    let unreadable = |error| {
        Error::new(format!(
            "cannot read the schema's directory {}",
            whole.display()
        ))
        .because(error)
        .help(
            "the path given to Schema::dir is relative to the directory of the package under test",
        )
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(&whole).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let is_script = |name: &str| {
            name.ends_with(".sql") && !name.ends_with(".down.sql") && !name.starts_with('.')
        };
        // The lossy form is only asked whether the file is one of ours; a name that it misrepresents is refused.
        if is_script(&name.to_string_lossy()) && !whole.join(&name).is_dir() {
            names.push(name.into_string().map_err(|name| {
                Error::new(format!(
                    "the name of the schema's file {} is not UTF-8",
                    whole.join(name).display()
                ))
            })?);
        }
    }
    if names.is_empty() {
        return Err(Error::new(format!(
            "the schema's directory {} holds no *.sql file",
            whole.display()
        ))
        .help("subdirectories, hidden files and *.down.sql are not read; for a database without tables use Schema::sql(\"\")"));
    }
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| {
            let place = path.join(&name).display().to_string();
            let text = fs::read_to_string(whole.join(&name)).map_err(|error| {
                Error::new(format!("cannot read the schema's file {place}")).because(error)
            })?;
            // Editors on Windows put a byte order mark at the start, which the server takes for a word.
            let text = match text.strip_prefix('\u{feff}') {
                Some(text) => text.to_owned(),
                None => text,
            };
            Ok(Script { name, place, text })
        })
        .collect()
}

/// A file, or all files below a directory, in the order of their paths.
pub(super) fn watch(path: &Path) -> Result<Vec<Watched>> {
    let whole = package_dir()?.join(path);
    let mut found = Vec::new();
    collect(&whole, "", &mut found).map_err(|error| {
        Error::new(format!(
            "cannot read what the schema depends on, {}",
            whole.display()
        ))
        .because(error)
        .help("the path given to Schema::depends_on is relative to the directory of the package under test")
    })?;
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn collect(path: &Path, name: &str, found: &mut Vec<Watched>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        found.push(Watched {
            name: name.to_owned(),
            content: fs::read(path)?,
        });
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Two names that differ only in what isn't UTF-8 are told apart by what is in the files.
        let own = entry.file_name().to_string_lossy().into_owned();
        if !own.starts_with('.') {
            collect(&entry.path(), &format!("{name}/{own}"), found)?;
        }
    }
    Ok(())
}
