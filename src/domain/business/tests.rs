use serde_json::{Value, json};

use super::*;
use crate::domain::duration::HumanDuration;
use crate::domain::validation::ValidationErrors;

#[expect(clippy::needless_pass_by_value, reason = "dozens of callers pass a literal")]
fn read(business: Value) -> Result<Parsed<BusinessConfig>, ValidationErrors> {
    Input::read(
        &business,
        &["body".into(), "business".into()],
        BusinessConfig::from_input,
    )
}

fn business(kind: &str) -> BusinessConfig {
    read(json!({ "type": kind })).unwrap().value
}

#[expect(clippy::needless_pass_by_value, reason = "dozens of callers pass a literal")]
fn http(request: Value) -> Result<HttpRequest, ValidationErrors> {
    let parsed = read(json!({"type": "HTTPRunner", "options": {"requests": [request]}}))?;
    match parsed.value.options {
        BusinessOptions::HttpRunner(options) => Ok(options.requests[0].clone()),
        other => panic!("{other:?}"),
    }
}

/// The lines of a request that is wrong, without what is the same in all of them.
fn wrong(request: Value) -> String {
    let errors = http(request).expect_err("it is wrong").to_string();
    errors
        .replace("body.business.HTTPRunner.options.requests.0", "")
        .replace("Value error, ", "")
}

const fn seconds(seconds: u32) -> HumanDuration {
    HumanDuration::from_seconds(seconds)
}

#[test]
fn every_type_has_its_names() {
    for (name, kind) in BusinessKind::ALL {
        let shown = match *name {
            "Muster" => "MusterRunner",
            "GitLFS" => "GitLFSBusiness",
            other => other,
        };
        assert_eq!(kind.class_name(), shown);
        assert_eq!(kind.as_str(), *name);
    }
    assert_eq!(business("Muster").kind(), BusinessKind::Muster);
}

#[test]
fn common_options_have_mobus_defaults() {
    let config = business("EmptyLoop");
    assert!(!config.restart);
    assert_eq!(
        config.common(),
        &CommonOptions {
            error_idle_time: seconds(60),
            idle_time: seconds(60),
            log_level: LogLevel::Info,
        }
    );
    assert_eq!(config.common(), business("Muster").common());
}

#[test]
fn query_options_have_mobus_defaults() {
    let BusinessOptions::TapQuerySetRunner(tap) = business("TAPQuerySetRunner").options else {
        panic!()
    };
    assert_eq!((tap.query_set.as_str(), tap.tap.dataset.as_str()), ("dp0.1", "dp02"));
    assert!(tap.tap.sync);
    assert_eq!(tap.tap.query_timeout, None);
    let BusinessOptions::SiaQuerySetRunner(sia) = business("SIAQuerySetRunner").options else {
        panic!()
    };
    assert_eq!((sia.query_set.as_str(), sia.dataset.as_str()), ("dp02", "dp02"));
    let given = read(json!({"type": "TAPQueryRunner", "options": {"queries": [], "query_timeout": "300"}})).unwrap();
    assert_eq!(given.echo["options"], json!({"query_timeout": 300.0, "queries": []}));
}

#[test]
fn lab_options_have_mobus_defaults() {
    let BusinessOptions::NubladoPythonLoop(options) = business("NubladoPythonLoop").options else {
        panic!()
    };
    assert_eq!(options.code, "print(2+2, end=\"\")");
    assert_eq!(options.max_executions, 25);
    let lab = &options.nublado;
    assert!(lab.delete_lab && lab.get_node);
    assert_eq!(lab.delete_timeout, seconds(60));
    assert_eq!(lab.execution_idle_time, seconds(1));
    assert_eq!(lab.jitter, HumanDuration::ZERO);
    assert_eq!(lab.jupyter_timeout, seconds(60));
    assert_eq!(lab.max_websocket_message_size, None);
    assert_eq!(lab.spawn_settle_time, seconds(10));
    assert_eq!(lab.spawn_timeout, seconds(610));
    assert_eq!(lab.url_prefix, "/nb/");
    assert_eq!(lab.working_directory, None);
    assert_eq!(lab.cell_execution_timeout, None);
    assert_eq!(
        lab.image.spawn_form(),
        [("image_class", "recommended"), ("size", "Large")]
    );
}

