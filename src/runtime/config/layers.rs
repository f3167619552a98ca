//! Lays file, environment and flags over each other, and remembers which of them each value came from.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::environment::Environment;
use super::flags::Flags;
use super::keys::{self, Key};
use super::mistakes::Mistake;

/// The layers as one object, its keys in camelCase.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// What counts.
    pub(super) merged: Value,
    /// What the file says about keys that a variable or a flag decides: wrong or not, it does not count.
    pub(super) shadowed: Value,
    /// What the environment says about keys that a flag decides.
    pub(super) shadowed_variables: Value,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<String>,
    /// The variable or flag that gave what is at a path; the file gave the rest.
    origins: BTreeMap<&'static str, &'static str>,
}

impl Layers {
    pub(super) fn new(file: Value, environment: Environment, flags: &Flags) -> Self {
        let mut layers = Self {
            mistakes: environment.mistakes,
            warnings: environment.warnings,
            ..Self::default()
        };
        let mut merged = match file {
            Value::Object(file) => layers.normalize("", file),
            Value::Null => Map::new(),
            _ => {
                let problem = "must be an object of keys and values";
                layers
                    .mistakes
                    .push(Mistake::new("the file", problem).with_example("logLevel: INFO"));
                Map::new()
            }
        };
        let (mut shadowed, mut shadowed_variables) = (Map::new(), Map::new());
        for (key, value) in environment.values {
            let variable = key
                .variable
                .expect("the environment gives only keys that have a variable");
            if let Some(below) = home(&mut merged, key) {
                if let Some(old) = below.insert(key.split().1.to_owned(), Value::String(value))
                    && key.split().0.is_empty()
                {
                    shadowed.insert(key.path.to_owned(), old);
                }
                layers.origins.insert(key.path, variable);
            } else {
                let (parent, _) = key.split();
                layers.warnings.push(format!(
                    "{variable} is set, but has no effect: the file has no `{parent}`"
                ));
            }
        }
        for (path, value) in flags.given() {
            if let Some(old) = merged.insert(path.to_owned(), Value::String(value.to_owned())) {
                let below = if layers.origins.contains_key(path) {
                    &mut shadowed_variables
                } else {
                    &mut shadowed
                };
                below.insert(path.to_owned(), old);
            }
            let flag = keys::at(path)
                .and_then(|key| key.flag)
                .expect("every flag but the file's is in the list");
            layers.origins.insert(path, flag);
        }
        layers.merged = Value::Object(merged);
        layers.shadowed = Value::Object(shadowed);
        layers.shadowed_variables = Value::Object(shadowed_variables);
        layers
    }

    /// Returns whether a key is set.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.merged.get(path).is_some()
    }

    /// Returns where what counts for a key was given: a variable, a flag, or the key itself for the file.
    pub(super) fn place(&self, key: &'static Key) -> String {
        self.origins.get(key.path).copied().unwrap_or(key.path).to_owned()
    }

    /// Renames keys to camelCase, drops nulls, which the chart of mobu writes for what is not set, and lets no key
    /// pass that is not in the list, so that the list stays whole.
    fn normalize(&mut self, parent: &str, given: Map<String, Value>) -> Map<String, Value> {
        let mut normal = Map::new();
        for (name, value) in given {
            let Some(key) = keys::named(parent, &name) else {
                // Even one without a value shows that somebody expects something of it.
                if parent.starts_with("metrics") {
                    // Whether unknown keys are mistakes there depends on the others.
                    normal.insert(name, value);
                } else {
                    self.mistakes.push(Mistake::unknown(parent, &name));
                }
                continue;
            };
            if value.is_null() {
                continue;
            }
            let value = match value {
                Value::Object(below) if keys::is_object(key.path) => Value::Object(self.normalize(key.path, below)),
                other => other,
            };
            if normal.insert(key.split().1.to_owned(), value).is_some() {
                self.mistakes
                    .push(Mistake::new(key.path, "given twice, under two names"));
            }
        }
        normal
    }
}

/// Returns the object that a variable's key belongs into, if there is or may be one.
///
/// Variables fill in what the file enables, and enable nothing by themselves; only `metrics`, which mobu requires, may
/// come from the environment as a whole.
fn home<'a>(merged: &'a mut Map<String, Value>, key: &Key) -> Option<&'a mut Map<String, Value>> {
    let (parent, _) = key.split();
    let enables = key.variable.is_some_and(|variable| variable.starts_with("METRICS_"));
    let mut below = merged;
    for (depth, step) in parent.split('.').filter(|step| !step.is_empty()).enumerate() {
        if !below.contains_key(step) && (depth > 0 || enables) {
            below.insert(step.to_owned(), Value::Object(Map::new()));
        }
        below = below.get_mut(step)?.as_object_mut()?;
    }
    Some(below)
}
