//! What is the same for all routes: `contracts/rest-api.md` 1.1, 1.2 and 8.

use super::*;

const MISSING_USER: &str =
    r#"{"detail":[{"type":"missing","loc":["header","x-auth-request-user"],"msg":"Field required","input":null}]}"#;

#[tokio::test(start_paused = true)]
async fn the_index_is_mobus_to_the_byte() {
    let stage = Stage::of(1).await;
    let metadata = r#"{"name":"mobu","version":"19.0.0","description":"Simulate user load for Science Platform testing","repository_url":"https://github.com/lsst-sqre/mobu","documentation_url":"https://mobu.lsst.io"}"#;
    let answer = stage.send("GET", "/", &[], "").await.expect(200, metadata);
    assert_eq!(answer.header("content-type"), "application/json");
    let index = format!(r#"{{"metadata":{metadata}}}"#);
    stage.send("GET", "/mobu/", &[], "").await.expect(200, &index);
    stage
        .send("GET", "/healthz", &[], "")
        .await
        .expect(200, r#"{"status":"ok"}"#);
    stage
        .send("GET", "/readyz", &[], "")
        .await
        .expect(200, r#"{"status":"ok"}"#);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn paths_and_methods_that_do_not_exist_are_told_as_by_mobus_router() {
    let stage = Stage::of(1).await;
    for path in [
        "/nope",
        "/mobu/nope",
        "/mobu/flocks/a/b",
        "//",
        "//mobu/flocks",
        "/mobu//flocks",
        "/mobu/run",
        "/mobu/flocks//summary",
        "/mobu/../mobu/flocks",
        "/mobu/%2e%2e/mobu/flocks",
        "/mobu%2Fflocks",
        "/mobu/github/refresh/webhook",
        "/MOBU/flocks",
        "/mobu/flocks/%ff",
    ] {
        let answer = stage.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.text),
            (404, r#"{"detail":"Not Found"}"#),
            "{path}"
        );
    }
    for (method, path, allow) in [
        ("HEAD", "/mobu/flocks", "GET"),
        ("HEAD", "/", "GET"),
        ("HEAD", "/mobu/stop", "POST"),
        ("POST", "/mobu/flocks", "GET"),
        ("PUT", "/mobu/flocks/a", "GET"),
        ("GET", "/mobu/flocks/a/refresh", "POST"),
        ("PATCH", "/metrics", "GET"),
        ("OPTIONS", "/mobu/summary", "GET"),
        ("BREW", "/mobu/fleet", "GET"),
    ] {
        let answer = stage.send(method, path, &[], "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("allow")),
            (405, allow),
            "{method} {path}"
        );
        let text = if method == "HEAD" {
            ""
        } else {
            r#"{"detail":"Method Not Allowed"}"#
        };
        assert_eq!(answer.text, text);
    }
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_slash_is_redirected_to_an_absolute_url() {
    let stage = Stage::of(1).await;
    for (path, location) in [
        ("/mobu", "http://example.com/mobu/"),
        ("/mobu/flocks/", "http://example.com/mobu/flocks"),
        ("/mobu/flocks//?a=b", "http://example.com/mobu/flocks?a=b"),
        ("/mobu/flocks/a/summary/", "http://example.com/mobu/flocks/a/summary"),
    ] {
        let answer = stage.send("GET", path, &[], "").await.expect(307, "");
        assert_eq!(answer.header("location"), location);
    }
    let forwarded = [
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "no.example"),
    ];
    let answer = stage.send("GET", "/mobu", &forwarded, "").await;
    assert_eq!(answer.header("location"), "https://example.com/mobu/");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_user_and_a_bad_body_are_told_together() {
    let stage = Stage::of(1).await;
    stage
        .send("GET", "/mobu/flocks", &[], "")
        .await
        .expect(422, MISSING_USER);
    let json = [("content-type", "application/json")];
    let answer = stage.send("PUT", "/mobu/flocks?dry_run=maybe", &json, "{}").await;
    assert_eq!(answer.status, 422);
    let items = answer.json()["detail"].as_array().unwrap().clone();
    let places: Vec<_> = items.iter().map(|item| item["loc"].to_string()).collect();
    assert_eq!(
        places,
        [
            r#"["query","dry_run"]"#,
            r#"["header","x-auth-request-user"]"#,
            r#"["body","name"]"#,
            r#"["body","count"]"#,
            r#"["body","scopes"]"#,
            r#"["body","business"]"#,
        ]
    );
    assert_eq!(answer.header("content-type"), "application/json");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_no_json_objects_get_the_contracts_items() {
    let stage = Stage::of(1).await;
    let user = ("x-auth-request-user", "rra");
    let json = ("content-type", "application/json");
    let not_an_object = |input: &str| {
        format!(
            r#"{{"detail":[{{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":{input}}}]}}"#
        )
    };
    let no_json = |at: usize, error: &str| {
        format!(
            r#"{{"detail":[{{"type":"json_invalid","loc":["body",{at}],"msg":"JSON decode error","input":{{}},"ctx":{{"error":"{error}"}}}}]}}"#
        )
    };
    let missing = r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#;
    let deep = "[".repeat(100_000);
    for (header, body, expected) in [
        (json, "", missing.to_owned()),
        (json, "null", missing.to_owned()),
        (json, "[]", not_an_object("[]")),
        (
            ("content-type", "application/x-www-form-urlencoded"),
            "{}",
            not_an_object(r#""{}""#),
        ),
        (("x-nothing", ""), r#"{"a":1}"#, not_an_object(r#""{\"a\":1}""#)),
        (("content-type", "text/json"), "é", not_an_object(r#""é""#)),
        (
            json,
            "{",
            no_json(1, "Expecting property name enclosed in double quotes"),
        ),
        (json, "[1 2]", no_json(3, "Expecting ',' delimiter")),
        (
            ("content-type", "application/geo+json; charset=utf-8"),
            "nope",
            no_json(0, "Expecting value"),
        ),
        (json, r#"{"count": 1e400}"#, no_json(14, "number out of range")),
        (json, &deep, no_json(127, "recursion limit exceeded")),
    ] {
        let answer = stage
            .send("PUT", "/mobu/flocks", &[user, header], body.to_owned())
            .await;
        let start: String = body.chars().take(20).collect();
        assert_eq!(
            (answer.status.as_u16(), answer.text),
            (422, expected),
            "{header:?} {start}"
        );
    }
    let answer = stage.send("PUT", "/mobu/flocks", &[user, json], &b"{\"\xff"[..]).await;
    answer.expect(400, r#"{"detail":"There was an error parsing the body"}"#);
    stage.get("/mobu/flocks").await.expect(200, "[]");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_above_the_limit_is_refused_announced_or_not() {
    let stage = Stage::with(ApiConfig {
        body_limit: 100,
        ..config(1)
    })
    .await;
    let headers = [("x-auth-request-user", "rra"), ("content-type", "application/json")];
    let expected = r#"{"detail":"The body is larger than 100 bytes"}"#;
    let answer = stage
        .send("PUT", "/mobu/flocks", &headers, "x".repeat(101))
        .await
        .expect(413, expected);
    assert_eq!(answer.header("connection"), "close");
    let announced = [headers[0], headers[1], ("content-length", "99999999999999")];
    stage
        .send("PUT", "/mobu/flocks", &announced, "x")
        .await
        .expect(413, expected);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let stage = Stage::of(1).await;
    let headers = [("x-auth-request-user", "rra"), ("content-type", "application/json")];
    let body = Body::from_stream(futures_lite::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let answer = stage.send("PUT", "/mobu/flocks", &headers, body).await;
    answer.expect(408, r#"{"detail":"The body did not arrive in time"}"#);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn domain_errors_have_mobus_shape_and_order() {
    let stage = Stage::of(1).await;
    let flock = |name: &str| {
        format!(r#"{{"detail":[{{"msg":"Flock {name} not found","type":"flock_not_found","loc":["path","flock"]}}]}}"#)
    };
    for (method, path) in [
        ("GET", "/mobu/flocks/nope"),
        ("DELETE", "/mobu/flocks/nope"),
        ("POST", "/mobu/flocks/nope/refresh"),
        ("GET", "/mobu/flocks/nope/monkeys"),
        ("GET", "/mobu/flocks/nope/monkeys/zzz"),
        ("GET", "/mobu/flocks/nope/monkeys/zzz/log"),
        ("GET", "/mobu/flocks/nope/summary"),
    ] {
        stage.call(method, path, "").await.expect(404, &flock("nope"));
    }
    stage
        .call("DELETE", "/mobu/flocks/a%2Fb", "")
        .await
        .expect(404, &flock("a/b"));
    stage
        .call("DELETE", "/mobu/flocks/..", "")
        .await
        .expect(404, &flock(".."));
    stage.put(&facts()).await;
    let monkey = r#"{"detail":[{"msg":"Monkey zzz not found","type":"monkey_not_found","loc":["path","monkey"]}]}"#;
    stage.get("/mobu/flocks/facts/monkeys/zzz").await.expect(404, monkey);
    stage
        .get("/mobu/flocks/facts/monkeys/zzz/log")
        .await
        .expect(404, monkey);
    stage.finish().await;
}
