//! `SIAQuerySetRunner` against the stand-in of [`crate::vo`].

use serde_json::json;

use crate::vo::{Script, Service, outcome, votable};

const RUNNER: &str = "SIAQuerySetRunner";

fn script() -> Script {
    Script {
        capabilities: "/api/sia/dp02/capabilities",
        ..Script::default()
    }
}

#[tokio::test]
async fn images_are_looked_for_in_the_field_within_one_interval() {
    let (service, config, _tasks) = Service::start(script()).await;
    let (is_success, log, shown) = outcome(config, RUNNER, &json!({"idle_time": 600})).await;
    assert!(is_success, "{log}");
    assert_eq!(shown, None);
    let asked = service.asked();
    assert_eq!(asked[0].what, "GET /api/sia/dp02/capabilities");
    assert_eq!((asked[0].has_token, asked[1].has_token), (false, true));
    let query = &asked[1].what;
    assert!(query.starts_with("GET /api/sia/dp02/query?POS=CIRCLE+"), "{query}");
    assert!(query.ends_with("&TIME=60550.31803461111+60550.31838182871"), "{query}");
    let place: Vec<f64> = query
        .split(['+', '&'])
        .skip(1)
        .take(3)
        .map(|number| number.parse().unwrap())
        .collect();
    assert!(
        (52.0..72.0).contains(&place[0]) && (-44.0..-28.0).contains(&place[1]),
        "{query}"
    );
    let said = format!(
        "Running SIA query: SIA parameters: pos=({:?}, {:?}, {:?}), time=[60550.31803461111, 60550.31838182871])",
        place[0], place[1], place[2]
    );
    assert!(log.contains(&said) && log.contains("Query finished after 0."), "{log}");
    assert!(log.contains("Starting SIA Query Set Runner"), "{log}");
}

#[tokio::test]
async fn a_refused_search_stays_shown_with_its_parameters() {
    let script = Script {
        answer: (400, votable("ERROR", "bad circle")),
        ..script()
    };
    let (_service, config, _tasks) = Service::start(script).await;
    let (is_success, log, shown) = outcome(config, RUNNER, &json!({})).await;
    assert!(!is_success && log.contains("\nquery: bad circle"), "{log}");
    let shown = shown.unwrap();
    assert_eq!(shown["time"], json!([60_550.318_034_611_11, 60_550.318_381_828_71]));
    assert!(
        shown["ra"].is_f64() && shown["dec"].is_f64() && shown["radius"].is_f64(),
        "{shown}"
    );
}

#[tokio::test]
async fn what_cannot_be_looked_in_is_told() {
    for (options, text) in [
        (
            json!({"dataset": "dp9"}),
            "\ndiscovery: SIA for dp9 not found in service discovery",
        ),
        (
            json!({"query_set": "dp9"}),
            "\nquery_set: there is no query set `dp9`; there are dp02",
        ),
    ] {
        let (_service, config, _tasks) = Service::start(script()).await;
        let (is_success, log, _) = outcome(config, RUNNER, &options).await;
        assert!(!is_success && log.contains(text), "{log}");
    }
}
