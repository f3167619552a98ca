//! A notebook's file: what of it is code.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::inside::{UnreadFile, read};
use crate::client::shown::{first_bytes, shortened};

/// Largest notebook that is read, in bytes.
const MAX_SIZE: u64 = 256 << 20;
/// Most bytes of a cell's ID: it goes into logs and events. The notebook format allows 64 characters.
const MAX_ID: usize = 256;
/// Most bytes of what is wrong with a notebook.
const MAX_REASON: usize = 512;

/// The code of a notebook.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Notebook {
    /// Its code cells, in order.
    pub(crate) cells: Vec<Cell>,
}

/// A cell with code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Its ID, or else its number among the code cells, from 1.
    pub(crate) id: String,
    /// Its number among the code cells, from 1.
    pub(crate) number: usize,
    /// What is to be run, as it is.
    pub(crate) code: String,
}

/// Why a notebook cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotebookError {
    #[error("{0}")]
    File(#[from] UnreadFile),
    #[error("{0}")]
    Unread(io::Error),
    #[error("{0}")]
    Json(String),
    #[error("code cell {number} has no source that is a text or a list of texts")]
    Source { number: usize },
}

#[derive(Deserialize)]
struct Document {
    cells: Vec<WrittenCell>,
}

#[derive(Deserialize)]
struct WrittenCell {
    cell_type: String,
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    source: Option<Value>,
}

impl Notebook {
    /// Reads a file below `root`. Blocks.
    pub(super) fn read(root: &Path, file: &Path) -> Result<Self, NotebookError> {
        Self::of(read_json(root, file)?)
    }

    /// Reads a file's content.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotebookError> {
        Self::of(parse_json(bytes)?)
    }

    fn of(document: Document) -> Result<Self, NotebookError> {
        let written = document.cells.into_iter().filter(|cell| cell.cell_type == "code");
        let cells = written.enumerate().map(|(index, cell)| {
            let number = index + 1;
            let code = cell.source.and_then(joined).ok_or(NotebookError::Source { number })?;
            let id = match cell.id {
                Some(Value::String(id)) if !id.is_empty() => id,
                Some(Value::Number(id)) => id.to_string(),
                _ => number.to_string(),
            };
            let id = first_bytes(&id, MAX_ID).to_owned();
            Ok(Cell { id, number, code })
        });
        Ok(Self {
            cells: cells.collect::<Result<_, NotebookError>>()?,
        })
    }
}

fn joined(source: Value) -> Option<String> {
    match source {
        Value::String(text) => Some(text),
        Value::Array(lines) => lines.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Reads the JSON of a notebook. What a notebook shows may hold numbers that only Python's JSON has.
pub(super) fn read_json<T: DeserializeOwned>(root: &Path, file: &Path) -> Result<T, NotebookError> {
    parse_json(&read(root, file, MAX_SIZE)?)
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NotebookError> {
    let error = match serde_json::from_slice(bytes) {
        Ok(read) => return Ok(read),
        Err(error) => error,
    };
    match without_python_numbers(bytes) {
        Cow::Owned(bytes) => serde_json::from_slice(&bytes).map_err(|error| malformed(&error)),
        Cow::Borrowed(_) => Err(malformed(&error)),
    }
}

/// Says what is wrong; the error repeats texts of the notebook, which may be as long as the notebook.
fn malformed(error: &serde_json::Error) -> NotebookError {
    NotebookError::Json(shortened(&error.to_string(), MAX_REASON).into_owned())
}

/// Puts null in the place of `NaN`, `Infinity` and `-Infinity` outside of texts.
fn without_python_numbers(json: &[u8]) -> Cow<'_, [u8]> {
    let mut changed = Vec::new();
    // Up to where `changed` has everything.
    let (mut done, mut at) = (0, 0);
    let mut is_in_text = false;
    while at < json.len() {
        let number = [&b"-Infinity"[..], b"Infinity", b"NaN"]
            .into_iter()
            .find(|number| !is_in_text && json[at..].starts_with(number));
        if let Some(number) = number {
            changed.extend_from_slice(&json[done..at]);
            changed.extend_from_slice(b"null");
            at += number.len();
            done = at;
            continue;
        }
        match json[at] {
            b'\\' if is_in_text => at += 1,
            b'"' => is_in_text = !is_in_text,
            _ => {}
        }
        at += 1;
    }
    if done == 0 {
        return Cow::Borrowed(json);
    }
    changed.extend_from_slice(&json[done..]);
    Cow::Owned(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Notebook, NotebookError> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("x.ipynb");
        std::fs::write(&file, text).unwrap();
        Notebook::read(root.path(), &file)
    }

    fn cell(id: &str, number: usize, code: &str) -> Cell {
        Cell {
            id: id.to_owned(),
            number,
            code: code.to_owned(),
        }
    }

    #[test]
    fn code_cells_have_their_ids_or_their_numbers() {
        let notebook = read(
            r##"{"nbformat": 4, "metadata": {}, "cells": [
                {"cell_type": "markdown", "source": ["# Title"]},
                {"cell_type": "code", "id": "first", "source": ["a = 1\n", "%time a"], "outputs": [{"data": NaN}]},
                {"cell_type": "raw"},
                {"cell_type": "code", "source": "b \"NaN\\\" -Infinity"},
                {"cell_type": "code", "id": "", "source": [], "outputs": [-Infinity, Infinity, "NaN"]}
            ]}"##,
        );
        let expected = [
            cell("first", 1, "a = 1\n%time a"),
            cell("2", 2, "b \"NaN\\\" -Infinity"),
            cell("3", 3, ""),
        ];
        assert_eq!(notebook.unwrap().cells, expected);
    }

    #[test]
    fn what_is_no_notebook_says_why() {
        for (text, cause) in [
            (r#"{"worksheets": [{"cells": []}]}"#, "missing field `cells`"),
            (r#"{"cells": [{"source": ""}]}"#, "missing field `cell_type`"),
            (r#"{"cells": [{"cell_type": "code"}]}"#, "code cell 1 has no source"),
            (
                r#"{"cells": [{"cell_type": "code", "source": [1]}]}"#,
                "code cell 1 has no source",
            ),
            ("{\"cells\": [\u{1}", "expected value"),
            ("", "EOF"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(cause), "{text}: {error}");
        }
        let error = Notebook::read(Path::new("/"), Path::new("/nowhere/x.ipynb")).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("No such file or directory"), "{error}");
    }
}
