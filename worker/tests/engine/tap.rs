//! The TAP businesses against the stand-in of [`crate::vo`].

use std::time::Duration;

use mobu_worker::WorkerConfig;
use serde_json::json;

use crate::vo::{Script, Service, outcome, stopped, votable};

const RUNNER: &str = "TAPQueryRunner";

#[tokio::test]
async fn a_query_at_once_is_asked_as_the_contract_says() {
    let (service, config, _tasks) = Service::start(Script::default()).await;
    let options = json!({"queries": ["SELECT a FROM b WHERE c = 'd e'"], "idle_time": 600});
    let (is_success, log, shown) = outcome(config, RUNNER, &options).await;
    assert!(is_success, "{log}");
    assert_eq!(shown, None);
    let asked = service.asked();
    assert_eq!(service.requests(), ["GET /api/tap/capabilities", "POST /api/tap/sync"]);
    assert!(asked.iter().all(|asked| asked.has_token));
    assert_eq!(
        asked[1].body,
        "REQUEST=doQuery&LANG=ADQL&QUERY=SELECT+a+FROM+b+WHERE+c+%3D+%27d+e%27"
    );
    assert!(log.contains("Running (sync): SELECT a FROM b WHERE c = 'd e'"), "{log}");
    assert!(log.contains("Query finished after 0."), "{log}");
}

#[tokio::test]
async fn a_job_is_made_run_awaited_read_and_deleted() {
    let script = Script {
        phases: vec!["QUEUED", "COMPLETED"],
        ..Script::default()
    };
    let (service, config, _tasks) = Service::start(script).await;
    let options = json!({"queries": ["SELECT 1"], "sync": false, "idle_time": 600, "query_timeout": 60});
    let (is_success, log, _) = outcome(config, RUNNER, &options).await;
    assert!(is_success, "{log}");
    assert_eq!(
        service.requests(),
        [
            "GET /api/tap/capabilities",
            "POST /api/tap/async",
            "GET /api/tap/async/7",
            "GET /api/tap/async/7",
            "POST /api/tap/async/7/phase",
            "GET /api/tap/async/7",
            "GET /api/tap/async/7?WAIT=-1",
            "GET /api/tap/async/7?WAIT=-1",
            "GET /api/tap/async/7",
            "GET /api/tap/async/7/results/result",
            "DELETE /api/tap/async/7",
        ]
    );
    assert_eq!(service.asked()[4].body, "PHASE=RUN");
    assert!(log.contains("Running (async): SELECT 1"), "{log}");
}

#[tokio::test]
async fn a_job_that_fails_says_why_and_is_deleted() {
    for (phases, message, text) in [
        (vec!["ERROR"], "no such table", "\njob: Query Error: no such table"),
        (vec!["ERROR"], "", "\njob: Query Error: <No useful error from server>"),
        (
            vec!["ABORTED"],
            "",
            "\njob: Cannot wait for job completion. Job is not active!",
        ),
    ] {
        let script = Script {
            phases,
            message,
            ..Script::default()
        };
        let (service, config, _tasks) = Service::start(script).await;
        let options = json!({"queries": ["SELECT 1"], "sync": false});
        let (is_success, log, shown) = outcome(config, RUNNER, &options).await;
        assert!(!is_success && log.contains(text), "{log}");
        assert_eq!(shown, Some(json!("SELECT 1")), "a failed query stays shown");
        let requests = service.requests();
        assert_eq!(requests.last().unwrap(), "DELETE /api/tap/async/7", "{requests:?}");
    }
}

#[tokio::test]
async fn a_timeout_limits_the_whole_query_and_aborts_the_job() {
    for phases in [vec!["EXECUTING"], vec![]] {
        let script = Script {
            hangs: phases.is_empty(),
            phases,
            ..Script::default()
        };
        let (service, config, _tasks) = Service::start(script).await;
        let options = json!({"queries": ["SELECT 1"], "sync": false, "query_timeout": 0.3});
        let (is_success, log, _) = outcome(config, RUNNER, &options).await;
        assert!(!is_success, "{log}");
        assert!(
            log.contains("\ntimeout: the query did not end within its query_timeout of 0.3 seconds"),
            "{log}"
        );
        let asked = service.asked();
        assert!(asked.iter().any(|asked| asked.body == "PHASE=ABORT"), "{asked:?}");
        assert_eq!(asked.last().unwrap().what, "DELETE /api/tap/async/7");
    }
    let script = Script {
        hangs: true,
        ..Script::default()
    };
    let (_service, config, _tasks) = Service::start(script).await;
    let options = json!({"queries": ["SELECT 1"], "query_timeout": 0.3});
    let (is_success, log, _) = outcome(config, RUNNER, &options).await;
    assert!(!is_success && log.contains("query_timeout of 0.3 seconds"), "{log}");
}

#[tokio::test]
async fn a_stop_drops_the_query_and_aborts_the_job() {
    let script = Script {
        hangs: true,
        ..Script::default()
    };
    let (service, config, _tasks) = Service::start(script.clone()).await;
    let options = json!({"queries": ["SELECT 1"], "sync": false});
    stopped(&service, config, RUNNER, &options, "WAIT").await;
    let asked = service.asked();
    assert!(asked.iter().any(|asked| asked.body == "PHASE=ABORT"), "{asked:?}");
    assert_eq!(asked.last().unwrap().what, "DELETE /api/tap/async/7");

    let (service, config, _tasks) = Service::start(script).await;
    let options = json!({"queries": ["SELECT 1"]});
    stopped(&service, config, RUNNER, &options, "/sync").await;
}

