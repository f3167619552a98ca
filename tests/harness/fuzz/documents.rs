//! What people write, and what GitHub sends: flocks, configurations, notebooks, webhooks.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use mobu_coordinator::api::{GithubRefresh, fuzzing as api};
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::validation::ValidationErrors;
use mobu_fleet::runtime::config::{Config, Flags, Role, Sources, parse_yaml};
use mobu_worker::fuzzing as worker;
use serde_json::{Value, json};
use sha2::Sha256;

use super::secret::{SECRET, is_hidden, keeps_it};
use super::{Form, Target, promise, text};

/// Options of a flock behind which a secret may be.
pub(super) const SECRET_OPTIONS: &[&str] = &[
    "headers",
    "repo_url",
    "lfs_read_url",
    "lfs_write_url",
    "url",
    "query",
    "body",
    "json",
];

/// Keys of a configuration behind which a secret is.
const SECRET_KEYS: &[&str] = &[
    "amqpUrl",
    "authTokens",
    "gafaelfawrToken",
    "alertHook",
    "mobuSentryDsn",
    "webhookSecret",
    "privateKey",
    "saslPassword",
    "registryUrl",
    "headers",
    "repo_url",
    "lfs_write_url",
    "url",
];

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "flock_json",
        form: Form::Json,
        seeds: || flocks().iter().map(|flock| flock.to_string().into_bytes()).collect(),
        words: &[
            "per_replica",
            "across_replicas",
            "EmptyLoop",
            "HTTPRunner",
            "NotebookRunnerList",
            "weekly",
            "DEBUG",
        ],
        check: flock_json,
    },
    Target {
        name: "flock_yaml",
        form: Form::Lines,
        seeds: || flocks().iter().map(|flock| yaml(flock).into_bytes()).collect(),
        words: &["&a", "*a", "<<: *a", "!!str", "|", ">", "---", "? ", "- ", "{", "["],
        check: flock_yaml,
    },
    Target {
        name: "config_yaml",
        form: Form::Lines,
        seeds: || {
            CONFIGURATIONS
                .iter()
                .map(|text| text.replace("SECRET", SECRET).into_bytes())
                .collect()
        },
        words: &[
            "&a",
            "*a",
            "<<: *a",
            "!!binary",
            "|",
            ">",
            "---",
            "token",
            "none",
            "header",
            "127.0.0.1:0",
            "[::1]:80",
        ],
        check: configuration,
    },
    Target {
        name: "webhook",
        form: Form::Lines,
        seeds: webhooks,
        words: &[
            "sign: yes",
            "x-hub-signature: sha1=00",
            "refs/heads/",
            "refs/tags/v1",
            "application/json",
            "payload=",
        ],
        check: webhook,
    },
    Target {
        name: "mobu_yaml",
        form: Form::Lines,
        seeds: || {
            [
                "exclude_dirs:\n  - a/b\n  - ./c\ncollection_rules:\n  - type: intersect_union_of\n    patterns: ['**/x*.ipynb', 'y/[!a-z]?']\n  - type: exclude_union_of\n    patterns:\n      - z/**\n",
                "exclude_dirs: []\n",
                "{\"exclude_dirs\": [\"a\"]}",
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
        },
        words: &["&a", "*a", "intersect_union_of", "**", "..", "/"],
        check: |input| match worker::repository_config(input) {
            Ok(()) => Ok(()),
            Err(error) => promise(!error.is_empty(), || "an error without a word".to_owned()),
        },
    },
    Target {
        name: "notebook",
        form: Form::Json,
        seeds: || {
            let cell =
                json!({ "cell_type": "code", "id": "a-1", "source": ["print(1)\n", "2"], "outputs": [{ "data": {} }] });
            let markdown = json!({ "cell_type": "markdown", "source": "# x" });
            let metadata = json!({ "mobu": { "required_applications": ["tap"] }, "kernelspec": { "name": "lsst" } });
            let whole = json!({ "cells": [cell, markdown, { "cell_type": "code", "source": "x" }], "metadata": metadata, "nbformat": 4 });
            vec![
                whole.to_string().into_bytes(),
                br#"{"cells":[{"cell_type":"code","source":"1","x":NaN}]}"#.to_vec(),
            ]
        },
        words: &["code", "NaN", "-Infinity", "source"],
        check: |input| match worker::notebook(input) {
            Ok(_) => Ok(()),
            Err(error) => promise(!error.is_empty(), || "an error without a word".to_owned()),
        },
    },
];

