use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A flock that is right, with some keys replaced; null leaves a key out.
fn flock(changes: Value) -> Value {
    let mut flock = json!({
        "name": "facts",
        "count": 2,
        "user_spec": {"username_prefix": "bot-mobu-facts"},
        "scopes": ["exec:notebook"],
        "business": {"type": "EmptyLoop"},
    });
    let Value::Object(changes) = changes else {
        panic!("changes are an object")
    };
    for (key, value) in changes {
        flock[key] = value;
    }
    flock
}

#[expect(clippy::needless_pass_by_value, reason = "dozens of callers pass a literal")]
fn with_options(kind: &str, options: Value) -> Value {
    flock(json!({"business": {"type": kind, "options": options}}))
}

/// The items of a flock that is wrong.
fn items(value: &Value) -> Value {
    match FlockConfig::parse(value) {
        Ok(flock) => panic!("accepted {}", flock.echo()),
        Err(errors) => serde_json::to_value(errors).unwrap(),
    }
}

/// The one item that is at the first of the given places, without its place.
#[expect(clippy::needless_pass_by_value, reason = "dozens of callers pass a literal")]
fn option_item(kind: &str, option: &str, value: Value) -> Value {
    let mut items = items(&with_options(kind, json!({option: value})));
    assert_eq!(items.as_array().unwrap().len(), 1, "{items}");
    let mut item = items[0].take();
    assert_eq!(item["loc"], json!(["body", "business", kind, "options", option]));
    assert_eq!(item["input"], value);
    let item = item.as_object_mut().unwrap();
    item.shift_remove("loc");
    item.shift_remove("input");
    Value::Object(item.clone())
}

fn echo(value: &Value) -> Value {
    FlockConfig::parse(value).unwrap().echo().clone()
}

#[test]
fn an_empty_flock_lacks_four_fields_in_mobus_order() {
    let missing = |key: &str| json!({"type": "missing", "loc": ["body", key], "msg": "Field required", "input": {}});
    let all: Vec<Value> = ["name", "count", "scopes", "business"].map(missing).into();
    assert_eq!(items(&json!({})), json!(all));
    assert_eq!(
        FlockConfig::parse(&json!({})).unwrap_err().to_string().lines().next(),
        Some("body.name: Field required")
    );
}

#[test]
fn a_body_that_is_no_object_is_refused_as_a_whole() {
    for body in [json!([]), json!("text"), json!(5)] {
        let item = json!([{
            "type": "model_attributes_type",
            "loc": ["body"],
            "msg": "Input should be a valid dictionary or object to extract fields from",
            "input": body,
        }]);
        assert_eq!(items(&body), item);
    }
}

#[test]
fn a_flock_elsewhere_has_its_mistakes_there() {
    let errors = FlockConfig::parse_at(&json!({}), &["autostart".into(), 0.into()]).unwrap_err();
    assert!(
        errors.to_string().starts_with("autostart.0.name: Field required\n"),
        "{errors}"
    );
}

#[test]
fn the_type_of_business_is_checked() {
    let tags = "'TAPQueryRunner', 'GitLFS', 'Muster', 'NotebookRunnerCounting', 'NotebookRunnerList', \
                'NotebookRunnerInfinite', 'NubladoPythonLoop', 'TAPQuerySetRunner', 'SIAQuerySetRunner', 'EmptyLoop', \
                'HTTPRunner'";
    assert_eq!(
        items(&flock(json!({"business": {"type": "Nope"}}))),
        json!([{
            "type": "union_tag_invalid",
            "loc": ["body", "business"],
            "msg": format!(
                "Input tag 'Nope' found using 'type' does not match any of the expected tags: {tags}"
            ),
            "input": {"type": "Nope"},
            "ctx": {"discriminator": "'type'", "tag": "Nope", "expected_tags": tags},
        }])
    );
    assert_eq!(
        items(&flock(json!({"business": {"options": {}}}))),
        json!([{
            "type": "union_tag_not_found",
            "loc": ["body", "business"],
            "msg": "Unable to extract tag using discriminator 'type'",
            "input": {"options": {}},
            "ctx": {"discriminator": "'type'"},
        }])
    );
    let other_tag = items(&flock(json!({"business": {"type": null}})));
    assert_eq!(other_tag[0]["ctx"]["tag"], "None");
    for business in [json!(null), json!([]), json!("EmptyLoop")] {
        let item = items(&flock(json!({"business": business})));
        assert_eq!(item[0]["type"], "model_attributes_type");
    }
}

