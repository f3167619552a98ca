//! The `OpenAPI` document and the pages.

use std::collections::BTreeSet;

use super::*;
use crate::api::{Auth, GithubRefresh};

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_is_described_under_the_prefix_and_every_reference_leads_somewhere() {
    let stage = Stage::with(ApiConfig {
        path_prefix: "/load/test/".to_owned(),
        github_refresh: Some(GithubRefresh {
            webhook_secret: "x".into(),
            accepted_orgs: Vec::new(),
        }),
        ..config(1)
    })
    .await;
    let document = stage.send("GET", "/load/test/openapi.json", &[], "").await.json();
    assert_eq!(
        (&document["openapi"], &document["info"]["title"]),
        (&json!("3.1.0"), &json!("mobu"))
    );
    assert_eq!(
        document["info"]["description"],
        "Simulate user load for Science Platform testing"
    );
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let statuses: Vec<_> = operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            operations.push(format!("{} {path} {}", method.to_uppercase(), statuses.join(" ")));
        }
    }
    operations.sort();
    insta::assert_snapshot!(operations.join("\n"));
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for path in ["/load/test/docs", "/load/test/redoc"] {
        let page = stage.send("GET", path, &[], "").await;
        assert_eq!(
            (page.status.as_u16(), page.header("content-type")),
            (200, "text/html; charset=utf-8")
        );
        assert!(page.text.contains("/load/test/flocks/{flock}/summary"));
        assert!(
            !page.text.contains("src=") && !page.text.contains("https://"),
            "nothing comes from elsewhere"
        );
    }
    assert_eq!(stage.get("/load/test").await.status, 307);
    assert_eq!(stage.get("/mobu/flocks").await.status, 404);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_calls_is_described_as_configured() {
    for (auth, parameter, security) in [
        (Auth::Header, Some(true), false),
        (Auth::None, Some(false), false),
        (Auth::Token(Vec::new()), None, true),
    ] {
        let stage = Stage::with(ApiConfig { auth, ..config(1) }).await;
        let document = stage.send("GET", "/mobu/openapi.json", &[], "").await.json();
        let list = &document["paths"]["/mobu/flocks"]["get"];
        let user = list["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["name"] == "X-Auth-Request-User");
        assert_eq!(user.map(|user| user["required"].as_bool().unwrap()), parameter);
        assert_eq!(list.get("security").is_some(), security);
        let index = &document["paths"]["/mobu/"]["get"];
        assert!(index.get("parameters").is_none() && index.get("security").is_none());
        assert!(document["paths"].get("/mobu/github/refresh/webhook").is_none());
        stage.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_prefix_leaves_the_root_to_the_index() {
    let stage = Stage::with(ApiConfig {
        path_prefix: "/".to_owned(),
        ..config(1)
    })
    .await;
    assert_eq!(stage.send("GET", "/", &[], "").await.json()["name"], "mobu");
    assert_eq!(stage.get("/flocks").await.status, 200);
    stage.finish().await;
}
