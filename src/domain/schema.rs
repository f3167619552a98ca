//! JSON Schemas of everything that crosses the wire, made from the types themselves.
//!
//! They are checked in under `docs/schemas`, one file for each AMQP `type`, and a test compares them with what this
//! module makes. Descriptions are the first paragraphs of the doc comments. A schema says
//! what a reader accepts: fields that may be left out are not required, and fields that it does not name are ignored.

mod examples;

use std::sync::LazyLock;

use regex::Regex;
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::events::Event;
use super::messages::{
    Announcement, Answer, CoordinatorReport, LogEntry, Query, REQUEST_KIND, Report, Request, RequestAnswer, Wire,
};

/// A file of documentation that is generated and checked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Where it belongs, from the root of the repository, with `/` between folders.
    pub path: String,
    /// What it says, with a line break at the end.
    pub text: String,
}

impl Document {
    /// Makes a file of indented JSON.
    ///
    /// # Panics
    ///
    /// Never: a value has only keys that are texts.
    pub fn of_json(path: impl Into<String>, value: &Value) -> Self {
        let text = serde_json::to_string_pretty(value).expect("a value serializes");
        Self {
            path: path.into(),
            text: text + "\n",
        }
    }
}

/// One type of message.
#[derive(Debug, Clone)]
pub struct MessageType {
    /// Name of the Rust type and of its schema, for example `Report`.
    pub name: &'static str,
    /// AMQP `type`, for example `fleet.report.v1`.
    pub kind: &'static str,
    /// Real messages of this type, each with a short name.
    pub examples: Vec<(&'static str, Value)>,
    alone: fn(SchemaGenerator) -> Schema,
    among_others: fn(&mut SchemaGenerator) -> Schema,
}

impl MessageType {
    fn of<T: JsonSchema>(name: &'static str, kind: &'static str, examples: Vec<(&'static str, Value)>) -> Self {
        Self {
            name,
            kind,
            examples,
            alone: SchemaGenerator::into_root_schema_for::<T>,
            among_others: SchemaGenerator::subschema_for::<T>,
        }
    }

    fn wire<T: JsonSchema + Wire>(name: &'static str, examples: Vec<(&'static str, Value)>) -> Self {
        Self::of::<T>(name, T::KIND, examples)
    }

    /// Returns the path of the schema's file from the root of the repository.
    pub fn path(&self) -> String {
        format!("docs/schemas/{}.json", self.kind)
    }

    /// Returns the schema with all that it refers to, and with the examples (JSON Schema, draft 2020-12).
    pub fn schema(&self) -> Value {
        let settings = SchemaSettings::draft2020_12().with_transform(Prose);
        let schema = (self.alone)(settings.into_generator()).to_value();
        // What people want to read first comes first; the order means nothing else.
        let mut ordered = Map::new();
        for key in ["$schema", "title", "description"] {
            ordered.extend(schema.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        let examples: Vec<_> = self.examples.iter().map(|(_, example)| example.clone()).collect();
        ordered.insert("examples".to_owned(), json!(examples));
        for (key, value) in schema.as_object().into_iter().flatten() {
            ordered.entry(key.as_str()).or_insert_with(|| value.clone());
        }
        Value::Object(ordered)
    }
}

/// Returns every type of message that crosses the wire.
pub fn message_types() -> Vec<MessageType> {
    vec![
        MessageType::of::<Request>("Request", REQUEST_KIND, examples::requests()),
        MessageType::wire::<RequestAnswer>("RequestAnswer", examples::request_answers()),
        MessageType::wire::<LogEntry>("LogEntry", examples::log_entries()),
        MessageType::wire::<Announcement>("Announcement", examples::announcements()),
        MessageType::wire::<Query>("Query", examples::queries()),
        MessageType::wire::<Answer>("Answer", examples::answers()),
        MessageType::wire::<Report>("Report", examples::reports()),
        MessageType::wire::<CoordinatorReport>("CoordinatorReport", examples::coordinator_reports()),
        MessageType::wire::<Event>("Event", examples::events()),
    ]
}

/// Returns one document with the schema of each type of message.
pub fn documents() -> Vec<Document> {
    message_types()
        .iter()
        .map(|message| Document::of_json(message.path(), &message.schema()))
        .collect()
}

/// Returns the schemas of all types of message and of what they are made of, by name, as JSON Schema draft 7:
/// what AsyncAPI embeds. References point to `#/components/schemas/<name>`.
pub fn components() -> Value {
    let mut settings = SchemaSettings::draft07().with_transform(Prose);
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    for message in message_types() {
        (message.among_others)(&mut generator);
    }
    Value::Object(generator.take_definitions(true))
}

/// Turns doc comments into prose for readers who do not have the source.
#[derive(Debug, Clone)]
struct Prose;

impl Transform for Prose {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = prose(text);
        }
        transform_subschemas(self, schema);
    }
}

/// Returns the first paragraph, in one line, without references to the contract documents, brackets of links and module
/// paths. What follows it is for who works on the source.
fn prose(text: &str) -> String {
    static RULES: LazyLock<[(Regex, &str); 3]> = LazyLock::new(|| {
        let rule = |pattern| Regex::new(pattern).expect("the tests compile this pattern");
        [
            (rule(r" ?\(`contracts/[^)]*\)"), ""),
            (rule(r"\[`(?:\w+::)*(\w+)`\](?:\([^)]*\))?"), "`$1`"),
            (rule(r"\s+"), " "),
        ]
    });
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    RULES.iter().fold(paragraph.to_owned(), |text, (pattern, replacement)| {
        pattern.replace_all(&text, *replacement).into_owned()
    })
}

#[cfg(test)]
mod tests;