/// Returns one flock of each kind, with a secret wherever one may be.
pub(super) fn flocks() -> Vec<Value> {
    let flock = |name: &str, business: Value| {
        json!({
            "name": name, "count": 2, "start_batch_size": 1, "start_batch_wait": "1m30s",
            "user_spec": { "username_prefix": "bot-mobu-x", "uid_start": 1000, "groups": [{ "name": "g", "id": 7 }] },
            "scopes": ["exec:notebook"], "lease": 60, "duration": "1h", "spread": "per_replica", "business": business,
        })
    };
    let repository = format!("https://somebody:{SECRET}@git.example/r.git");
    let http = json!({ "type": "HTTPRunner", "restart": true, "options": {
        "idle_time": 1.5, "order": "random", "cookies": false, "authenticate": "bearer",
        "requests": [{
            "method": "POST", "url": format!("https://u:{SECRET}@api.example/v1/{{{{username}}}}"), "query": { "page": "1" },
            "headers": { "Authorization": format!("Bearer {SECRET}"), "X-Request": "{{uuid}}" },
            "json": { "name": "{{instance_id}}", "list": [1, 2.5, null] }, "timeout": "5s",
            "expect": { "status": [200, 201], "header": { "etag": null }, "body_contains": "x", "body_matches": "[0-9]+", "json": { "/a/0": 1 } },
        }],
    } });
    let notebooks = json!({ "type": "NotebookRunnerCounting", "options": {
        "repo_url": repository, "repo_ref": "main", "max_executions": 3, "exclude_dirs": ["a"], "debug": true,
        "image": { "class": "latest-weekly", "size": "Small", "debug": false }, "url_prefix": "/nb/", "get_node": true,
        "collection_rules": [{ "type": "intersect_union_of", "patterns": ["**/*.ipynb"] }],
    } });
    let lfs = json!({ "type": "GitLFS", "options": {
        "lfs_read_url": "https://lfs.example/r", "lfs_write_url": format!("https://u:{SECRET}@lfs.example/w"),
    } });
    let tap =
        json!({ "type": "TAPQueryRunner", "options": { "queries": ["SELECT 1"], "sync": true, "query_timeout": 30 } });
    let mut users = flock(
        "users",
        json!({ "type": "EmptyLoop", "options": { "log_level": "debug" } }),
    );
    users["users"] = json!([{ "username": "bot-mobu-a", "uidnumber": 1 }, { "username": "bot-mobu-b", "groups": [{ "name": "g", "id": 1 }] }]);
    users["user_spec"] = Value::Null;
    vec![
        flock("empty", json!({ "type": "EmptyLoop" })),
        flock("http", http),
        flock("notebooks", notebooks),
        flock("lfs", lfs),
        flock("tap", tap),
        flock(
            "sets",
            json!({ "type": "TAPQuerySetRunner", "options": { "query_set": "dp0.2" } }),
        ),
        flock(
            "python",
            json!({ "type": "NubladoPythonLoop", "options": { "code": "print(1)", "max_executions": 25 } }),
        ),
        users,
    ]
}

/// Writes JSON as YAML in lines, so that these can be broken.
fn yaml(value: &Value) -> String {
    fn append(value: &Value, indent: usize, out: &mut String) {
        let space = " ".repeat(indent);
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    write!(out, "\n{space}{key}:").expect("a String takes everything");
                    append(value, indent + 2, out);
                }
            }
            Value::Array(items) if !items.is_empty() => {
                for item in items {
                    write!(out, "\n{space}-").expect("a String takes everything");
                    append(item, indent + 2, out);
                }
            }
            other => write!(out, " {other}").expect("a String takes everything"),
        }
    }
    let mut out = String::new();
    append(value, 0, &mut out);
    out.trim_start().to_owned() + "\n"
}

fn flock_json(input: &[u8]) -> Result<(), String> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    match api::json_body(&headers, input) {
        Ok(value) => a_flock(&value),
        // The body as a whole is not repeated to a log.
        Err(error) => keeps_it("the error", &error),
    }
}

/// A flock is taken as it is written down again, or refused with places.
fn a_flock(value: &Value) -> Result<(), String> {
    match FlockConfig::parse(value) {
        Ok(flock) => {
            let echo = flock.echo().to_string();
            let again: FlockConfig =
                serde_json::from_str(&echo).map_err(|error| format!("its echo is refused: {error}: {echo}"))?;
            promise(again == flock, || {
                format!("its echo means something else: {flock:?} and {again:?}")
            })?;
            promise(*again.echo() == *flock.echo(), || {
                format!("the echo of its echo is another: {echo} and {}", again.echo())
            })?;
            drop(flock.shown());
            Ok(())
        }
        Err(errors) => {
            placed(&errors)?;
            if is_hidden(value, SECRET_OPTIONS) {
                keeps_it("the error", &errors.to_string())?;
            }
            // What is answered is bounded by what was sent.
            let answer = serde_json::to_string(&errors).map_err(|error| error.to_string())?;
            let sent = value.to_string().len();
            promise(answer.len() <= 400_000 + 60 * sent, || {
                format!("{} bytes are answered to {sent} bytes", answer.len())
            })
        }
    }
}

