use super::*;
use crate::domain::request;

#[test]
fn every_example_is_read_as_a_message_of_its_type() {
    fn read<T: Wire>(payload: &[u8]) -> Value {
        serde_json::to_value(T::decode(T::KIND, payload).unwrap()).unwrap()
    }
    for message in message_types() {
        for (name, example) in &message.examples {
            let payload = serde_json::to_vec(example).unwrap();
            let again = match message.name {
                "Request" => {
                    request::parse(message.kind, &payload).unwrap_or_else(|error| panic!("{name}: {error}"));
                    continue;
                }
                "RequestAnswer" => read::<RequestAnswer>(&payload),
                "LogEntry" => read::<LogEntry>(&payload),
                "Announcement" => read::<Announcement>(&payload),
                "Query" => read::<Query>(&payload),
                "Answer" => read::<Answer>(&payload),
                "Report" => read::<Report>(&payload),
                "CoordinatorReport" => read::<CoordinatorReport>(&payload),
                "Event" => read::<Event>(&payload),
                other => panic!("{other} has no reader here"),
            };
            assert_eq!(&again, example, "{} {name}", message.name);
        }
    }
}

/// What one object of an example says, checked against the schema's words for it. Knows the words that our schemas use.
fn check(schema: &Value, root: &Value, value: &Value, place: &str) -> Result<(), String> {
    let Some(schema) = schema.as_object() else {
        return if schema == &Value::Bool(false) {
            Err(format!("{place} is forbidden"))
        } else {
            Ok(())
        };
    };
    for (word, says) in schema {
        let fine = match word.as_str() {
            "$ref" => {
                let to = says.as_str().unwrap().strip_prefix('#').unwrap();
                check(root.pointer(to).unwrap(), root, value, place)?;
                true
            }
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "null" => value.is_null(),
                    other => panic!("unknown type {other}"),
                };
                says.as_array().map_or_else(|| is(says), |kinds| kinds.iter().any(is))
            }
            "const" => value == says,
            "enum" => says.as_array().unwrap().contains(value),
            "required" => says
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "oneOf" | "anyOf" => {
                let fits = says.as_array().unwrap().iter();
                let fits = fits.filter(|one| check(one, root, value, place).is_ok()).count();
                if word == "oneOf" { fits == 1 } else { fits > 0 }
            }
            "allOf" => {
                for part in says.as_array().unwrap() {
                    check(part, root, value, place)?;
                }
                true
            }
            "properties" => {
                for (name, part) in says.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(part, root, value, &format!("{place}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let named = schema.get("properties").and_then(Value::as_object);
                let patterns = schema.get("patternProperties").and_then(Value::as_object);
                for (name, value) in value.as_object().into_iter().flatten() {
                    let matches = |pattern: &String| Regex::new(pattern).unwrap().is_match(name);
                    let known = named.is_some_and(|named| named.contains_key(name))
                        || patterns.is_some_and(|patterns| patterns.keys().any(matches));
                    if !known {
                        check(says, root, value, &format!("{place}.{name}"))?;
                    }
                }
                true
            }
            "patternProperties" => {
                for (pattern, part) in says.as_object().unwrap() {
                    let pattern = Regex::new(pattern).unwrap();
                    for (name, value) in value.as_object().into_iter().flatten() {
                        if pattern.is_match(name) {
                            check(part, root, value, &format!("{place}.{name}"))?;
                        }
                    }
                }
                true
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    if !schema.contains_key("prefixItems") {
                        check(says, root, item, &format!("{place}[{i}]"))?;
                    }
                }
                true
            }
            "prefixItems" => {
                let parts = says.as_array().unwrap().iter();
                for (part, item) in parts.zip(value.as_array().into_iter().flatten()) {
                    check(part, root, item, place)?;
                }
                true
            }
            "pattern" => Regex::new(says.as_str().unwrap())
                .unwrap()
                .is_match(value.as_str().unwrap_or_default()),
            "minimum" => value.as_f64() >= says.as_f64(),
            "maximum" => value.as_f64() <= says.as_f64(),
            _ => true,
        };
        if !fine {
            return Err(format!("{place}: {value} breaks {word}: {says}"));
        }
    }
    Ok(())
}

#[test]
fn every_example_keeps_its_schema_and_says_nothing_that_the_schema_does_not() {
    for message in message_types() {
        let schema = message.schema();
        for (name, example) in &message.examples {
            check(&schema, &schema, example, name).unwrap_or_else(|error| panic!("{}: {error}", message.name));
            // The top level of a message with variants is spread over them.
            let text = schema.to_string();
            for key in example.as_object().unwrap().keys() {
                assert!(
                    text.contains(&format!("\"{key}\":{{")),
                    "{} does not know {key}",
                    message.name
                );
            }
        }
    }
}

#[test]
fn what_a_request_may_not_say_its_schema_refuses() {
    let message = &message_types()[0];
    let schema = message.schema();
    let verdict = |value: &Value| check(&schema, &schema, value, "request");
    let (_, start) = &message.examples[0];
    verdict(start).unwrap();
    for (place, wrong) in [
        ("/kind", json!("explode")),
        ("/wait", json!("perhaps")),
        ("/flock/name", json!("a/b")),
        ("/flock/count", json!(-1)),
        ("/flock/business/type", json!("Nothing")),
        ("/flock/business/options/idle_time", json!([])),
        ("/flock/user_spec", json!({})),
    ] {
        let mut request = start.clone();
        *request.pointer_mut(place).unwrap() = wrong;
        assert!(verdict(&request).is_err(), "{request}");
        assert!(
            request::parse(message.kind, request.to_string().as_bytes()).is_err(),
            "{request}"
        );
    }
    let mut request = start.clone();
    request["flock"]["business"]["options"]["unheard_of"] = json!(1);
    assert!(verdict(&request).is_err(), "{request}");
    for wrong in [
        json!({"kind": "stop"}),
        json!({"kind": "stop", "flock": "a", "all": true}),
        json!({"kind": "refresh"}),
        json!({"kind": "refresh", "flock": "a", "repo_url": "u", "repo_ref": "r"}),
        json!({"kind": "refresh", "repo_url": "u"}),
    ] {
        assert!(verdict(&wrong).is_err(), "{wrong}");
        assert!(
            request::parse(message.kind, wrong.to_string().as_bytes()).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn descriptions_are_for_readers_without_the_source() {
    for document in documents() {
        for forbidden in ["[`", "contracts/", "::"] {
            assert!(!document.text.contains(forbidden), "{} says {forbidden}", document.path);
        }
    }
    assert_eq!(
        prose("As [`Ask::State`]\nsays (`contracts/rest-api.md` 4.1).\n\nRead by [it](super::x)."),
        "As `State` says."
    );
}
