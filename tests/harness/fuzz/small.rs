//! Small things that people write: durations, user names, globs, addresses.

use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::domain::duration::HumanDuration;
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::users::{ReplicaIdentity, range_of, users_of};
use mobu_fleet::link::amqp::AmqpConfig;
use mobu_worker::fuzzing as worker;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::secret::{SECRET, keeps_it};
use super::{Form, Target, promise, text};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "durations",
        form: Form::Text,
        seeds: || {
            [
                "90",
                "1m30s",
                "1 week 2 days 3 hours 4 minutes 5 seconds",
                "1.5",
                "-3",
                "1w",
                "",
                "  7 secs ",
                "999999999 days",
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
        },
        words: &["w", "d", "h", "m", "s", "weeks", "min", "1_0", "e9", "infinity", ".5"],
        check: duration,
    },
    Target {
        name: "user_names",
        form: Form::Json,
        seeds: || {
            let flock = |prefix: &str, count: u64| json!({ "prefix": prefix, "count": count, "uid": 1000, "id": "1", "replicas": 3, "spread": "per_replica" });
            [flock("bot-mobu-x", 11), flock("bot-mobu", 1), flock("bot-mobu-x-", 100)]
                .map(|value| value.to_string().into_bytes())
                .to_vec()
        },
        words: &["per_replica", "across_replicas", "bot-mobu-", "-0", "a.b", "0"],
        check: user_names,
    },
    Target {
        name: "broker_urls",
        form: Form::Text,
        seeds: || {
            let urls = [
                "amqp://mobu:SECRET@rabbit.example:5672/vhost?heartbeat=10",
                "amqps://mobu:12SECRET%2F@[::1]/%2F,amqp://a:SECRET@b?frame_max=8192&channel_max=64",
                "amqp://mobu:SECRET@rabbit",
            ];
            urls.map(|url| url.replace("SECRET", SECRET).into_bytes()).to_vec()
        },
        words: &[
            "?",
            "#",
            "/",
            "@",
            ":",
            ",",
            "amqp://",
            "heartbeat=",
            "12",
            "%",
            "[",
            "]",
        ],
        check: broker_url,
    },
    Target {
        name: "shown_urls",
        form: Form::Text,
        seeds: || {
            let urls = [
                "https://somebody:SECRET@git.example/r.git?token=SECRET#x",
                "ssh://SECRETSECRET@h/r",
                "git@host:r.git",
                "/a/b",
            ];
            urls.map(|url| url.replace("SECRET", SECRET).into_bytes()).to_vec()
        },
        words: &["@", ":", "/", "?", "&", "=", "%40", "%zz", "+"],
        check: shown_url,
    },
    Target {
        name: "globs",
        form: Form::Text,
        seeds: || {
            [
                "**/*.ipynb\na/b/c.ipynb",
                "a/[!x-z]?/**\na/b/c",
                "*a*a*a*a*b\naaaaaaaaaaaaaaaaaaaa",
                "[]]/[[]\n]/[",
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
        },
        words: &["**", "*", "?", "[", "]", "[!", "/", "..", "-", "\n"],
        check: |input| {
            if let Some((pattern, path)) = text(input).and_then(|text| text.split_once('\n')) {
                // The rule is quadratic at worst; what people write is short.
                let short = |text: &str| text.chars().take(2000).collect::<String>();
                drop(worker::glob(&short(pattern), &short(path)));
            }
            Ok(())
        },
    },
    Target {
        name: "query_sets",
        form: Form::Text,
        seeds: || {
            [
                "SELECT * FROM t WHERE CONTAINS(POINT('ICRS', {{ ra }}, {{dec}}), CIRCLE('ICRS', {{ra}}, {{dec}}, {{radius}})) = 1\n",
                "-- {{username}} {{ query_id }}\nSELECT {{object}}, {{objects}}",
                r#"{"min_ra": 10.5, "max_ra": 20, "min_dec": -90, "max_dec": 90, "min_radius": 0.01, "radius_range": 0.1, "radius_near_range": 0}"#,
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
        },
        words: &["{{", "}}", "{{ra}}", "min_ra", "1e308", "-1e308", "null"],
        check: |input| {
            if let Some(text) = text(input) {
                drop(worker::query_template(text));
                drop(worker::query_field(text));
            }
            Ok(())
        },
    },
    Target {
        name: "discovery",
        form: Form::Json,
        seeds: || {
            let service = json!({ "url": "https://data.example/x", "versions": { "v1": { "url": "https://data.example/x/v1" } } });
            let all = json!({
                "applications": ["tap"], "environment_name": "data.example",
                "services": { "internal": { "gafaelfawr": service }, "ui": { "nublado": service } },
                "datasets": { "dp0.2": { "services": { "tap": service, "sia": service } } },
            });
            vec![all.to_string().into_bytes(), b"{}".to_vec()]
        },
        words: &["http://", "https://h", "versions", "services"],
        check: discovery,
    },
    Target {
        name: "cookies",
        form: Form::Text,
        seeds: || {
            [
                "_xsrf=2|abc|def; Path=/; HttpOnly",
                r#"_xsrf="a\"b\054c\\"; Domain=x"#,
                "other=1",
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
        },
        words: &["_xsrf=", "\"", "\\", "\\054", ";", "="],
        check: |input| {
            worker::cookie(input);
            Ok(())
        },
    },
];

fn duration(input: &[u8]) -> Result<(), String> {
    let Some(text) = text(input) else { return Ok(()) };
    let as_json: Value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
    for value in [Value::from(text), as_json] {
        let Ok(duration) = HumanDuration::parse(&value) else {
            continue;
        };
        let written = serde_json::to_value(duration).map_err(|error| error.to_string())?;
        let again =
            HumanDuration::parse(&written).map_err(|error| format!("{duration} is written as {written}: {error}"))?;
        // Microseconds of three centuries and more do not fit a float; then they are rounded, once.
        let exact = duration.seconds().abs() < 9e9;
        promise(again == duration || !exact, || {
            format!("{duration} comes back as {again}")
        })?;
        let written_again = serde_json::to_value(again).map_err(|error| error.to_string())?;
        promise(written_again == written, || {
            format!("{written} becomes {written_again}")
        })?;
        promise(duration.to_std().is_zero() != duration.is_positive(), || {
            format!("{duration} is both nothing and something")
        })?;
        promise(!duration.to_string().is_empty(), || {
            "a duration without a text".to_owned()
        })?;
    }
    Ok(())
}

fn user_names(input: &[u8]) -> Result<(), String> {
    let Ok(value) = serde_json::from_slice::<Value>(input) else {
        return Ok(());
    };
    let flock = json!({
        "name": "x", "count": value["count"], "spread": value.get("spread").cloned().unwrap_or("per_replica".into()), "scopes": [],
        "user_spec": { "username_prefix": value["prefix"], "uid_start": value["uid"] }, "business": { "type": "EmptyLoop" },
    });
    let Ok(flock) = FlockConfig::parse(&flock) else {
        return Ok(());
    };
    let identity = ReplicaIdentity {
        instance_id: value["id"].as_str().and_then(|id| id.parse().ok()),
        replica_count: value["replicas"]
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(1),
    };
    let range = range_of(&flock, &identity);
    if flock.count > 2000 {
        return Ok(());
    }
    let users = users_of(&flock, &identity);
    match (range, users) {
        (Ok(range), Ok(users)) => {
            let name =
                |user: Option<&mobu_fleet::domain::flock::User>| user.map(|user| user.username.as_str().to_owned());
            let fits = range.count == users.len() as u64
                && range.first == name(users.first())
                && range.last == name(users.last());
            promise(fits, || format!("{range:?} is not of {users:?}"))?;
            let mut names: Vec<_> = users.iter().map(|user| user.username.as_str()).collect();
            for name in &names {
                let right = name.len() <= 64
                    && name.starts_with("bot-mobu")
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                    && !name.contains("--")
                    && !name.ends_with('-');
                promise(right, || format!("Gafaelfawr would refuse `{name}`"))?;
            }
            names.sort_unstable();
            names.dedup();
            promise(names.len() == users.len(), || "two users have one name".to_owned())
        }
        (Err(one), Err(other)) => promise(one == other, || format!("{one} and {other}")),
        (range, users) => Err(format!("{range:?} and {users:?}")),
    }
}

fn broker_url(input: &[u8]) -> Result<(), String> {
    let Some(text) = text(input) else { return Ok(()) };
    match AmqpConfig::parse_urls(text) {
        Ok(urls) => {
            promise(!urls.is_empty(), || "no URL".to_owned())?;
            let again = urls
                .iter()
                .map(|url| url.expose_secret().to_owned())
                .collect::<Vec<_>>()
                .join(",");
            promise(AmqpConfig::parse_urls(&again).is_ok(), || {
                format!("{again} is not read again")
            })?;
            keeps_it("what is shown of it", &format!("{urls:?}"))
        }
        Err(error) => keeps_it("the error", &error.to_string()),
    }
}

fn shown_url(input: &[u8]) -> Result<(), String> {
    let Some(place) = text(input) else { return Ok(()) };
    let (said, shown) = worker::git_url(place);
    // Where the secret is a password it is not shown; broken addresses may have it anywhere.
    let Ok(url) = url::Url::parse(place) else { return Ok(()) };
    let is_password = |part: &str| part.contains(SECRET);
    let elsewhere = [
        url.username(),
        url.path(),
        url.host_str().unwrap_or_default(),
        url.scheme(),
    ];
    let keys = url.query_pairs().any(|(key, _)| key.contains(&SECRET[4..10]));
    let is_elsewhere = keys
        || elsewhere
            .iter()
            .any(|part| part.to_ascii_uppercase().contains(&SECRET[4..10]));
    if let Some(shown) = shown.filter(|_| !is_elsewhere) {
        keeps_it("the URL as it is shown", &shown)?;
    }
    let plain = url.as_str() == place && !place.contains(['\\', '#']);
    if plain && !is_elsewhere && url.password().is_some_and(is_password) && matches!(url.scheme(), "http" | "https") {
        keeps_it("what git says", &said)?;
    }
    Ok(())
}

fn discovery(input: &[u8]) -> Result<(), String> {
    let Ok(value) = serde_json::from_slice::<Value>(input) else {
        return Ok(());
    };
    match Discovery::parse_at(&value, &["discovery".into()]) {
        Ok(discovery) => {
            drop((discovery.gafaelfawr(), discovery.nublado()));
            drop((discovery.tap("dp0.2"), discovery.sia("dp0.2"), discovery.muster()));
            Ok(())
        }
        Err(errors) => {
            let placed = errors
                .0
                .iter()
                .all(|item| item.loc.first().is_some_and(|step| step.to_string() == "discovery"));
            promise(placed && !errors.0.is_empty(), || {
                format!("a mistake without its place: {errors}")
            })
        }
    }
}