fn placed(errors: &ValidationErrors) -> Result<(), String> {
    let all = errors
        .0
        .iter()
        .all(|item| !item.loc.is_empty() && !item.msg.is_empty() && !item.kind.is_empty());
    promise(all && !errors.0.is_empty(), || {
        format!("a mistake without a place: {errors}")
    })
}

fn flock_yaml(input: &[u8]) -> Result<(), String> {
    let Some(text) = text(input) else { return Ok(()) };
    match parse_yaml("flock.yaml", text) {
        Ok(value) => a_flock(&value),
        Err(mistake) => {
            promise(mistake.place().starts_with("flock.yaml"), || {
                format!("a mistake without a place: {mistake}")
            })?;
            keeps_it("the error", &mistake.to_string())
        }
    }
}

/// What a configuration looks like: one with everything, and one for a laptop.
const CONFIGURATIONS: [&str; 2] = [
    r#"fleet: test
amqpUrl: amqp://mobu:SECRET@rabbit.example:5672/vhost
replicaCount: 3
instanceId: "1"
httpBind: 127.0.0.1:0
pathPrefix: /mobu
auth: token
authTokens: [SECRET-SECRET, "SECRETxxxxxxxx"]
tokens: gafaelfawr
gafaelfawrToken: gt-key.SECRET
gafaelfawrTimeout: 20s
discovery:
  applications: [tap]
  services:
    internal:
      gafaelfawr:
        url: https://data.example/auth
        versions: {v1: {url: "https://data.example/auth/api/v1"}}
logLevel: INFO
logProfile: production
applyTimeout: 30s
drainTimeout: 25
slackAlerts: true
alertHook: https://hooks.example/SECRET
mobuSentryDsn: https://SECRET@sentry.example/1
sentryTracesSampleConfig: errors
githubRefreshApp:
  webhookSecret: SECRET
  acceptedGithubOrgs: [lsst-sqre]
githubCiApp:
  id: 7
  privateKey: |
    -----BEGIN RSA PRIVATE KEY-----
    SECRET
    -----END RSA PRIVATE KEY-----
  webhookSecret: SECRET
  users: [{username: bot-mobu-ci-1}]
  scopes: ["exec:notebook"]
metrics:
  enabled: true
  application: mobu
  events: {topicPrefix: a.b}
  schemaManager: {registryUrl: "http://u:SECRET@registry:8081"}
  kafka:
    bootstrapServers: kafka:9092
    securityProtocol: SASL_SSL
    saslMechanism: PLAIN
    saslUsername: mobu
    saslPassword: SECRET
autostart:
  - name: a
    count: 1
    user_spec: {username_prefix: bot-mobu-a}
    scopes: []
    business:
      type: HTTPRunner
      options:
        requests:
          - url: http://u:SECRET@127.0.0.1:8080/
            headers: {Authorization: Bearer SECRET}
"#,
    include_str!("../../../examples/local.yaml"),
];

thread_local! {
    /// A file of this thread's own, in memory where the system has such a place.
    static FILE: RefCell<Option<(tempfile::TempDir, PathBuf)>> = const { RefCell::new(None) };
}

