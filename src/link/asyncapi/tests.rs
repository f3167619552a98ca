use std::path::Path;

use super::*;
use crate::domain::schema;

/// Fails if a checked-in document differs from what the types say now, or rewrites it if `UPDATE_DOCS` is set.
fn compare(document: &Document) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&document.path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &document.text).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    (found != document.text).then(|| document.path.clone())
}

#[test]
fn the_checked_in_documents_are_what_the_types_say() {
    let mut documents = schema::documents();
    documents.push(document());
    let stale: Vec<_> = documents.iter().filter_map(compare).collect();
    assert!(
        stale.is_empty(),
        "{stale:?} differ from the types; rewrite them with: UPDATE_DOCS=1 cargo test -p mobu-fleet checked_in"
    );
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(to) if key == "$ref" => found.push(to.clone()),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&document().text).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50);
    for to in found {
        assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
    }
}

#[test]
fn the_guide_quotes_the_example_as_it_is() {
    let read = |path: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (guide, example) = (read("docs/messages.md"), read("examples/publish.py"));
    let quoted = guide.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(
        quoted.len() > 500 && example.contains(quoted),
        "docs/messages.md quotes another examples/publish.py"
    );
}

#[test]
fn every_name_is_that_of_any_fleet() {
    let text = document().text;
    assert!(text.contains("\"{fleet}.replica.{instance_id}\""));
    assert!(text.contains("\"x-dead-letter-exchange\": \"{fleet}.dead\""));
    assert!(
        !text.contains("\"fleet.dead"),
        "a name of the described fleet slipped through"
    );
}