#[test]
fn notebook_options_have_mobus_defaults_and_name_the_repository() {
    for kind in ["NotebookRunnerCounting", "NotebookRunnerInfinite", "NotebookRunnerList"] {
        let config = business(kind);
        let repository = config.repository().unwrap();
        assert_eq!(repository.url, "https://github.com/lsst-sqre/notebook-demo.git");
        assert_eq!(repository.reference, "prod");
    }
    let BusinessOptions::NotebookRunnerCounting(options) = business("NotebookRunnerCounting").options else {
        panic!()
    };
    assert_eq!(options.max_executions, 25);
    assert!(options.notebooks.exclude_dirs.is_empty() && options.notebooks.collection_rules.is_empty());
    assert_eq!(options.notebooks.notebook_idle_time, HumanDuration::ZERO);
    assert_eq!(business("EmptyLoop").repository(), None);
}

#[test]
fn deployments_cell_execution_timeout_is_accepted() {
    let given = json!({"type": "NotebookRunnerList", "options": {"cell_execution_timeout": "1h"}});
    assert_eq!(
        read(given).unwrap().echo["options"]["cell_execution_timeout"],
        json!(3600.0)
    );
}

#[test]
fn an_image_is_chosen_by_class_reference_or_tag() {
    for (image, form, echo) in [
        (
            json!({}),
            vec![("image_class", "recommended"), ("size", "Large")],
            json!({}),
        ),
        (
            json!({"class": "latest-daily", "size": "Tiny", "debug": true}),
            vec![
                ("image_class", "latest-daily"),
                ("size", "Tiny"),
                ("enable_debug", "true"),
            ],
            json!({"class": "latest-daily", "size": "Tiny", "debug": true}),
        ),
        (
            json!({"image_class": "latest-weekly"}),
            vec![("image_class", "latest-weekly"), ("size", "Large")],
            json!({"class": "latest-weekly"}),
        ),
        (
            json!({"reference": "lab:w"}),
            vec![("image_list", "lab:w"), ("size", "Large")],
            json!({"reference": "lab:w"}),
        ),
        (
            json!({"image_class": "by-tag", "tag": "w"}),
            vec![("image_tag", "w"), ("size", "Large")],
            json!({"class": "by-tag", "tag": "w"}),
        ),
    ] {
        let parsed = read(json!({"type": "NubladoPythonLoop", "options": {"image": image}})).unwrap();
        assert_eq!(parsed.echo["options"]["image"], echo);
        let BusinessOptions::NubladoPythonLoop(options) = parsed.value.options else {
            panic!()
        };
        assert_eq!(options.nublado.image.spawn_form(), form);
    }
}

#[test]
fn a_bad_image_has_the_mistakes_of_all_three_models() {
    let image = |image: Value| read(json!({"type": "NubladoPythonLoop", "options": {"image": image}})).unwrap_err();
    let at = "body.business.NubladoPythonLoop.options.image";
    assert_eq!(
        image(json!({"class": "oldest"}))
            .to_string()
            .lines()
            .collect::<Vec<_>>(),
        [
            &format!(
                "{at}.NubladoImageByClass.class: Input should be 'recommended', 'latest-release', 'latest-weekly' or 'latest-daily'"
            ),
            &format!("{at}.NubladoImageByReference.class: Input should be 'by-reference'"),
            &format!("{at}.NubladoImageByReference.reference: Field required"),
            &format!("{at}.NubladoImageByTag.class: Input should be 'by-tag'"),
            &format!("{at}.NubladoImageByTag.tag: Field required"),
        ]
    );
    for both in [
        json!({"class": "recommended", "image_class": "recommended"}),
        json!({"tag": "w", "reference": "r"}),
        json!({"class": "recommended", "tag": "w"}),
    ] {
        assert!(image(both).to_string().contains("Extra inputs are not permitted"));
    }
}