/// Everything that a process may be given, read as it reads it: nothing that is said of it has a secret.
fn configuration(input: &[u8]) -> Result<(), String> {
    let path = FILE.with_borrow_mut(|file| {
        if file.is_none() {
            let memory = PathBuf::from("/dev/shm");
            let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
            let folder = tempfile::Builder::new().prefix("fuzz-").tempdir_in(parent).ok()?;
            let path = folder.path().join("config.yaml");
            *file = Some((folder, path));
        }
        file.as_ref().map(|(_, path)| path.clone())
    });
    let path = path.ok_or("there is no place for a file")?;
    std::fs::write(&path, input).map_err(|error| error.to_string())?;
    let role = [Role::Coordinator, Role::Worker, Role::Local][input.len() % 3];
    // A line of the file is a variable too, so that those are broken with it.
    let line = text(input)
        .and_then(|text| text.lines().nth(input.len() % 50))
        .unwrap_or_default();
    let (_, value) = line.split_once(':').unwrap_or(("", line));
    let names = [
        "MOBU_AMQP_URL",
        "MOBU_AUTH_TOKENS",
        "MOBU_APPLY_TIMEOUT",
        "MOBU_REPLICA_COUNT",
        "MOBU_LOG_LEVEL",
    ];
    let name = names[input.len() % names.len()];
    let secret = name == "MOBU_AMQP_URL" || name == "MOBU_AUTH_TOKENS";
    let variable = if secret {
        format!("{}{SECRET}", value.trim())
    } else {
        value.trim().to_owned()
    };
    let variables = [
        (OsString::from("MOBU_GAFAELFAWR_TOKEN"), OsString::from(SECRET)),
        (OsString::from(name), OsString::from(&variable)),
    ];
    let flags = Flags {
        config: Some(path),
        ..Flags::default()
    };
    let said = match Config::load(Sources { role, flags, variables }) {
        Ok(loaded) => format!("{loaded:?}"),
        Err(error) => {
            let said = error.to_string();
            promise(!said.trim().is_empty(), || "it is refused without a word".to_owned())?;
            said
        }
    };
    let is_free = secret || !variable.contains(&SECRET[4..10]);
    let kept = keeps_it("what is said of it", &said);
    if kept.is_ok() || !is_free {
        return Ok(());
    }
    match text(input).map(|text| parse_yaml("x", text)) {
        Some(Ok(value)) if !is_hidden(&value, SECRET_KEYS) => Ok(()),
        _ => kept,
    }
}

/// Secret of the app in the tests of webhooks.
const APP: &str = "a secret of the app";

fn webhooks() -> Vec<Vec<u8>> {
    let push = json!({
        "ref": "refs/heads/tickets/DM-1", "before": "0", "after": "1", "installation": { "id": 5 }, "sender": { "login": "rra" },
        "organization": { "login": "lsst-sqre" },
        "repository": {
            "html_url": "https://github.com/lsst-sqre/r", "name": "r", "full_name": "lsst-sqre/r", "owner": { "login": "lsst-sqre" },
            "default_branch": "main", "branches_url": "x", "contents_url": "x", "trees_url": "x", "blobs_url": "x",
        },
    });
    let head = "sign: yes\nx-github-event: push\nx-github-delivery: 5b1c\ncontent-type: application/json";
    let form =
        "sign: yes\nx-github-event: push\nx-github-delivery: 5b1c\ncontent-type: application/x-www-form-urlencoded";
    let payload = serde_json::to_string_pretty(&push).unwrap_or_default();
    vec![
        format!("{head}\n\n{payload}").into_bytes(),
        format!("{form}\n\npayload={push}").into_bytes(),
        format!("{}\n\n{push}", head.replace("push", "ping")).into_bytes(),
        format!(
            "x-hub-signature-256: sha256={}\n{}\n\n{push}",
            "0".repeat(64),
            head.replace("sign: yes\n", "")
        )
        .into_bytes(),
    ]
}

/// Headers, an empty line, a body. One header is ours: it has the body signed.
fn webhook(input: &[u8]) -> Result<(), String> {
    let split = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (head, body) = input.split_at(split);
    let body = body.get(2..).unwrap_or_default();
    let mut headers = HeaderMap::new();
    let mut signed = false;
    for line in head.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        if line == b"sign: yes" {
            signed = true;
        } else if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.trim_ascii()),
            HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii()),
        ) {
            headers.append(name, value);
        }
    }
    if signed {
        let mac = Hmac::<Sha256>::new_from_slice(APP.as_bytes()).map_err(|error| error.to_string())?;
        let code = mac.chain_update(body).finalize().into_bytes();
        let mut hex = String::new();
        for byte in code {
            write!(hex, "{byte:02x}").expect("a String takes everything");
        }
        let value = HeaderValue::from_str(&format!("sha256={hex}")).map_err(|error| error.to_string())?;
        headers.insert("x-hub-signature-256", value);
    }
    let app = GithubRefresh {
        webhook_secret: APP.to_owned().into(),
        accepted_orgs: vec!["lsst-sqre".to_owned()],
    };
    match api::webhook(&app, &headers, body) {
        Err(401) => promise(!signed, || "what was signed is not known".to_owned()),
        Err(status) => promise(signed && matches!(status, 400 | 403), || {
            format!("status {status}, signed: {signed}")
        }),
        Ok(refresh) => {
            promise(signed, || "what was not signed is accepted".to_owned())?;
            promise(
                refresh.is_none_or(|(url, branch)| url.strip_suffix(".git").is_some() && !branch.is_empty()),
                || "a refresh of nothing".to_owned(),
            )
        }
    }
}