#[tokio::test]
async fn a_stop_or_a_timeout_while_a_job_is_being_made_leaves_none_behind() {
    let script = Script {
        making: Duration::from_millis(700),
        ..Script::default()
    };
    let (service, config, _tasks) = Service::start(script.clone()).await;
    let options = json!({"queries": ["SELECT 1"], "sync": false});
    stopped(&service, config, RUNNER, &options, "POST /api/tap/async").await;
    assert_eq!(service.requests().last().unwrap(), "DELETE /api/tap/async/7");

    let (service, config, _tasks) = Service::start(script).await;
    let options = json!({"queries": ["SELECT 1"], "sync": false, "query_timeout": 0.1});
    let (is_success, log, _) = outcome(config, RUNNER, &options).await;
    assert!(!is_success && log.contains("query_timeout of 0.1 seconds"), "{log}");
    assert_eq!(service.requests().last().unwrap(), "DELETE /api/tap/async/7");
}

#[tokio::test]
async fn answers_are_judged_by_what_they_say() {
    for (status, text, failure) in [
        (400, votable("OK", ""), None),
        (200, votable("OVERFLOW", ""), None),
        (200, votable("ERROR", "no table x"), Some("\nquery: no table x")),
        (500, votable("ERROR", "it hurts"), Some("\nquery: it hurts")),
        (
            503,
            votable("OK", ""),
            Some("\nstatus: 503 Server Error: Service Unavailable for url: "),
        ),
        (
            404,
            "nothing".to_owned(),
            Some("/api/tap/sync\n  caused by: the service answered with `nothing`"),
        ),
        (
            429,
            "later".to_owned(),
            Some("\nrate_limit: Rate limit exceeded (HTTP 429) for "),
        ),
        (
            200,
            "<html/>".to_owned(),
            Some(
                "\nformat: E19: File does not appear to be a VOTABLE\n  caused by: the service answered with `<html/>`",
            ),
        ),
        (
            200,
            votable("OK", "")[..200].to_owned(),
            Some("\nformat: the VOTable is broken: "),
        ),
    ] {
        let script = Script {
            answer: (status, text),
            ..Script::default()
        };
        let (_service, config, _tasks) = Service::start(script).await;
        let (is_success, log, _) = outcome(config, RUNNER, &json!({"queries": ["SELECT 1"]})).await;
        match failure {
            None => assert!(is_success, "{status}: {log}"),
            Some(failure) => assert!(!is_success && log.contains(failure), "{status}: {log}"),
        }
    }
}

#[tokio::test]
async fn a_token_goes_no_further_than_the_base() {
    let script = Script {
        result: "/elsewhere".to_owned(),
        ..Script::default()
    };
    let (service, config, _tasks) = Service::start(script).await;
    let options = json!({"queries": ["SELECT 1"], "sync": false, "idle_time": 600});
    // The name of the result decides, since its place is another.
    let (is_success, log, _) = outcome(config, RUNNER, &options).await;
    assert!(is_success, "{log}");
    for asked in service.asked() {
        assert_eq!(asked.has_token, asked.what != "GET /elsewhere", "{asked:?}");
    }
}

#[tokio::test]
async fn capabilities_beside_the_base_will_do_and_none_will_not() {
    let script = |capabilities| Script {
        capabilities,
        ..Script::default()
    };
    let options = json!({"queries": ["SELECT 1"]});
    let (_service, config, _tasks) = Service::start(script("/api/capabilities")).await;
    let (is_success, log, _) = outcome(config, RUNNER, &options).await;
    assert!(is_success, "{log}");
    let (_service, config, _tasks) = Service::start(script("/nowhere")).await;
    let (is_success, log, _) = outcome(config, RUNNER, &options).await;
    let text = "\nstatus: Unable to create TAP client: 404 Client Error: Not Found for url: ";
    assert!(!is_success && log.contains(text), "{log}");
    // The place that is configured is named, not the one beside it.
    assert!(log.contains("/api/tap/capabilities"), "{log}");
}

#[tokio::test]
async fn a_dataset_that_is_not_listed_is_an_error_of_the_contract() {
    let (_service, config, _tasks) = Service::start(Script::default()).await;
    for config in [config, WorkerConfig::for_tests("0", 1)] {
        let options = json!({"queries": ["SELECT 1"], "dataset": "dp9"});
        let (is_success, log, _) = outcome(config, RUNNER, &options).await;
        let text = "\ndiscovery: TAP for dp9 not found in service discovery";
        assert!(!is_success && log.contains(text), "{log}");
    }
}

#[tokio::test]
async fn an_empty_list_of_queries_fails_each_iteration() {
    let (_service, config, _tasks) = Service::start(Script::default()).await;
    let (is_success, log, _) = outcome(config, RUNNER, &json!({"queries": []})).await;
    assert!(!is_success && log.contains("the option `queries` is empty"), "{log}");
}

#[tokio::test]
async fn a_query_set_is_announced_and_asked_and_an_unknown_one_is_for_good() {
    let (service, config, _tasks) = Service::start(Script::default()).await;
    let options = json!({"query_set": "dp0.2-med-scans", "idle_time": 600});
    let (is_success, log, _) = outcome(config, "TAPQuerySetRunner", &options).await;
    assert!(is_success, "{log}");
    let listing = "Query templates to choose from: ['histogram-object.sql', 'object-several.sql', 'scan-object.sql', 'scan-object-top.sql']";
    assert!(log.contains(listing), "{log}");
    let asked = service.asked();
    assert!(
        asked[1].body.contains("QUERY=SELECT") && asked[1].body.contains("mobu-"),
        "{asked:?}"
    );

    let (_service, config, _tasks) = Service::start(Script::default()).await;
    let (is_success, log, _) = outcome(config, "TAPQuerySetRunner", &json!({"query_set": "dp7"})).await;
    assert!(
        !is_success && log.contains("\nquery_set: there is no query set `dp7`; there are dp0.1"),
        "{log}"
    );
}