#[test]
fn a_rule_has_a_known_type_and_a_set_of_patterns() {
    let rules = |rule: Value| read(json!({"type": "NotebookRunnerList", "options": {"collection_rules": [rule]}}));
    let errors = rules(json!({"type": "union_of", "patterns": "x"})).unwrap_err();
    let items = serde_json::to_value(&errors).unwrap();
    assert_eq!(items[0]["type"], "literal_error");
    assert_eq!(
        items[0]["msg"],
        "Input should be 'intersect_union_of' or 'exclude_union_of'"
    );
    assert_eq!(
        items[0]["ctx"],
        json!({"expected": "'intersect_union_of' or 'exclude_union_of'"})
    );
    assert_eq!(items[1]["type"], "set_type");
    assert_eq!(
        items[1]["loc"],
        json!([
            "body",
            "business",
            "NotebookRunnerList",
            "options",
            "collection_rules",
            0,
            "patterns"
        ])
    );
    assert!(rules(json!({"type": "intersect_union_of", "patterns": []})).is_ok());
}

#[test]
fn a_request_has_useful_defaults() {
    let request = http(json!({"url": "http://example.org/{{username}}"})).unwrap();
    assert_eq!(request.method.as_str(), "GET");
    assert_eq!(request.timeout, seconds(30));
    assert!(request.expect.accepts_status(204) && !request.expect.accepts_status(301));
    assert!(request.expect.ignores_body() && request.body.is_none());
    let parsed = read(json!({"type": "HTTPRunner", "options": {"requests": [{"url": "http://a"}]}})).unwrap();
    let BusinessOptions::HttpRunner(options) = parsed.value.options else {
        panic!()
    };
    assert_eq!(options.order, RequestOrder::Sequence);
    assert!(options.cookies);
    assert_eq!(options.authenticate, Authenticate::None);
}

#[test]
fn a_request_with_everything_is_read_and_echoed() {
    let given = json!({
        "method": "post",
        "url": "https://example.org:8443/{{uuid}}?x=1",
        "headers": {"X-User": "{{username}}", "Authorization": "Bearer {{token}}"},
        "query": {"i": "{{iteration}}"},
        "json": {"who": "{{instance_id}}", "none": null},
        "timeout": "5s",
        "expect": {
            "status": [200, "201"],
            "header": {"Content-Type": null, "X-A": "b"},
            "body_contains": "ok",
            "body_matches": "^o+k$",
            "json": {"/a~1b/0": null, "": [1]},
        },
    });
    let mut echo = given.clone();
    echo["method"] = json!("POST");
    echo["timeout"] = json!(5.0);
    echo["expect"]["status"] = json!([200, 201]);
    let options = json!({"requests": [given], "order": "random", "cookies": "no", "authenticate": "bearer"});
    let parsed = read(json!({"type": "HTTPRunner", "options": options})).unwrap();
    assert_eq!(
        parsed.echo["options"],
        json!({"requests": [echo], "order": "random", "cookies": false, "authenticate": "bearer"})
    );
    assert_eq!(read(parsed.echo.clone()).unwrap(), parsed);

    let request = http(given).unwrap();
    assert_eq!(request.expect.status, [200, 201]);
    assert_eq!(request.expect.header[0], ("Content-Type".to_owned(), None));
    let (pointer, expected) = &request.expect.json[0];
    assert_eq!(pointer.find(&json!({"a/b": [null]})), Some(expected));
    assert!(request.expect.body_matches.unwrap().is_match_bytes(b"ook"));
}

