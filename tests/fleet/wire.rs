//! What earlier versions put on the wire is still read as it was meant.

use mobu_fleet::domain::messages::{
    Announcement, Answer, CoordinatorReport, LogEntry, Query, REQUEST_KIND, Report, RequestAnswer, Wire,
};
use mobu_fleet::domain::request;
use serde_json::Value;

/// Messages of earlier builds by their commit, made then from the types of then: by message, by example. Never edited; before a
/// release, the examples of docs/asyncapi.json are added under its name.
const EARLIER: [(&str, &str); 1] = [("7516704", include_str!("../wire/7516704.json"))];

#[test]
fn messages_of_earlier_versions_mean_what_they_meant() {
    for (version, examples) in EARLIER {
        let examples: Value = serde_json::from_str(examples).unwrap();
        for (message, examples) in examples.as_object().unwrap() {
            for (name, example) in examples.as_object().unwrap() {
                let payload = serde_json::to_vec(example).unwrap();
                let again = match message.as_str() {
                    "Request" => {
                        request::parse(REQUEST_KIND, &payload)
                            .unwrap_or_else(|error| panic!("{version} {message} {name}: {error}"));
                        continue;
                    }
                    "RequestAnswer" => read::<RequestAnswer>(&payload),
                    "LogEntry" => read::<LogEntry>(&payload),
                    "Announcement" => read::<Announcement>(&payload),
                    "Query" => read::<Query>(&payload),
                    "Answer" => read::<Answer>(&payload),
                    "Report" => read::<Report>(&payload),
                    "CoordinatorReport" => read::<CoordinatorReport>(&payload),
                    other => panic!("{other} has no reader here"),
                };
                holds(&again, example, &format!("{version} {message} {name}"));
            }
        }
    }
}

fn read<T: Wire>(payload: &[u8]) -> Value {
    serde_json::to_value(T::decode(T::KIND, payload).unwrap()).unwrap()
}

/// What was written then is there now, at the same place with the same value; new fields may stand beside it.
fn holds(now: &Value, then: &Value, place: &str) {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            for (key, then) in then {
                let place = format!("{place}.{key}");
                holds(now.get(key).unwrap_or_else(|| panic!("{place} is lost")), then, &place);
            }
        }
        (Value::Array(now), Value::Array(then)) => {
            assert_eq!(now.len(), then.len(), "{place}");
            for (index, (now, then)) in now.iter().zip(then).enumerate() {
                holds(now, then, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(now, then, "{place}"),
    }
}
