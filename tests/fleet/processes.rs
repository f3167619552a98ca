//! Real processes on a real broker: what a user of the fleet sees.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleet_tests::broker::{shared_broker, unique_fleet};
use fleet_tests::fleet::{ProcessFleet, answer};
use fleet_tests::process::Process;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::Command;

const CONFIG: &str = "
tokens: local
githubRefreshApp:
  webhookSecret: not-a-secret-at-all
  acceptedGithubOrgs: [rubin]
";

async fn fleet(replicas: u32) -> ProcessFleet {
    ProcessFleet::start(shared_broker(), unique_fleet(), replicas, CONFIG)
        .await
        .unwrap()
}

fn flock(name: &str, business: &Value) -> Value {
    json!({
        "name": name, "count": 4, "user_spec": {"username_prefix": format!("bot-mobu-{name}")},
        "scopes": ["exec:notebook"], "business": business,
    })
}

fn empty(name: &str) -> Value {
    flock(name, &json!({"type": "EmptyLoop", "options": {"idle_time": 1}}))
}

/// A flock whose repository nobody serves: its monkeys fail at once, and nothing leaves this machine.
fn notebooks(name: &str, kind: &str, reference: &str) -> Value {
    let options = json!({"repo_url": "http://127.0.0.1:1/rubin/notebooks.git", "repo_ref": reference});
    flock(name, &json!({"type": kind, "options": options}))
}

