//! The mistakes of one document, as many and as much of them as an answer may have.

use serde_json::Value;

use super::{Loc, ValidationItem};

/// Mistakes that are kept of one document: enough for any author, and a bound on what a hostile body costs.
const MAX_ITEMS: usize = 1000;

/// What the mistakes of one document may weigh together, in bytes of memory. Each repeats what was given there, and the way to it: without
/// a bound, a document of a megabyte that lacks five keys would be kept and answered five times, and one whose mistakes lie behind
/// a key of that length a thousand times. Ordinary flocks weigh a few kilobytes.
const MAX_WEIGHT: usize = 1024 * 1024;

/// Stands for an input that is too large to be repeated.
const OMITTED: &str = "(too large to be repeated)";

/// Mistakes, counted all and kept in part.
#[derive(Debug)]
pub(super) struct Mistakes {
    items: Vec<ValidationItem>,
    count: usize,
    /// What may still be kept, in bytes.
    room: usize,
}

impl Default for Mistakes {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            count: 0,
            room: MAX_WEIGHT,
        }
    }
}

impl Mistakes {
    /// Adds the mistake that `item` makes of what was given. Once there are enough it is counted only, and not even made.
    pub(super) fn add(&mut self, given: &Value, item: impl FnOnce(Value) -> ValidationItem) {
        self.count += 1;
        if self.is_full() {
            return;
        }
        let repeated = match weight_within(given, self.room) {
            Some(_) => given.clone(),
            None => OMITTED.into(),
        };
        self.keep(item(repeated));
    }

    /// Adds the mistakes of another reading of the same value.
    pub(super) fn append(&mut self, other: Self) {
        self.count += other.count;
        for item in other.items {
            if self.is_full() {
                return;
            }
            self.keep(item);
        }
    }

    /// Returns how many there were.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Returns those that were kept; the first is always among them.
    pub(super) fn into_items(self) -> Vec<ValidationItem> {
        self.items
    }

    fn is_full(&self) -> bool {
        self.items.len() >= MAX_ITEMS || self.room == 0
    }

    fn keep(&mut self, item: ValidationItem) {
        let way = item.loc.iter().map(|step| match step {
            Loc::Key(key) => size_of::<Loc>() + key.len(),
            Loc::Index(_) => size_of::<Loc>(),
        });
        let fixed = size_of::<ValidationItem>() + item.msg.len() + item.quiet_len() + way.sum::<usize>();
        let values = [Some(&item.input), item.ctx.as_ref()].into_iter().flatten();
        let left = values.fold(self.room.saturating_sub(fixed), |room, value| {
            room.saturating_sub(weight_within(value, room).unwrap_or(room))
        });
        self.room = left;
        self.items.push(item);
    }
}

/// Returns what a value takes in memory, in bytes; `None` if that is more than `most`. It looks no further than that.
fn weight_within(value: &Value, most: usize) -> Option<usize> {
    let left = most.checked_sub(size_of::<Value>())?;
    let left = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => left,
        Value::String(text) => left.checked_sub(text.len())?,
        Value::Array(values) => values
            .iter()
            .try_fold(left, |left, value| Some(left - weight_within(value, left)?))?,
        Value::Object(map) => map.iter().try_fold(left, |left, (key, value)| {
            let left = left.checked_sub(size_of::<String>() + key.len())?;
            Some(left - weight_within(value, left)?)
        })?,
    };
    Some(most - left)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::flock::FlockConfig;

    fn length(body: &Value) -> (usize, usize) {
        let errors = FlockConfig::parse(body).unwrap_err();
        (errors.0.len(), serde_json::to_string(&errors).unwrap().len())
    }

    #[test]
    fn what_is_large_is_not_repeated_by_every_mistake() {
        let wide = json!({ "name": vec![json!([]); 300_000] });
        let (count, length) = length(&wide);
        assert_eq!(count, 4, "each is still told");
        assert!(length < 2000, "{length}");
    }

    #[test]
    fn mistakes_behind_a_long_key_are_told_in_part() {
        let key = "k".repeat(400_000);
        let requests = json!([{ "url": "http://localhost/", "json": { key: vec!["{{no}}"; 20_000] } }]);
        let body = json!({
            "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-a"}, "scopes": [],
            "business": {"type": "HTTPRunner", "options": {"requests": requests}},
        });
        let (count, length) = length(&body);
        assert!(
            (1..10).contains(&count) && length < 3 * MAX_WEIGHT,
            "{count} mistakes, {length} bytes"
        );
    }

    #[test]
    fn a_document_as_people_write_it_is_repeated_whole_by_each_of_a_thousand_mistakes() {
        let wrong = vec![json!({ "username": "joe", "uidnumber": "x" }); 900];
        let body = json!({ "name": "a", "count": 1, "users": wrong, "scopes": [], "business": {"type": "EmptyLoop"} });
        let errors = FlockConfig::parse(&body).unwrap_err();
        assert_eq!(errors.0.len(), MAX_ITEMS);
        assert!(errors.0.iter().all(|item| item.input != OMITTED));
    }

    #[test]
    fn a_weight_is_counted_to_its_bound_and_no_further() {
        let one = size_of::<Value>();
        let value = json!({ "a": [1, "xyz"] });
        let whole = 4 * one + size_of::<String>() + 1 + 3;
        assert_eq!(weight_within(&value, usize::MAX), Some(whole));
        assert_eq!(weight_within(&value, whole), Some(whole));
        assert_eq!(weight_within(&value, whole - 1), None);
    }
}