#[test]
fn unknown_keys_are_mistakes_in_a_business_and_nowhere_else() {
    assert_eq!(
        items(&with_options("EmptyLoop", json!({"bogus": 1}))),
        json!([{
            "type": "extra_forbidden",
            "loc": ["body", "business", "EmptyLoop", "options", "bogus"],
            "msg": "Extra inputs are not permitted",
            "input": 1,
        }])
    );
    let beside = items(&flock(json!({"business": {"type": "EmptyLoop", "restarts": true}})));
    assert_eq!(beside[0]["loc"], json!(["body", "business", "EmptyLoop", "restarts"]));
    let ignored = flock(json!({
        "userSpec": {},
        "user_spec": {"username_prefix": "bot-mobu-facts", "x": 1, "groups": [{"name": "g", "id": 1, "x": 1}]},
    }));
    assert_eq!(
        echo(&ignored)["user_spec"],
        json!({"username_prefix": "bot-mobu-facts", "groups": [{"name": "g", "id": 1}]})
    );
    assert_eq!(echo(&ignored)["userSpec"], Value::Null);
}

#[test]
fn the_checks_of_several_fields_come_in_mobus_order_and_one_at_a_time() {
    let users = json!([{"username": "bot-mobu-a"}]);
    let spec = json!({"username_prefix": "bot-mobu-a"});
    for (changes, text) in [
        (
            json!({"user_spec": null, "start_batch_size": 1}),
            "one of users or user_spec must be provided",
        ),
        (
            json!({"user_spec": null, "users": []}),
            "one of users or user_spec must be provided",
        ),
        (
            json!({"users": users, "start_batch_size": 1}),
            "both users and user_spec provided",
        ),
        (
            json!({"user_spec": null, "users": users, "start_batch_size": 1}),
            "users list must contain 2 elements",
        ),
        (
            json!({"user_spec": null, "users": users, "count": "-3"}),
            "users list must contain -3 elements",
        ),
        (
            json!({"user_spec": spec, "start_batch_size": 1}),
            "start_batch_wait must be given if start_batch_size is given",
        ),
        (
            json!({"user_spec": spec, "start_batch_size": 1, "start_batch_wait": "0s"}),
            "start_batch_wait must be given if start_batch_size is given",
        ),
    ] {
        let body = flock(changes);
        let item = json!([{
            "type": "value_error",
            "loc": ["body"],
            "msg": format!("Value error, {text}"),
            "input": body,
            "ctx": {"error": {}},
        }]);
        assert_eq!(items(&body), item, "{text}");
    }
    // They wait until each field is right by itself.
    let body = flock(json!({"user_spec": null, "name": 5}));
    assert_eq!(
        items(&body),
        json!([{"type": "string_type", "loc": ["body", "name"], "msg": "Input should be a valid string", "input": 5}])
    );
}

#[test]
fn no_batches_need_no_wait() {
    for changes in [
        json!({"start_batch_size": 0}),
        json!({"start_batch_size": null, "start_batch_wait": null}),
        json!({"start_batch_wait": "5m"}),
    ] {
        assert_eq!(FlockConfig::parse(&flock(changes)).unwrap().start_batch_size, None);
    }
    let batches = FlockConfig::parse(&flock(json!({"start_batch_size": 2, "start_batch_wait": "5m"}))).unwrap();
    assert_eq!(batches.start_batch_size, Some(2));
    assert_eq!(batches.start_batch_wait, Some(HumanDuration::from_seconds(300)));
}

#[test]
fn a_count_that_makes_no_user_is_refused_at_once() {
    for count in [json!(0), json!("-1")] {
        let item = json!([{
            "type": "greater_than_equal",
            "loc": ["body", "count"],
            "msg": "Input should be greater than or equal to 1",
            "input": count,
            "ctx": {"ge": 1},
        }]);
        assert_eq!(items(&flock(json!({"count": count}))), item);
    }
    assert_eq!(items(&flock(json!({"count": 1_000_001})))[0]["type"], "less_than_equal");
    assert_eq!(items(&flock(json!({"count": 1e30})))[0]["type"], "int_parsing_size");
    assert_eq!(
        items(&flock(json!({"start_batch_size": -1})))[0]["type"],
        "greater_than_equal"
    );
}