/// The names that the seed's rule gives to the monkeys of a flock of four on so many replicas, with their replica.
fn names(flock: &str, replicas: u32) -> Vec<(String, String)> {
    let of_replica = |id: u32| (1..=4).map(move |i| (format!("bot-mobu-{flock}-instance-{id}-{i}"), id.to_string()));
    (0..replicas).flat_map(of_replica).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flock_of_four_on_three_replicas_is_twelve_monkeys_that_come_back_after_a_kill() -> Result<()> {
    let mut fleet = fleet(3).await;
    let data = fleet.put_flock(&empty("lambs")).await?;
    assert_eq!(data["monkeys"].as_array().map(Vec::len), Some(12));
    assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 3));

    fleet.workers.get_mut(&1).context("replica 1 runs")?.kill().await?;
    let of_one = |state: &'static str| move |replica: &Value| replica["state"] == state;
    fleet
        .wait_for("/replicas/1", "the kill to be noticed", of_one("silent"))
        .await?;
    let partial = fleet.get("/flocks/lambs").await?;
    assert_eq!(
        partial["monkeys"].as_array().map(Vec::len),
        Some(8),
        "the others are unaffected: {partial}"
    );
    fleet.start_worker(1)?;
    fleet.wait_converged().await?;
    assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 3));

    let stopped = fleet.call(Method::DELETE, "/flocks/lambs").send().await?;
    assert_eq!(stopped.status(), StatusCode::NO_CONTENT);
    assert_eq!(fleet.get("/flocks").await?, json!([]));
    fleet.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_that_two_replicas_would_share_are_refused_before_anything_starts() -> Result<()> {
    let fleet = fleet(2).await;
    let spec = |spec: Value| {
        let mut flock = empty("f");
        flock["user_spec"] = spec;
        flock
    };
    let mut users = empty("f");
    users["user_spec"] = Value::Null;
    users["users"] = (1..=4).map(|i| json!({"username": format!("bot-mobu-{i}")})).collect();
    for (flock, place) in [
        (users, json!(["body", "users"])),
        (
            spec(json!({"username_prefix": "bot-mobu-f", "uid_start": 1})),
            json!(["body", "user_spec", "uid_start"]),
        ),
        (
            spec(json!({"username_prefix": "bot-mobu-f", "gid_start": 1})),
            json!(["body", "user_spec", "gid_start"]),
        ),
        (
            spec(json!({"username_prefix": "bot-mobu--f"})),
            json!(["body", "user_spec", "username_prefix"]),
        ),
    ] {
        let refused = fleet.call(Method::PUT, "/flocks").json(&flock).send().await?;
        let error = answer(refused, 422).await?;
        assert_eq!(error["detail"][0]["loc"], place, "{error}");
    }
    assert_eq!(fleet.get("/flocks").await?, json!([]));
    assert_eq!(fleet.get("/fleet").await?["revision"], 0, "nothing was changed");
    fleet.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_refreshes_the_matching_flocks_on_every_replica_and_no_other() -> Result<()> {
    let fleet = fleet(3).await;
    let flocks = [
        notebooks("counting", "NotebookRunnerCounting", "u/me/branch"),
        notebooks("list", "NotebookRunnerList", "u/me/branch"),
        notebooks("other", "NotebookRunnerCounting", "main"),
        empty("empty"),
    ];
    for flock in &flocks {
        fleet.put_flock(flock).await?;
    }
    let before = fleet.get("/fleet").await?["revision"].as_u64();
    let push = json!({
        "ref": "refs/heads/u/me/branch", "before": "0".repeat(40), "after": "1".repeat(40),
        "installation": {"id": 1}, "organization": {"login": "rubin"},
        "repository": {
            "name": "notebooks", "full_name": "rubin/notebooks", "owner": {"login": "rubin"}, "default_branch": "main",
            "html_url": "http://127.0.0.1:1/rubin/notebooks", "branches_url": "b", "contents_url": "c", "trees_url": "t",
            "blobs_url": "b",
        },
    })
    .to_string();
    let deliver = |signature: String| {
        fleet
            .call(Method::POST, "/github/refresh/webhook")
            .header("Content-Type", "application/json")
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
            .header("X-Hub-Signature-256", signature)
            .body(push.clone())
            .send()
    };
    assert_eq!(
        deliver("sha256=00".to_owned()).await?.status(),
        StatusCode::UNAUTHORIZED
    );
    let signature = signature("not-a-secret-at-all", &push).await?;
    for _ in 0..2 {
        // GitHub delivers again if it is not sure; that changes nothing.
        assert_eq!(answer(deliver(signature.clone()).await?, 202).await?, Value::Null);
    }
    let refreshing = |flock: &Value| {
        let monkeys = flock["monkeys"].as_array().map_or(&[][..], Vec::as_slice);
        monkeys
            .iter()
            .filter(|monkey| monkey["business"]["refreshing"] == true)
            .count()
    };
    for flock in ["counting", "list"] {
        fleet
            .wait_for(&format!("/flocks/{flock}"), "the refresh", |flock| {
                refreshing(flock) == 12
            })
            .await?;
    }
    for flock in ["other", "empty"] {
        assert_eq!(refreshing(&fleet.get(&format!("/flocks/{flock}")).await?), 0, "{flock}");
    }
    let one_more = |fleet: &Value| fleet["revision"].as_u64() == before.map(|before| before + 1);
    fleet.wait_for("/fleet", "one revision, not two", one_more).await?;
    fleet.finish().await
}

/// Signs a body as GitHub does, by the program that everybody has.
async fn signature(secret: &str, body: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), body)?;
    let digest = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret, "-r"])
        .arg(file.path())
        .output()
        .await?;
    ensure!(digest.status.success(), "openssl signs");
    let text = String::from_utf8(digest.stdout)?;
    Ok(format!("sha256={}", text.split(' ').next().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_published_with_pika_does_what_one_over_http_does() -> Result<()> {
    let fleet = fleet(3).await;
    let specification = fleet.folder.path().join("flock.yaml");
    std::fs::write(&specification, empty("lambs").to_string())?;
    let publish = |arguments: &'static [&'static str]| {
        let mut command = python(&root().join("examples/publish.py"));
        command
            .arg("--url")
            .arg(&fleet.broker)
            .arg("--fleet")
            .arg(fleet.name.as_str())
            .args(arguments);
        command
    };
    let started = publish(&["start", "--wait"]).arg(&specification).output().await?;
    ensure!(started.status.success(), "{started:?}");
    assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 3));
    let refreshed = publish(&["refresh", "--wait", "lambs"]).output().await?;
    ensure!(refreshed.status.success(), "{refreshed:?}");
    let flock = fleet.get("/flocks/lambs").await?;
    let monkeys = flock["monkeys"].as_array().context("flock data has monkeys")?;
    assert!(
        monkeys.iter().all(|monkey| monkey["business"]["refreshing"] == true),
        "{flock}"
    );
    let refused = publish(&["stop", "--wait", "nobody"]).output().await?;
    ensure!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stdout).contains("Flock nobody not found"),
        "{refused:?}"
    );
    let stopped = publish(&["stop", "--wait", "lambs"]).output().await?;
    ensure!(stopped.status.success(), "{stopped:?}");
    assert_eq!(fleet.get("/flocks").await?, json!([]));
    let revisions = fleet.get("/revisions").await?;
    assert_eq!(revisions[0]["source"], "amqp", "{revisions}");
    fleet.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn monkeyflocker_gets_what_it_expects() -> Result<()> {
    // Stands in for mobu's own client, which no registry has: it makes the same requests and reads the same fields.
    let fleet = fleet(2).await;
    let specification = fleet.folder.path().join("flock.json");
    std::fs::write(&specification, empty("flocked").to_string())?;
    let output = fleet.folder.path().join("a/report");
    let monkeyflocker = |arguments: &[&str]| {
        let mut command = python(&root().join("tests/fleet/monkeyflocker.py"));
        command.arg(fleet.base()).args(arguments);
        command
    };
    for arguments in [
        vec!["start", specification.to_str().context("a path is text")?],
        vec!["refresh", "flocked"],
        vec!["report", "flocked", output.to_str().context("a path is text")?],
        vec!["stop", "flocked"],
    ] {
        let done = monkeyflocker(&arguments).output().await?;
        ensure!(done.status.success(), "{arguments:?}: {done:?}");
    }
    for (name, _) in names("flocked", 2) {
        let stats: Value = serde_json::from_str(&std::fs::read_to_string(output.join(format!("{name}_stats.json")))?)?;
        assert_eq!(stats["name"], name);
        let log = std::fs::read_to_string(output.join(format!("{name}_log.txt")))?;
        assert!(log.contains("Starting up..."), "{log}");
    }
    fleet.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_an_instance_id_runs_nothing_and_ends_with_an_error() -> Result<()> {
    let mut fleet = fleet(2).await;
    fleet.put_flock(&empty("lambs")).await?;
    let mut variables = fleet.environment();
    variables.push(("MOBU_INSTANCE_ID", "1".to_owned()));
    let mut second = Process::start("mobu-worker", &[], &variables, fleet.folder.path())?;
    let status = second.wait().await?;
    assert!(!status.success());
    assert!(second.log().contains("instance ID 1"), "{}", second.log());
    assert!(
        !second.log().contains("lambs"),
        "it did not even look at a flock: {}",
        second.log()
    );
    assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 2));
    // The first one was not disturbed.
    assert!(
        fleet
            .workers
            .get_mut(&1)
            .context("replica 1 runs")?
            .terminate()
            .await?
            .success()
    );
    fleet.start_worker(1)?;
    fleet.wait_converged().await?;
    fleet.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standby_takes_over_with_every_accepted_change_and_the_load_does_not_notice() -> Result<()> {
    let mut fleet = fleet(2).await;
    fleet.put_flock(&empty("lambs")).await?;
    fleet.start_coordinator(1).await?;
    fleet
        .wait_for("/fleet", "the standby to know", |fleet| fleet["revision"] == 1)
        .await?;
    let refused = fleet.call(Method::PUT, "/flocks").json(&empty("more")).send().await?;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(
        fleet.monkeys("lambs").await?,
        names("lambs", 2),
        "a standby answers reads"
    );

    let mut first = fleet.coordinators.remove(&0).context("the first coordinator runs")?;
    first.kill().await?;
    let killed = Instant::now();
    fleet
        .wait_for("/fleet", "the takeover", |fleet| fleet["coordinator"]["active"] == true)
        .await?;
    let taken = fleet.get("/fleet").await?;
    assert_eq!(
        (&taken["epoch"], &taken["revision"]),
        (&json!(2), &json!(1)),
        "after {:?}",
        killed.elapsed()
    );
    fleet.put_flock(&empty("more")).await?;
    let sessions = |replicas: &Value| {
        replicas.as_array().map(|all| {
            all.iter()
                .map(|one| one["flocks"]["lambs"]["generation"].clone())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(
        sessions(&fleet.get("/replicas").await?),
        Some(vec![json!(1), json!(1)]),
        "nothing was restarted"
    );
    fleet.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_alone_comes_back_with_everything() -> Result<()> {
    let mut fleet = fleet(2).await;
    fleet.put_flock(&empty("lambs")).await?;
    fleet.coordinators.get_mut(&0).context("it runs")?.kill().await?;
    fleet.start_coordinator(0).await?;
    fleet.wait_converged().await?;
    assert_eq!(fleet.monkeys("lambs").await?, names("lambs", 2));
    let summary = fleet.get("/flocks/lambs/summary").await?;
    assert_eq!(summary["monkey_count"], 8);
    tokio::time::timeout(Duration::from_secs(30), async {
        while fleet.get("/flocks/lambs/summary").await?["success_count"] == summary["success_count"] {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    })
    .await
    .context("the monkeys go on")??;
    fleet.finish().await
}

/// Debian's own Python, which has Debian's pika.
fn python(script: &Path) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(script)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Where the workspace lies.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie below the workspace")
}
