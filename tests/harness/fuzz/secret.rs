//! A secret that must not come back.

use serde_json::Value;

/// Stands for every secret.
pub(super) const SECRET: &str = "Zq7vQXJWKVw9Xk";

/// Returns an error if a text has a piece of the secret.
pub(super) fn keeps_it(what: &str, text: &str) -> Result<(), String> {
    if text.contains(&SECRET[4..10]) {
        return Err(format!("{what} has the secret: {text}"));
    }
    Ok(())
}

/// Returns whether the secret is nowhere but where a secret belongs: behind one of these keys, in texts. An input that was broken
/// so that it says the secret elsewhere may be told so.
pub(super) fn is_hidden(value: &Value, keys: &[&str]) -> bool {
    let is_free = |text: &str| !text.contains(&SECRET[4..10]);
    match value {
        Value::String(text) => is_free(text),
        Value::Array(items) => items.iter().all(|item| is_hidden(item, keys)),
        // A type that is unknown is repeated, whatever it is made of.
        Value::Object(map) => map.iter().all(|(key, value)| {
            let is_secret = keys.contains(&key.as_str()) && is_free_of_keys(value);
            is_free(key) && (is_secret || is_hidden(value, if key == "type" { &[] } else { keys }))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// Returns whether no key in a value has the secret: keys are named where something is wrong below them.
fn is_free_of_keys(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().all(is_free_of_keys),
        Value::Object(map) => map
            .iter()
            .all(|(key, value)| !key.contains(&SECRET[4..10]) && is_free_of_keys(value)),
        _ => true,
    }
}