#[test]
fn a_count_of_zero_means_the_whole_list() {
    let whole = flock(json!({"count": 0, "user_spec": null, "users": [{"username": "bot-mobu-a"}]}));
    assert_eq!(FlockConfig::parse(&whole).unwrap().users.unwrap().len(), 1);
}

#[test]
fn integers_are_read_as_pydantic_reads_them() {
    for given in [
        json!(7),
        json!("7"),
        json!(7.0),
        json!(" +7 "),
        json!("7.0"),
        json!("007"),
    ] {
        assert_eq!(echo(&flock(json!({"count": given})))["count"], json!(7));
    }
    assert_eq!(echo(&flock(json!({"count": true})))["count"], json!(1));
    assert_eq!(echo(&flock(json!({"count": "1_0"})))["count"], json!(10));
    for (given, kind, msg) in [
        (
            json!(7.5),
            "int_from_float",
            "Input should be a valid integer, got a number with a fractional part",
        ),
        (
            json!("7.5"),
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
        ),
        (
            json!("0x7"),
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
        ),
        (
            json!(""),
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
        ),
        (json!(null), "int_type", "Input should be a valid integer"),
        (json!([]), "int_type", "Input should be a valid integer"),
    ] {
        let item = json!([{"type": kind, "loc": ["body", "count"], "msg": msg, "input": given}]);
        assert_eq!(items(&flock(json!({"count": given}))), item);
    }
}

#[test]
fn options_have_pydantics_items() {
    let levels = "'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'";
    let boolean = "Input should be a valid boolean, unable to interpret input";
    for (kind, option, value, item) in [
        (
            "EmptyLoop",
            "idle_time",
            json!("5 parsecs"),
            json!({
                "type": "value_error",
                "msg": "Value error, Could not parse '5 parsecs' as a time duration",
                "ctx": {"error": {}},
            }),
        ),
        (
            "EmptyLoop",
            "log_level",
            json!("LOUD"),
            json!({"type": "enum", "msg": format!("Input should be {levels}"), "ctx": {"expected": levels}}),
        ),
        (
            "NubladoPythonLoop",
            "max_executions",
            json!(0),
            json!({
                "type": "greater_than_equal",
                "msg": "Input should be greater than or equal to 1",
                "ctx": {"ge": 1},
            }),
        ),
        (
            "NubladoPythonLoop",
            "get_node",
            json!("maybe"),
            json!({"type": "bool_parsing", "msg": boolean}),
        ),
        (
            "NubladoPythonLoop",
            "get_node",
            json!(2),
            json!({"type": "bool_parsing", "msg": boolean}),
        ),
        (
            "NubladoPythonLoop",
            "get_node",
            json!(null),
            json!({"type": "bool_type", "msg": "Input should be a valid boolean"}),
        ),
        (
            "NubladoPythonLoop",
            "code",
            json!(5),
            json!({"type": "string_type", "msg": "Input should be a valid string"}),
        ),
        (
            "TAPQuerySetRunner",
            "query_timeout",
            json!("5m"),
            json!({
                "type": "float_parsing",
                "msg": "Input should be a valid number, unable to parse string as a number",
            }),
        ),
        (
            "TAPQueryRunner",
            "queries",
            json!("select"),
            json!({"type": "list_type", "msg": "Input should be a valid list"}),
        ),
        (
            "NotebookRunnerInfinite",
            "exclude_dirs",
            json!("x"),
            json!({"type": "set_type", "msg": "Input should be a valid set"}),
        ),
    ] {
        assert_eq!(option_item(kind, option, value), item, "{kind} {option}");
    }
}

