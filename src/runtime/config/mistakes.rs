//! What is wrong with a configuration, in lines that never show a secret.

use std::fmt;

use serde_json::Value;

use super::keys::{self, Key};
use crate::domain::duration::HumanDuration;
use crate::domain::validation::{Loc, ValidationItem};

/// Longest value, in characters, that a mistake repeats.
const MAX_SHOWN: usize = 60;

/// How mobu's complaint about a duration ends, which says nothing of what would be one.
const DURATION: &str = "as a time duration";

/// One mistake: where it is, what is wrong, what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    place: String,
    problem: String,
    example: Option<&'static str>,
}

impl Mistake {
    pub(super) fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: on_one_line(place.into()),
            problem: on_one_line(problem.into()),
            example: None,
        }
    }

    pub(super) fn with_example(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    /// Says that an object has no such key, and what was meant.
    pub(super) fn unknown(parent: &str, name: &str) -> Self {
        let instead = keys::instead_of(parent, name);
        let instead = instead.map(|text| format!(": {text}")).unwrap_or_default();
        let dot = if parent.is_empty() { "" } else { "." };
        Self::new(format!("{parent}{dot}{name}"), format!("there is no such key{instead}"))
    }

    /// Turns what validation found into a line; `place` names the source of a key, given the key.
    pub(super) fn from_item(item: &ValidationItem, place: impl Fn(&'static Key) -> String) -> Self {
        let path = written(&item.loc);
        let key = keys::at(&path);
        let problem = item.said().strip_prefix("Value error, ").unwrap_or(item.said());
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", &path));
        match key {
            Some(key) if item.kind == "missing" => Self::new(key.places(), problem).with_example(key.example),
            Some(key) => {
                // The messages of rules that are not pydantic's own repeat what was given where they may.
                let is_shown = !key.secret && item.kind != "value_error";
                let shown = is_shown.then(|| shown(&item.input)).flatten();
                let not = shown.map(|value| format!(", not {value}")).unwrap_or_default();
                Self::new(place(key), format!("{problem}{not}")).with_example(key.example)
            }
            None if item.kind == "extra_forbidden" => Self::unknown(parent, name),
            None => {
                let top = &path[..path.find(['.', '[']).unwrap_or(path.len())];
                let source = keys::at(top).map_or_else(|| top.to_owned(), place);
                let mistake = Self::new(format!("{source}{}", &path[top.len()..]), problem);
                if problem.ends_with(DURATION) {
                    return mistake.with_example(HumanDuration::EXAMPLES);
                }
                mistake
            }
        }
    }

    /// Returns where the mistake is: a key of the file, a variable, a flag, or a line of the file.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)?;
        match self.example {
            Some(example) => write!(f, " (for example: {example})"),
            None => Ok(()),
        }
    }
}

/// Writes the way to a value as people do: `autostart[0].name`.
pub(super) fn written(loc: &[Loc]) -> String {
    let mut path = String::new();
    for step in loc {
        match step {
            Loc::Index(index) => path.extend(["[", &index.to_string(), "]"]),
            Loc::Key(key) if path.is_empty() => path += key,
            Loc::Key(key) => path.extend([".", key]),
        }
    }
    path
}

/// Escapes line ends and what else a terminal would interpret: keys of a file hold what their author likes.
fn on_one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

fn shown(value: &Value) -> Option<String> {
    let text = match value {
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        _ => return None,
    };
    (text.chars().count() <= MAX_SHOWN).then_some(text)
}

/// A configuration that cannot work: all its mistakes at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub(super) fn new(mistakes: Vec<Mistake>) -> Self {
        Self { mistakes }
    }

    /// Returns the mistakes, never none.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for ConfigError {
    /// Writes one line for each mistake, without a line end after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.mistakes.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}
