//! Millions of broken inputs for everything that reads what others wrote.
//!
//! A [`Target`] is a parser with the promises that it makes for every input. One number, the seed, decides all inputs of a run, and
//! each of them is made from the seed and its own number alone: a failure names both, and is made again by them. Inputs
//! begin with real ones: the examples of the documentation, recorded messages of earlier versions, and what once went wrong,
//! which is kept in `tests/fuzz/corpus/TARGET`.

mod documents;
mod feeds;
mod mutate;
mod run;
mod secret;
mod small;
mod wire;

use std::path::PathBuf;

pub use self::run::{Failure, Plan, Played, play};

/// What kind of text a parser reads: how it is best broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON value.
    Json,
    /// Lines: YAML, headers, events.
    Lines,
    /// Markup and single words.
    Text,
    /// Anything.
    Bytes,
}

/// A parser, and what must hold for every input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// What its inputs are.
    pub form: Form,
    /// Real inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces of inputs that mean something to this parser.
    pub words: &'static [&'static str],
    /// Reads an input.
    ///
    /// # Errors
    ///
    /// The promise that was broken. That the input is refused is none.
    pub check: fn(&[u8]) -> Result<(), String>,
}

impl Target {
    /// All targets.
    pub fn all() -> Vec<Self> {
        [wire::TARGETS, documents::TARGETS, feeds::TARGETS, small::TARGETS].concat()
    }

    /// Returns the target of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|target| target.name == name)
    }

    /// Returns what once went wrong, by the names of the files.
    pub fn corpus(&self) -> Vec<(String, Vec<u8>)> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(self.name);
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let read = |entry: std::fs::DirEntry| {
            let bytes = std::fs::read(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), bytes))
        };
        let mut corpus: Vec<_> = entries.flatten().filter_map(read).collect();
        corpus.sort();
        corpus
    }
}

/// Returns an error unless a promise holds.
fn promise(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Returns an input as text, if it is one.
fn text(input: &[u8]) -> Option<&str> {
    std::str::from_utf8(input).ok()
}

/// Cuts an input into as many pieces as its own bytes say, so that the same input is always cut alike.
fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut random = fastrand::Rng::with_seed(input.len() as u64);
    let mut pieces = Vec::new();
    let mut rest = input;
    while !rest.is_empty() && pieces.len() < 7 {
        let (piece, after) = rest.split_at(random.usize(1..=rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}