#[test]
fn a_wrong_request_says_where_and_why() {
    for (request, text) in [
        (json!({}), ".url: Field required"),
        (
            json!({"url": "/path"}),
            ".url: not an absolute URL: relative URL without a base",
        ),
        (
            json!({"url": "{{username}}/x"}),
            ".url: not an absolute URL: relative URL without a base",
        ),
        (
            json!({"url": "ftp://a/"}),
            ".url: the URL must begin with http:// or https:// and name a host",
        ),
        (
            json!({"url": "http://a/{{user}}"}),
            ".url: there is no `{{user}}`, only {{username}}, {{token}}, {{instance_id}}, {{iteration}} and {{uuid}}",
        ),
        (
            json!({"url": "http://a", "body": "x{{"}),
            ".body: `{{` at character 1 is never closed",
        ),
        (
            json!({"url": "http://a", "body": "", "json": 1}),
            ": body and json exclude each other",
        ),
        (
            json!({"url": "http://a", "method": "GE T"}),
            ".method: not an HTTP method that can be sent, such as GET or POST",
        ),
        (
            json!({"url": "http://a", "headers": {"a b": "x"}}),
            ".headers.a b: not the name of a header",
        ),
        (
            json!({"url": "http://a", "headers": {"A": "x\r\nB: y"}}),
            ".headers.A: the value of a header cannot hold control characters",
        ),
        (
            json!({"url": "http://a", "headers": {"Content-Length": "1"}}),
            ".headers.Content-Length: this header is set by the client itself",
        ),
        (
            json!({"url": "http://a", "query": {"a": 1}}),
            ".query.a: Input should be a valid string",
        ),
        (
            json!({"url": "http://a", "timeout": 0}),
            ".timeout: Input should be greater than 0 seconds",
        ),
        (
            json!({"url": "http://a", "timeout": "2h"}),
            ".timeout: Input should be less than or equal to 3600 seconds",
        ),
        (
            json!({"url": "http://a", "expect": {"status": 99}}),
            ".expect.status: Input should be greater than or equal to 100",
        ),
        (
            json!({"url": "http://a", "expect": {"status": []}}),
            ".expect.status: List should have at least 1 item after validation, not 0",
        ),
        (
            json!({"url": "http://a", "expect": {"body_matches": "a("}}),
            ".expect.body_matches: not a regular expression: unclosed group",
        ),
        (
            json!({"url": "http://a", "expect": {"json": {"a": 1}}}),
            ".expect.json.a: not a JSON pointer: it must be empty or begin with `/`, and `~` must be followed by 0 or 1",
        ),
        (
            json!({"url": "http://a", "expect": {"json": {"/~2": 1}}}),
            ".expect.json./~2: not a JSON pointer: it must be empty or begin with `/`, and `~` must be followed by 0 or 1",
        ),
        (
            json!({"url": "http://a", "expect": {"body": "x"}}),
            ".expect.body: Extra inputs are not permitted",
        ),
    ] {
        assert_eq!(wrong(request), text);
    }
    let bomb = wrong(json!({"url": "http://a", "expect": {"body_matches": "((a{1000}){1000}){1000}"}}));
    assert!(bomb.contains("size limit"), "{bomb}");
}

#[test]
fn a_runner_has_one_to_a_hundred_requests() {
    let runner = |requests: Value| read(json!({"type": "HTTPRunner", "options": {"requests": requests}}));
    let request = json!({"url": "http://a"});
    assert!(runner(json!(vec![request.clone(); 100])).is_ok());
    let errors = runner(json!(vec![request; 101])).unwrap_err();
    assert!(
        errors
            .to_string()
            .ends_with("List should have at most 100 items after validation, not 101")
    );
    let errors = runner(json!([])).unwrap_err();
    assert_eq!(errors.0[0].kind, "too_short");
    assert_eq!(
        read(json!({"type": "HTTPRunner", "options": {}})).unwrap_err().0[0].kind,
        "missing"
    );
}
