//! A monkey's log through the coordinator.

use axum::body::BodyDataStream;
use futures_lite::StreamExt as _;

use super::*;

const LOG: &str = "/mobu/flocks/lambs/monkeys/bot-mobu-lamb-instance-1-1/log";
const USER: [(&str, &str); 1] = [("x-auth-request-user", "rra")];

async fn stage() -> Stage {
    let stage = Stage::of(2).await;
    stage.put(&lambs("lambs", 1)).await;
    stage
}

#[tokio::test(start_paused = true)]
async fn a_log_is_sent_whole_with_mobus_headers() {
    let stage = stage().await;
    let answer = stage.get(LOG).await.expect(200, "a line\n");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        (
            answer.header("x-log-offset"),
            answer.header("x-log-end"),
            answer.header("content-length")
        ),
        ("0", "7", "")
    );
    let disposition = answer.header("content-disposition");
    assert!(
        disposition.starts_with("attachment; filename=\"lambs-bot-mobu-lamb-instance-1-1-20"),
        "{disposition}"
    );
    assert!(disposition.ends_with("+00:00\""), "{disposition}");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_continues_where_the_last_answer_ended() {
    let stage = stage().await;
    stage.mood(1, |mood| mood.log = "one\ntwo\n".to_owned());
    stage.get(&format!("{LOG}?offset=4")).await.expect(200, "two\n");
    stage.get(&format!("{LOG}?offset=8")).await.expect(200, "");
    stage.mood(1, |mood| mood.log_begins = 4);
    let answer = stage.get(LOG).await.expect(200, "two\n");
    assert_eq!(answer.header("x-log-offset"), "4");
    let answer = stage.get(&format!("{LOG}?offset=-1")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["detail"][0]["loc"]),
        (422, &json!(["query", "offset"]))
    );
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_log_is_asked_for_as_the_client_takes_it_and_ends_where_it_ended_at_first() {
    let stage = stage().await;
    let log = "é, a line of some length\n".repeat(60_000);
    stage.mood(1, |mood| mood.log.clone_from(&log));
    let response = stage.begin("GET", LOG, &USER, "").await;
    assert_eq!(response.headers()["x-log-end"], log.len().to_string());
    let mut body: BodyDataStream = response.into_body().into_data_stream();
    let mut got = body.next().await.unwrap().unwrap().to_vec();
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.mood(1, |mood| {
        assert_eq!(mood.log_parts, 1, "nothing was asked for ahead of the client");
        mood.log.push_str("later\n");
    });
    while let Some(part) = body.next().await {
        got.extend(part.unwrap());
    }
    assert!(got == log.as_bytes());
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_moves_on_under_a_slow_client_is_cut_off() {
    let stage = stage().await;
    stage.mood(1, |mood| mood.log = "x".repeat(1_000_000));
    let response = stage.begin("GET", LOG, &USER, "").await;
    stage.mood(1, |mood| mood.log_begins = 900_000);
    let mut body = response.into_body().into_data_stream();
    assert!(body.next().await.unwrap().is_ok());
    assert!(body.next().await.unwrap().is_err());
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_falls_silent_cuts_the_log_off() {
    let stage = stage().await;
    stage.mood(1, |mood| mood.log = "x".repeat(1_000_000));
    let response = stage.begin("GET", LOG, &USER, "").await;
    stage.mood(1, |mood| mood.answers = false);
    let mut body = response.into_body().into_data_stream();
    assert!(body.next().await.unwrap().is_ok());
    assert!(body.next().await.unwrap().is_err());
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn logs_that_are_not_kept_are_told_before_anything_else() {
    let stage = Stage::with(ApiConfig {
        log_monkeys: false,
        ..config(1)
    })
    .await;
    let answer = stage.get("/mobu/flocks/nope/monkeys/zzz/log").await;
    answer.expect(
        404,
        r#"{"detail":[{"msg":"Mobu is not configured to retain monkey logs","type":"mobu_not_retaining_logs"}]}"#,
    );
    stage.finish().await;
}
