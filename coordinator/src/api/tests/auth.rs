//! Who may call, and that no trick gets past it.

use secrecy::SecretString;

use super::*;
use crate::api::Auth;

const TOKEN: &str = "correct-horse-battery-staple";

fn with_tokens() -> ApiConfig {
    ApiConfig {
        auth: Auth::Token(vec![
            SecretString::from(""),
            SecretString::from("another"),
            SecretString::from(TOKEN),
        ]),
        ..config(1)
    }
}

#[tokio::test(start_paused = true)]
async fn only_one_user_that_is_not_empty_is_taken_from_the_ingress() {
    let stage = Stage::of(1).await;
    let twice = [("x-auth-request-user", "rra"), ("X-Auth-Request-User", "admin")];
    let answer = stage.send("GET", "/mobu/flocks", &twice, "").await;
    answer.expect(422, r#"{"detail":[{"type":"value_error","loc":["header","x-auth-request-user"],"msg":"Value error, the header must be given exactly once","input":null,"ctx":{"error":{}}}]}"#);
    let empty = [("x-auth-request-user", "")];
    let answer = stage.send("GET", "/mobu/flocks", &empty, "").await;
    answer.expect(422, r#"{"detail":[{"type":"string_too_short","loc":["header","x-auth-request-user"],"msg":"String should have at least 1 character","input":"","ctx":{"min_length":1}}]}"#);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_bearer_token_is_compared_whole_and_once() {
    let stage = Stage::with(with_tokens()).await;
    for (headers, expected) in [
        (vec![("authorization", "Bearer correct-horse-battery-staple")], 200),
        (vec![("authorization", "bearer another")], 200),
        (vec![], 401),
        (vec![("x-auth-request-user", "rra")], 401),
        (vec![("authorization", "Bearer correct-horse-battery-stapl")], 401),
        (vec![("authorization", "Bearer correct-horse-battery-staple2")], 401),
        (vec![("authorization", "Bearer ")], 401),
        (vec![("authorization", "Bearer")], 401),
        (vec![("authorization", "Basic correct-horse-battery-staple")], 401),
        (vec![("authorization", "correct-horse-battery-staple")], 401),
        (
            vec![("authorization", "Bearer another"), ("authorization", "Bearer wrong")],
            401,
        ),
    ] {
        let answer = stage.send("GET", "/mobu/flocks", &headers, "").await;
        assert_eq!(answer.status, expected, "{headers:?}");
        let challenge = if expected == 401 { "Bearer" } else { "" };
        assert_eq!(answer.header("www-authenticate"), challenge);
        assert!(!answer.text.contains("correct") && !format!("{:?}", answer.headers).contains("correct"));
    }
    let caller = [
        ("authorization", "Bearer another"),
        ("content-type", "application/json"),
    ];
    let put = stage.send("PUT", "/mobu/flocks", &caller, facts().to_string()).await;
    assert_eq!(put.status, 201);
    let revisions = stage.send("GET", "/mobu/revisions", &caller, "").await.json();
    assert_eq!(revisions[0]["by"], "token");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn no_operation_and_no_odd_path_is_answered_without_a_token() {
    let stage = Stage::with(with_tokens()).await;
    let document = stage.send("GET", "/mobu/openapi.json", &[], "").await.json();
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let concrete = path
            .replace("{flock}", "a")
            .replace("{monkey}", "b")
            .replace("{instance_id}", "0");
        let concrete = concrete.replace("{revision}", "1");
        for (method, operation) in methods.as_object().unwrap() {
            let answer = stage.send(&method.to_uppercase(), &concrete, &[], "").await;
            let open = operation.get("security").is_none();
            assert_eq!(answer.status == 401, !open, "{method} {path}: {}", answer.text);
            checked += usize::from(!open);
        }
    }
    assert_eq!(checked, 18);
    for path in [
        "//mobu/flocks",
        "/mobu//flocks",
        "/mobu/./flocks",
        "/x/../mobu/flocks",
        "/mobu/%66locks",
        "/mobu/flocks%2f",
        "/mobu/%2e%2e/mobu/flocks",
        "/mobu/flocks;x",
        "/mobu/flocks%00",
        "/mobu%2fflocks",
        "/mobu/docs/../flocks",
        "/mobu/flocks/",
        "/mobu/openapi.json/../flocks",
        "/healthz/../mobu/flocks",
        "/mobu/flocks/..%2fflocks",
        "http://example.com/mobu/flocks",
        "http://example.com//mobu/flocks",
    ] {
        let answer = stage.send("GET", path, &[], "").await;
        assert!(matches!(answer.status.as_u16(), 307 | 401 | 404), "{path}: {answer:?}");
    }
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn without_authentication_a_caller_may_name_itself_and_only_this_machine_is_served() {
    let stage = Stage::with(ApiConfig {
        auth: Auth::None,
        ..config(1)
    })
    .await;
    for (host, expected) in [
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("x.localhost", 200),
        ("rebound.example:8080", 403),
        ("localhost.example", 403),
    ] {
        let answer = stage.send("GET", "/mobu/flocks", &[("host", host)], "").await;
        assert_eq!(answer.status, expected, "{host}");
    }
    for user in [None, Some("rra")] {
        let mut headers = vec![("host", "localhost"), ("content-type", "application/json")];
        headers.extend(user.map(|user| ("x-auth-request-user", user)));
        stage.send("PUT", "/mobu/flocks", &headers, facts().to_string()).await;
    }
    let revisions = stage
        .send("GET", "/mobu/revisions", &[("host", "localhost")], "")
        .await
        .json();
    assert_eq!(
        (&revisions[0]["by"], &revisions[1]["by"]),
        (&json!("rra"), &json!("anonymous"))
    );
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_site_cannot_change_anything() {
    let stage = Stage::of(1).await;
    let user = ("x-auth-request-user", "rra");
    for (header, expected) in [
        (("sec-fetch-site", "cross-site"), 403),
        (("sec-fetch-site", "same-site"), 403),
        (("origin", "https://evil.example"), 403),
        (("origin", "null"), 403),
        (("sec-fetch-site", "same-origin"), 200),
        (("origin", "https://example.com"), 200),
    ] {
        let answer = stage.send("POST", "/mobu/stop", &[user, header], "").await;
        assert_eq!(answer.status, expected, "{header:?}");
    }
    let cross = [user, ("sec-fetch-site", "cross-site")];
    assert_eq!(stage.send("GET", "/mobu/flocks", &cross, "").await.status, 200);
    stage.finish().await;
}

#[test]
fn secrets_do_not_show_in_what_is_printed_of_a_configuration() {
    let config = ApiConfig {
        github_refresh: Some(crate::api::GithubRefresh {
            webhook_secret: SecretString::from(TOKEN),
            accepted_orgs: Vec::new(),
        }),
        ..with_tokens()
    };
    assert!(!format!("{config:?}").contains(TOKEN));
}