#[test]
fn options_that_are_no_object_name_the_model() {
    assert_eq!(
        items(&with_options("EmptyLoop", json!(null)))[0],
        json!({
            "type": "model_type",
            "loc": ["body", "business", "EmptyLoop", "options"],
            "msg": "Input should be a valid dictionary or instance of BusinessOptions",
            "input": null,
            "ctx": {"class_name": "BusinessOptions"},
        })
    );
    for kind in ["TAPQueryRunner", "GitLFS", "HTTPRunner"] {
        let business = json!({"type": kind});
        let item = json!([{
            "type": "missing",
            "loc": ["body", "business", kind, "options"],
            "msg": "Field required",
            "input": business,
        }]);
        assert_eq!(items(&flock(json!({"business": business}))), item);
    }
}

#[test]
fn every_mistake_of_a_flock_is_reported_at_once() {
    let body = flock(json!({
        "name": "a/b",
        "users": [{"username": "joe", "uidnumber": "x"}, 1, {}],
        "scopes": "read:tap",
        "business": {"type": "GitLFS", "options": {"idle_time": "1H", "zz": 1, "aa": 2}, "restart": "so-so"},
        "spread": "everywhere",
        "lease": 0,
        "duration": "-1",
    }));
    let errors = FlockConfig::parse(&body).unwrap_err();
    let options = "body.business.GitLFS.options";
    let lines = [
        "body.name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'",
        "body.users.0.username: String should match pattern '^bot-mobu'",
        "body.users.0.uidnumber: Input should be a valid integer, unable to parse string as an integer",
        "body.users.1: Input should be a valid dictionary or instance of User",
        "body.users.2.username: Field required",
        "body.scopes: Input should be a valid list",
        &format!("{options}.idle_time: Value error, Could not parse '1H' as a time duration"),
        &format!("{options}.lfs_read_url: Field required"),
        &format!("{options}.lfs_write_url: Field required"),
        &format!("{options}.zz: Extra inputs are not permitted"),
        &format!("{options}.aa: Extra inputs are not permitted"),
        "body.business.GitLFS.restart: Input should be a valid boolean, unable to interpret input",
        "body.spread: Input should be 'per_replica' or 'across_replicas'",
        "body.lease: Input should be greater than 0 seconds",
        "body.duration: Input should be greater than 0 seconds",
    ];
    assert_eq!(errors.to_string().lines().collect::<Vec<_>>(), lines);
}

#[test]
fn a_bad_username_has_its_pattern() {
    let body = flock(json!({"user_spec": null, "users": [{"username": "joe"}]}));
    assert_eq!(
        items(&body),
        json!([{
            "type": "string_pattern_mismatch",
            "loc": ["body", "users", 0, "username"],
            "msg": "String should match pattern '^bot-mobu'",
            "input": "joe",
            "ctx": {"pattern": "^bot-mobu"},
        }])
    );
    for name in ["bot-mobu", "bot-mobuX Y"] {
        let body = flock(json!({"user_spec": null, "count": 1, "users": [{"username": name}]}));
        assert!(FlockConfig::parse(&body).is_ok());
    }
}

#[test]
fn a_hostile_body_costs_a_bounded_number_of_items() {
    let users = vec![json!({}); 5_000];
    let errors = FlockConfig::parse(&flock(json!({"users": users}))).unwrap_err();
    assert_eq!(errors.0.len(), 1_000);
}

#[test]
fn the_echo_has_what_was_set_normalized_and_no_nulls() {
    let given = json!({
        "name": "facts",
        "count": "2",
        "users": null,
        "user_spec": {"username_prefix": "bot-mobu-facts", "uid_start": 1000, "gid_start": null},
        "scopes": ["exec:notebook", "exec:notebook"],
        "business": {
            "type": "NotebookRunnerInfinite",
            "restart": "yes",
            "options": {
                "idle_time": "1m30s",
                "log_level": "debug",
                "working_directory": null,
                "exclude_dirs": ["x/", "./y", "x", "a//b/../c"],
                "collection_rules": [{"type": "exclude_union_of", "patterns": ["b", "a", "b"], "extra": 1}],
                "image": {"image_class": "latest-weekly", "debug": "on"},
                "max_websocket_message_size": 5,
            },
        },
    });
    let shown = json!({
        "name": "facts",
        "count": 2,
        "user_spec": {"username_prefix": "bot-mobu-facts", "uid_start": 1000},
        "scopes": ["exec:notebook", "exec:notebook"],
        "business": {
            "type": "NotebookRunnerInfinite",
            "restart": true,
            "options": {
                "idle_time": 90.0,
                "log_level": "DEBUG",
                "exclude_dirs": ["a/b/../c", "x", "y"],
                "collection_rules": [{"type": "exclude_union_of", "patterns": ["a", "b"]}],
                "image": {"class": "latest-weekly", "debug": true},
                "max_websocket_message_size": 5,
            },
        },
    });
    assert_eq!(echo(&given), shown);
    assert_eq!(
        serde_json::to_value(FlockConfig::parse(&given).unwrap()).unwrap(),
        shown
    );
}

