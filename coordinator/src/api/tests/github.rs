//! The webhook of the refresh app: `contracts/integrations.md` 1.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use sha1::Sha1;
use sha2::Sha256;

use super::*;
use crate::api::GithubRefresh;

const SECRET: &str = "it is a secret";
const HOOK: &str = "/mobu/github/refresh/webhook";
const JSON: (&str, &str) = ("content-type", "application/json");

fn configured() -> ApiConfig {
    ApiConfig {
        github_refresh: Some(GithubRefresh {
            webhook_secret: SecretString::from(SECRET),
            accepted_orgs: vec!["org0".to_owned(), "org1".to_owned()],
        }),
        ..config(2)
    }
}

/// A push as GitHub sends it to an app, less what nobody reads.
fn push(reference: &str) -> Value {
    let api = "https://api.github.com/repos/org1/repo1";
    json!({
        "ref": reference,
        "before": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "after": "0000000000000000000000000000000000000000",
        "repository": {
            "id": 186_853_002, "node_id": "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=", "name": "repo1", "full_name": "org1/repo1",
            "private": false, "owner": {"name": "org1", "email": null, "login": "org1", "id": 21_031_067, "type": "Organization"},
            "html_url": "https://github.com/org1/repo1", "description": null, "fork": false, "default_branch": "main",
            "url": "https://github.com/org1/repo1", "clone_url": "https://github.com/org1/repo1.git",
            "branches_url": format!("{api}/branches{{/branch}}"), "contents_url": format!("{api}/contents/{{+path}}"),
            "trees_url": format!("{api}/git/trees{{/sha}}"), "blobs_url": format!("{api}/git/blobs{{/sha}}"),
        },
        "pusher": {"name": "someone", "email": "someone@example.com"},
        "organization": {"login": "org1", "id": 21_031_067, "url": "https://api.github.com/orgs/org1"},
        "sender": {"login": "someone", "id": 21_031_067, "type": "User", "site_admin": false},
        "installation": {"id": 1234, "node_id": "MDIzOkludGVncmF0aW9uSW5zdGFsbGF0aW9uMTIzNA=="},
        "created": false, "deleted": false, "forced": false, "base_ref": null,
        "compare": "https://github.com/org1/repo1/compare/6113728f27ae...000000000000",
        "commits": [], "head_commit": null,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn sha256(body: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())
        .unwrap()
        .chain_update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

fn sha1(body: &str) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes())
        .unwrap()
        .chain_update(body);
    format!("sha1={}", hex(&mac.finalize().into_bytes()))
}

async fn deliver(stage: &Stage, event: &str, id: &str, payload: &Value) -> Answer {
    let body = payload.to_string();
    let headers = [
        JSON,
        ("x-github-event", event),
        ("x-github-delivery", id),
        ("x-hub-signature-256", &sha256(&body)),
        ("x-hub-signature", "sha1=ignored beside the better one"),
        ("user-agent", "GitHub-Hookshot/044aadd"),
    ];
    stage.send("POST", HOOK, &headers, body.clone()).await
}

async fn stage() -> Stage {
    let stage = Stage::with(configured()).await;
    for (name, reference) in [("a", "main"), ("b", "main"), ("c", "u/someone/topic"), ("d", "topic")] {
        stage.put(&notebooks(name, reference)).await;
    }
    stage
}

fn refreshed(status: &Status) -> Vec<(&str, u64)> {
    let flocks = status.desired.flocks.iter();
    let refreshed = flocks.filter(|(_, flock)| flock.refresh_generation > flock.generation);
    refreshed
        .map(|(name, flock)| (name.as_str(), flock.refresh_generation.0))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_push_refreshes_every_flock_of_its_repository_and_branch_in_one_revision() {
    let stage = stage().await;
    deliver(&stage, "push", "d1", &push("refs/heads/main"))
        .await
        .expect(202, "null");
    let before = stage.fleet.status().await.unwrap();
    assert!(
        refreshed(&before).is_empty(),
        "GitHub is given its second after the answer"
    );
    let status = stage.until("the refresh", |status| !refreshed(status).is_empty()).await;
    assert_eq!(refreshed(&status), [("a", 5), ("b", 5)]);
    let revision = stage.get("/mobu/revisions/5").await.json();
    assert_eq!(
        (&revision["source"], &revision["by"]),
        (&json!("github"), &json!("someone"))
    );
    assert_eq!(revision["change"]["repo_ref"], "main");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_everything_after_the_heads_and_tags_are_none() {
    let stage = stage().await;
    for (number, ignored) in [
        "refs/tags/main",
        "refs/heads/",
        "main",
        "refs/heads/MAIN",
        "refs/pull/1/head",
    ]
    .iter()
    .enumerate()
    {
        let id = format!("ignored-{number}");
        deliver(&stage, "push", &id, &push(ignored)).await.expect(202, "null");
    }
    deliver(&stage, "push", "d1", &push("refs/heads/u/someone/topic"))
        .await
        .expect(202, "null");
    let status = stage.until("the refresh", |status| !refreshed(status).is_empty()).await;
    assert_eq!(refreshed(&status), [("c", 5)]);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_comes_again_changes_nothing() {
    let stage = stage().await;
    for _ in 0..3 {
        deliver(&stage, "push", "d1", &push("refs/heads/main"))
            .await
            .expect(202, "null");
    }
    deliver(&stage, "push", "d2", &push("refs/heads/topic"))
        .await
        .expect(202, "null");
    let status = stage
        .until("the last refresh", |status| refreshed(status).len() == 3)
        .await;
    assert_eq!(refreshed(&status), [("a", 5), ("b", 5), ("d", 6)]);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn only_what_is_signed_with_the_secret_is_read() {
    let stage = stage().await;
    let body = push("refs/heads/main").to_string();
    let (good256, good1) = (sha256(&body), sha1(&body));
    let upper = good256.to_uppercase().replace("SHA256=", "sha256=");
    let missing = r#"{"detail":"The signature is missing"}"#;
    let wrong = r#"{"detail":"The signature does not match the payload"}"#;
    for (signatures, expected, text) in [
        (vec![], 401, missing),
        (vec![("x-hub-signature-256", good256.as_str())], 202, "null"),
        (vec![("x-hub-signature-256", upper.as_str())], 202, "null"),
        (vec![("x-hub-signature", good1.as_str())], 202, "null"),
        (
            vec![("x-hub-signature-256", "sha256="), ("x-hub-signature", good1.as_str())],
            401,
            wrong,
        ),
        (vec![("x-hub-signature-256", good1.as_str())], 401, wrong),
        (vec![("x-hub-signature-256", &good256[7..])], 401, wrong),
        (vec![("x-hub-signature-256", &good256[..70])], 401, wrong),
        (vec![("x-hub-signature-256", "sha256=zz")], 401, wrong),
        (
            vec![
                ("x-hub-signature-256", good256.as_str()),
                ("x-hub-signature-256", "sha256=00"),
            ],
            401,
            wrong,
        ),
        (vec![("x-hub-signature", good256.as_str())], 401, wrong),
        (
            vec![
                ("x-hub-signature-256", good256.as_str()),
                ("x-hub-signature", "sha1=00"),
                ("x-hub-signature", "sha1=11"),
            ],
            202,
            "null",
        ),
        (
            vec![("x-hub-signature", good1.as_str()), ("x-hub-signature", good1.as_str())],
            401,
            wrong,
        ),
    ] {
        let mut headers = vec![JSON, ("x-github-event", "ping"), ("x-github-delivery", "d")];
        headers.extend(&signatures);
        let answer = stage.send("POST", HOOK, &headers, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (expected, text),
            "{signatures:?}"
        );
        assert!(!answer.text.contains(SECRET));
    }
    let signed = [JSON, ("x-hub-signature-256", good256.as_str())];
    let changed = body.replace("main", "topic");
    assert_eq!(stage.send("POST", HOOK, &signed, changed).await.status, 401);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_signed_and_wrong_is_told() {
    let stage = stage().await;
    let good = push("refs/heads/main").to_string();
    let event = ("x-github-event", "push");
    let id = ("x-github-delivery", "d1");
    let form = ("content-type", "application/x-www-form-urlencoded");
    for (headers, body, says) in [
        (
            vec![JSON, event],
            good.clone(),
            "Header x-github-delivery must be given exactly once",
        ),
        (
            vec![JSON, id],
            good.clone(),
            "Header x-github-event must be given exactly once",
        ),
        (
            vec![JSON, event, id, id],
            good.clone(),
            "Header x-github-delivery must be given exactly once",
        ),
        (
            vec![JSON, event, ("x-github-delivery", "a b")],
            good.clone(),
            "Header x-github-delivery is not a short text",
        ),
        (
            vec![event, id],
            good.clone(),
            "The content type is neither JSON nor a form",
        ),
        (vec![form, event, id], "a=b".to_owned(), "The form has no field payload"),
        (
            vec![form, event, id],
            "payload=x".to_owned(),
            "The payload is not JSON: expected value at line 1 column 1",
        ),
        (
            vec![JSON, event, id],
            String::new(),
            "The payload is not JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            vec![JSON, event, id],
            "[".repeat(100_000),
            "The payload is not JSON: recursion limit exceeded at line 1 column 128",
        ),
    ] {
        let signature = sha256(&body);
        let mut headers = headers;
        headers.push(("x-hub-signature-256", &signature));
        let answer = stage.send("POST", HOOK, &headers, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text),
            (400, json!({ "detail": says }).to_string())
        );
    }
    for lost in ["ref", "before", "after", "installation", "repository"] {
        let mut payload = push("refs/heads/main");
        payload.as_object_mut().unwrap().remove(lost);
        let answer = deliver(&stage, "push", "d1", &payload).await;
        assert_eq!(
            answer.text,
            format!(r#"{{"detail":"Not a push: missing field `{lost}`"}}"#)
        );
    }
    for lost in [
        "name",
        "full_name",
        "owner",
        "default_branch",
        "html_url",
        "branches_url",
        "contents_url",
        "trees_url",
        "blobs_url",
    ] {
        let mut payload = push("refs/heads/main");
        payload["repository"].as_object_mut().unwrap().remove(lost);
        assert_eq!(deliver(&stage, "push", "d1", &payload).await.status, 400, "{lost}");
    }
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn only_organizations_that_are_configured_count() {
    let stage = stage().await;
    let refused = r#"{"detail":"Mobu is not configured to accept webhooks from this GitHub org."}"#;
    for organization in [
        json!(null),
        json!({}),
        json!({"login": "Org1"}),
        json!({"login": "other"}),
        json!({"login": 1}),
    ] {
        let mut payload = push("refs/heads/main");
        payload["organization"] = organization;
        deliver(&stage, "push", "d1", &payload).await.expect(403, refused);
        deliver(&stage, "ping", "d2", &payload).await.expect(403, refused);
    }
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn other_events_are_taken_and_ignored() {
    let stage = stage().await;
    let ping = json!({"zen": "Keep it logically awesome.", "organization": {"login": "org0"}});
    for event in ["ping", "installation", "check_suite"] {
        deliver(&stage, event, "d1", &ping).await.expect(202, "null");
    }
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_form_is_read_too_and_signed_as_it_came() {
    let stage = stage().await;
    let payload = push("refs/heads/main").to_string();
    let body: String = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", &payload)
        .finish();
    let signature = sha256(&body);
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-github-event", "push"),
        ("x-github-delivery", "d1"),
        ("x-hub-signature-256", &*signature),
    ];
    stage.send("POST", HOOK, &headers, body).await.expect(202, "null");
    let status = stage.until("the refresh", |status| !refreshed(status).is_empty()).await;
    assert_eq!(refreshed(&status), [("a", 5), ("b", 5)]);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_does_not_lead_lets_github_show_the_failure() {
    let stage = Stage::without_replicas(configured());
    let answer = deliver(&stage, "push", "d1", &push("refs/heads/main")).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "2"));
    stage.finish().await;
    let stage = self::stage().await;
    stage.hub.cut(|name| name.starts_with("coordinator"));
    stage
        .until("the end of the session", |status| !status.is_leading())
        .await;
    let answer = deliver(&stage, "push", "d1", &push("refs/heads/main")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["detail"][0]["type"]),
        (503, &json!("coordinator_not_active"))
    );
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_accepted_push_survives_the_loss_of_the_session() {
    let stage = stage().await;
    deliver(&stage, "push", "d1", &push("refs/heads/main"))
        .await
        .expect(202, "null");
    stage.hub.cut(|name| name.starts_with("coordinator"));
    let status = stage.until("the refresh", |status| !refreshed(status).is_empty()).await;
    assert_eq!(refreshed(&status).len(), 2);
    stage.finish().await;
}
