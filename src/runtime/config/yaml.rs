//! Reads the file as YAML into JSON, and refuses cheaply what no configuration looks like.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use serde_json::Value;
use serde_saphyr::{Error, Location};

use super::mistakes::Mistake;

/// Largest file, in bytes: as much as the desired state may hold.
const MAX_FILE: u64 = 4 << 20;
/// Deepest nesting. A flock's JSON templates go deepest, and seldom beyond ten.
const MAX_DEPTH: usize = 48;
/// Most values in the file.
const MAX_NODES: usize = 200_000;
/// Most parser events that all aliases together may repeat; a flock is a few dozen.
const MAX_REPEATED: usize = 100_000;

/// Reads a file. `None`: there is none, and nobody asked for this one by name.
pub(super) fn read(path: &Path, is_named: bool) -> Result<Option<Value>, Mistake> {
    let place = path.display().to_string();
    let refuse = |problem: String| Err(Mistake::new(place.clone(), problem));
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) => {
            return refuse(format!("the file is larger than {} MiB", MAX_FILE >> 20));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound && !is_named => return Ok(None),
        Err(error) => return refuse(format!("the file cannot be read: {error}")),
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&place, text).map(Some),
        Err(error) => refuse(format!("not UTF-8 from byte {} on", error.valid_up_to())),
    }
}

/// Parses YAML that came from `place`, be it ours or somebody else's. A text without any value is null.
///
/// # Errors
///
/// One mistake, without a piece of the text: it is no YAML, or it is larger or deeper than any configuration.
pub fn parse(place: &str, text: &str) -> Result<Value, Mistake> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 3 * MAX_NODES,
            max_anchors: 1_000,
            max_aliases: 10_000,
            max_merge_keys: 1_000,
            max_recorded_anchor_events: MAX_REPEATED,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPEATED,
            max_replay_stack_depth: 16,
        },
        // A snippet of the source would show secrets.
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Option<Value>>(text, options) {
        Ok(value) => Ok(value.unwrap_or_default()),
        Err(error) => {
            let place = match error.location().filter(|location| *location != Location::UNKNOWN) {
                Some(location) => format!("{place}:{}:{}", location.line(), location.column()),
                None => place.to_owned(),
            };
            Err(Mistake::new(place, explain(&error)))
        }
    }
}

/// Says what is wrong in our own words: the library's may repeat a piece of the file, which may be a secret.
fn explain(error: &Error) -> &'static str {
    match error.without_snippet() {
        Error::DuplicateMappingKey { .. } => "the same key was given before",
        Error::MultipleDocuments { .. } => "a second document begins here; the file must hold one",
        Error::UnknownAnchor { .. } => "an alias without its anchor; a text that begins with * must be quoted",
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "too deep, too long, or too much repeated by aliases for a configuration"
        }
        _ => "not valid YAML; check the indentation, and the quotes around texts that hold one of : # * & ! % @ ` { [",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse("f", text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_without_a_value_is_null() {
        for text in ["", "\n", "# nothing yet\n", "---\n", "~"] {
            assert_eq!(parse("f", text), Ok(Value::Null), "{text:?}");
        }
    }

    #[test]
    fn bombs_are_refused_before_they_grow() {
        let laugh = |level: u32| {
            let previous = vec![format!("*a{}", level - 1); 9].join(", ");
            format!("a{level}: &a{level} [{previous}]")
        };
        let laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x]".to_owned()];
        let laughs: Vec<_> = laughs.into_iter().chain((1..12).map(laugh)).collect();
        let laughs = laughs.join("\n");
        let deep = "[".repeat(5_000) + &"]".repeat(5_000);
        let blocks: String = (0..3_000).map(|depth| "  ".repeat(depth) + "a:\n").collect();
        let wide = format!("[{}]", vec!["1"; MAX_NODES + 1].join(","));
        for bomb in [laughs, deep, blocks, wide] {
            let refusal = refusal(&bomb);
            assert!(
                refusal.contains("too deep") || refusal.contains("not valid YAML"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn refusals_name_line_and_column_and_never_the_text() {
        assert!(refusal("a: 1\na: 2\n").starts_with("f:2:1: the same key"));
        assert!(refusal("a: 1\n---\nb: 2\n").contains("a second document"));
        for text in [
            "token: *hunter2\n",
            "token: %hunter2\n",
            "token: @hunter2\n",
            "token: `hunter2\n",
            "token: !!int hunter2\n",
            "token: !!binary hunter2!\n",
            "token: {hunter2\n",
            "token: \"hunter2\n",
            "token: hunter2: b\n",
            "  hunter2\n a: - b\n",
        ] {
            let Err(mistake) = parse("f", text) else { continue };
            let shown = format!("{mistake} {mistake:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.starts_with("f:"), "{shown}");
        }
    }

    #[test]
    fn anchors_and_merge_keys_spare_repetition() {
        let value = parse("f", "a: &a {x: 1}\nb: {<<: *a, y: 2}\n").unwrap();
        assert_eq!(value["b"], serde_json::json!({"x": 1, "y": 2}));
    }
}