#[test]
fn the_contracts_example_is_echoed_to_the_byte() {
    let body = r#"{"name":"facts","count":2,"user_spec":{"username_prefix":"bot-mobu-facts","uid_start":1000},"scopes":["exec:notebook"],"business":{"type":"EmptyLoop","options":{"idle_time":"1m30s"}}}"#;
    let flock: FlockConfig = serde_json::from_str(body).unwrap();
    assert_eq!(
        serde_json::to_string(&flock).unwrap(),
        body.replace("\"1m30s\"", "90.0"),
    );
}

#[test]
fn the_wire_has_the_same_truth() {
    let error = serde_json::from_value::<FlockConfig>(flock(json!({"name": "a/b"}))).unwrap_err();
    assert!(
        error.to_string().starts_with("body.name: String should match pattern"),
        "{error}"
    );
}

#[test]
fn the_schema_accepts_what_is_parsed_and_names_every_field() {
    let schema = schemars::schema_for!(FlockConfig).to_value();
    let mut names: Vec<&str> = schema["properties"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "business",
            "count",
            "duration",
            "lease",
            "name",
            "scopes",
            "spread",
            "start_batch_size",
            "start_batch_wait",
            "user_spec",
            "users",
        ]
    );
    assert_eq!(schema["required"], json!(["name", "count", "scopes", "business"]));
    let options = &schema["$defs"]["NotebookRunnerCountingOptions"]["properties"];
    assert!(options["repo_url"].is_object() && options["jitter"].is_object() && options["log_level"].is_object());
}

prop_compose! {
    fn any_flock()(
        count in 1_u32..40,
        listed in any::<bool>(),
        uid in proptest::option::of(-5_i64..100_000),
        batch in proptest::option::of((0_u32..9, 1_u32..90)),
        idle in prop_oneof![Just(json!("1h 5s")), (-9_i64..9).prop_map(|s| json!(s)), (0.0..9e9).prop_map(|s| json!(s))],
        level in prop_oneof![Just("info"), Just("Error"), Just("DEBUG")],
        dirs in proptest::collection::vec("[a-c./]{0,6}", 0..4),
        image in prop_oneof![
            Just(json!({})),
            Just(json!({"tag": "w"})),
            Just(json!({"image_class": "by-reference", "reference": "r"})),
        ],
        lease in proptest::option::of(1_u32..100),
        spread in prop_oneof![Just(json!(null)), Just(json!("across_replicas"))],
    ) -> Value {
        let users: Vec<Value> = (0..count).map(|i| json!({"username": format!("bot-mobu-{i}"), "uidnumber": uid})).collect();
        json!({
            "name": "any", "count": count, "scopes": [],
            "users": if listed { json!(users) } else { json!(null) },
            "user_spec": if listed { json!(null) } else { json!({"username_prefix": "bot-mobu-x", "uid_start": uid}) },
            "start_batch_size": batch.map(|(size, _)| size), "start_batch_wait": batch.map(|(_, wait)| wait),
            "lease": lease, "spread": if spread.is_null() { json!("per_replica") } else { spread },
            "business": {"type": "NotebookRunnerCounting", "options": {
                "idle_time": idle, "log_level": level, "exclude_dirs": dirs, "image": image,
            }},
        })
    }
}

#[test]
fn what_opens_a_repository_is_kept_and_not_shown() {
    for (given, shown) in [
        ("https://me:p@ss@git.test/a.git", "https://***@git.test/a.git"),
        ("https://me:p/a?s#s@git.test/a.git", "https://***@git.test/a.git"),
        ("https://me@corp.test:p/w@git.test/a.git", "https://***@git.test/a.git"),
        ("https://me:p@s/w@git.test/a.git", "https://***@git.test/a.git"),
        (
            "https://me:pw@git.test:8443/o/a@b.git",
            "https://***@git.test:8443/o/a@b.git",
        ),
        ("https://git.test:8443/a@b.git", "https://git.test:8443/a@b.git"),
        ("https://[::1]/a@b.git", "https://[::1]/a@b.git"),
        (
            "HTTPS://ghp_0123@git.test/a?key=abc&flag",
            "HTTPS://***@git.test/a?key=***&flag",
        ),
        ("https://me:pw@git.test/?key=@abc", "https://***"),
        ("ssh://git:word@git.test:22/a", "ssh://git:***@git.test:22/a"),
        ("ssh://git@git.test/a@b", "ssh://git@git.test/a@b"),
        ("file://me:word@/a", "file://me:***@/a"),
        ("https://git.test/a@b.git", "https://git.test/a@b.git"),
        ("git@git.test:a.git", "git@git.test:a.git"),
        ("/srv/a.git", "/srv/a.git"),
        ("", ""),
    ] {
        let flock = FlockConfig::parse(&with_options("NotebookRunnerList", json!({"repo_url": given}))).unwrap();
        assert_eq!(flock.shown()["business"]["options"]["repo_url"], shown);
        assert_eq!(flock.echo()["business"]["options"]["repo_url"], given);
    }
    let flock = FlockConfig::parse(&with_options("EmptyLoop", json!({}))).unwrap();
    assert_eq!(&flock.shown(), flock.echo());
}

proptest! {
    #[test]
    fn an_echo_is_read_as_the_same_flock(given in any_flock()) {
        let flock = FlockConfig::parse(&given).unwrap();
        prop_assert_eq!(&FlockConfig::parse(flock.echo()).unwrap(), &flock);
        let wire = serde_json::to_string(&flock).unwrap();
        prop_assert_eq!(&serde_json::from_str::<FlockConfig>(&wire).unwrap(), &flock);
    }

    #[test]
    fn no_json_makes_the_parser_panic(text in "\\PC{0,40}", number in any::<f64>()) {
        let odd = [json!(text), json!(number), json!([text]), json!({ text: number })];
        for value in odd {
            for key in ["name", "count", "start_batch_wait", "users", "user_spec", "scopes", "business", "lease"] {
                let _outcome = FlockConfig::parse(&flock(json!({ key: value })));
            }
            for key in ["idle_time", "image", "exclude_dirs", "collection_rules", "max_executions", "log_level"] {
                let _outcome = FlockConfig::parse(&with_options("NotebookRunnerCounting", json!({ key: value })));
            }
        }
    }
}

#[test]
fn what_lets_somebody_into_a_service_is_kept_and_not_shown() {
    let options = json!({"requests": [{
        "url": "https://me:pw@api.test/{{username}}?page=1&api_key=s3cret&token={{token}}",
        "query": {"password": "s3cret", "page": "2"},
        "headers": {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "X-Own-Token": "Bearer {{token}}", "Accept": "text/html"},
    }]});
    let given = flock(json!({"business": {"type": "HTTPRunner", "options": options}}));
    let flock = FlockConfig::parse(&given).unwrap();
    assert_eq!(flock.echo()["business"]["options"], options);
    assert_eq!(
        flock.shown()["business"]["options"]["requests"][0],
        json!({
            "url": "https://***@api.test/{{username}}?page=1&api_key=***&token={{token}}",
            "query": {"password": "***", "page": "2"},
            "headers": {"Authorization": "***", "X-Api-Key": "***", "X-Own-Token": "Bearer {{token}}", "Accept": "text/html"},
        })
    );
    let options = json!({"lfs_read_url": "https://lfs.test/r", "lfs_write_url": "https://me:pw@lfs.test/w"});
    let given = self::flock(json!({"business": {"type": "GitLFS", "options": options}}));
    let shown = FlockConfig::parse(&given).unwrap().shown();
    assert_eq!(shown["business"]["options"]["lfs_write_url"], "https://***@lfs.test/w");
}
