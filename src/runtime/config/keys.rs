//! Every key of the configuration: the one list that file, environment, flags, mistakes and the reference page share.

use std::fmt::Write as _;

/// One key, or one key of an object such as `githubCiApp.id`.
#[derive(Debug)]
pub(super) struct Key {
    /// The way to it in the file, in camelCase.
    pub(super) path: &'static str,
    /// Other names of its last step, besides `snake_case` and the variable.
    pub(super) also: &'static [&'static str],
    /// The environment variable that gives it.
    pub(super) variable: Option<&'static str>,
    /// The flag that gives it, with its dashes.
    pub(super) flag: Option<&'static str>,
    /// Whether its value must never be shown. Objects that hold secrets are secret themselves.
    pub(super) secret: bool,
    /// Type, for people.
    pub(super) kind: &'static str,
    /// Default, for people.
    pub(super) default: &'static str,
    /// A right value.
    pub(super) example: &'static str,
    /// What it is for.
    pub(super) meaning: &'static str,
}

impl Key {
    const fn new(
        path: &'static str,
        kind: &'static str,
        default: &'static str,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self {
            path,
            also: &[],
            variable: None,
            flag: None,
            secret: false,
            kind,
            default,
            example,
            meaning,
        }
    }

    const fn variable(mut self, name: &'static str) -> Self {
        self.variable = Some(name);
        self
    }

    const fn flag(mut self, name: &'static str) -> Self {
        self.flag = Some(name);
        self
    }

    const fn also(mut self, names: &'static [&'static str]) -> Self {
        self.also = names;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Returns the object that the key is in, empty for the document, and the key's name there.
    pub(super) fn split(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }

    /// Returns where the key may be given, for one that is given nowhere.
    pub(super) fn places(&self) -> String {
        match self.variable {
            Some(variable) => format!("{} or {variable}", self.path),
            None => self.path.to_owned(),
        }
    }

    /// Returns whether the file may call the key, in its object, by this name.
    fn is_called(&self, name: &str) -> bool {
        let own = self.split().1;
        own == name || snake_case(own) == name || self.also.contains(&name) || self.variable == Some(name)
    }

    /// Returns whether the file would mean this key by a name, had it minded capitals, `_` and `-`.
    fn resembles(&self, name: &str) -> bool {
        let plain = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
        let plainly = plain(name);
        plain(self.split().1) == plainly || self.also.iter().any(|also| plain(also) == plainly)
    }
}

/// Returns the key that is called `name` in the object at `parent`.
pub(super) fn named(parent: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.split().0 == parent && key.is_called(name))
}

/// Returns the key at a path.
pub(super) fn at(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Returns the key that an environment variable gives.
pub(super) fn of_variable(variable: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.variable == Some(variable))
}

/// Returns whether the key at a path is an object of keys of this list.
pub(super) fn is_object(path: &str) -> bool {
    KEYS.iter().any(|key| {
        let (parent, _) = key.split();
        parent == path || parent.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Returns what to write instead of a key that does not exist.
pub(super) fn instead_of(parent: &str, name: &str) -> Option<String> {
    let known = match (parent, name) {
        ("", "environmentUrl" | "environment_url" | "MOBU_ENVIRONMENT_URL") => Some(
            "the URLs of services come from service discovery now: set REPERTOIRE_BASE_URL, or list them in `discovery`",
        ),
        ("", "availableServices" | "available_services") => Some("list them in `discovery.applications`"),
        ("", "sentryDsn" | "sentry_dsn") => Some("the key is `mobuSentryDsn`"),
        _ => None,
    };
    known.map(str::to_owned).or_else(|| {
        let meant = KEYS.iter().find(|key| key.split().0 == parent && key.resembles(name))?;
        Some(format!("is `{}` meant?", meant.split().1))
    })
}

/// Returns a camelCase name in `snake_case`.
pub(super) fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// All keys, in the order in which they are read, reported and documented.
pub(super) const KEYS: &[Key] = &[
    Key::new("fleet", "name", "`mobu`", "mobu", "Name of the fleet: the prefix of every exchange and queue.")
        .variable("MOBU_FLEET")
        .flag("--fleet"),
    Key::new(
        "amqpUrl",
        "secret text",
        "required by coordinator and worker",
        "amqp://mobu:password@rabbitmq:5672/mobu",
        "The broker: `amqp://` or `amqps://`; the hosts of one cluster as several URLs, separated by commas. `mobu local` needs none.",
    )
    .variable("MOBU_AMQP_URL")
    .secret(),
    Key::new(
        "amqpCaFile",
        "path",
        "the system's certificates",
        "/etc/mobu/ca.pem",
        "PEM file of the authority that signed the broker's certificate, for `amqps://`.",
    )
    .variable("MOBU_AMQP_CA_FILE"),
    Key::new(
        "amqpCertFile",
        "path",
        "none",
        "/etc/mobu/client.pem",
        "PEM file of the certificate to show to a broker that asks for one, with those between it and the authority. Needs `amqpKeyFile`.",
    )
    .variable("MOBU_AMQP_CERT_FILE"),
    Key::new(
        "amqpKeyFile",
        "path",
        "none",
        "/etc/mobu/client.key",
        "PEM file of the private key of `amqpCertFile`, not encrypted.",
    )
    .variable("MOBU_AMQP_KEY_FILE"),
    Key::new("replicaCount", "integer, 1 to 10000", "`1`; `3` for `mobu local`", "3", "How many replicas the fleet is meant to have.")
        .variable("MOBU_REPLICA_COUNT")
        .flag("--replica-count"),
    Key::new(
        "instanceId",
        "name, a text also where it is a number",
        "`0` with one replica, otherwise required by a worker",
        "\"0\"",
        "The replica's name for life; two running replicas never share one. Usually the pod's ordinal.",
    )
    .variable("MOBU_INSTANCE_ID")
    .flag("--instance-id"),
    Key::new(
        "replicaIndex",
        "integer, 0 to 9999",
        "none",
        "0",
        "What mobu 19 calls the replica. Taken as the instance ID if there is no `instanceId`, so that its chart works unchanged.",
    )
    .variable("MOBU_REPLICA_INDEX"),
    Key::new(
        "httpBind",
        "IP address and port",
        "coordinator `127.0.0.1:8080`, worker `127.0.0.1:8081`",
        "0.0.0.0:8080",
        "Where to listen for HTTP. Port 0 takes any free one, and the log says which.",
    )
    .variable("MOBU_HTTP_BIND")
    .flag("--http-bind"),
    Key::new("pathPrefix", "path", "`/mobu`", "/mobu", "Prefix of the API's routes: begins with `/`, does not end with one.")
        .variable("MOBU_PATH_PREFIX"),
    Key::new("name", "text", "`mobu`", "mobu", "The application's name in the metadata routes.").variable("MOBU_NAME"),
    Key::new(
        "auth",
        "`header`, `token` or `none`",
        "`header`",
        "header",
        "Who may call the API. `header`: a trusted ingress says who in `X-Auth-Request-User`. `token`: bearers of one of `authTokens`. `none`: anybody, and only while bound to loopback.",
    )
    .variable("MOBU_AUTH"),
    Key::new(
        "authTokens",
        "list of secret texts, or one text with commas",
        "none",
        "[6b0ff0a3c9d14f57a0]",
        "The tokens of `auth: token`, at least 16 characters each. Several, so that one can be replaced while the other is in use.",
    )
    .variable("MOBU_AUTH_TOKENS")
    .secret(),
    Key::new(
        "tokens",
        "`gafaelfawr` or `local`",
        "`gafaelfawr` with a `gafaelfawrToken`; otherwise `local` for `mobu local`, and required by a worker",
        "gafaelfawr",
        "Where monkeys get their tokens: from Gafaelfawr, or made up here for services that ask for none.",
    )
    .variable("MOBU_TOKENS"),
    Key::new("gafaelfawrToken", "secret text", "none", "gt-key.secret", "Token with the scope `admin:token`, with which tokens for monkeys are made.")
        .variable("MOBU_GAFAELFAWR_TOKEN")
        .secret(),
    Key::new("gafaelfawrTimeout", "duration", "`20s`", "20s", "Limit of each call of Gafaelfawr.")
        .variable("MOBU_GAFAELFAWR_TIMEOUT"),
    Key::new(
        "repertoireBaseUrl",
        "URL",
        "none",
        "https://data.example.com/repertoire",
        "Service discovery, without the `/discovery` that is asked there.",
    )
    .variable("REPERTOIRE_BASE_URL")
    .secret(),
    Key::new(
        "discovery",
        "object as Repertoire answers it",
        "none",
        "{services: {internal: {gafaelfawr: {versions: {v1: {url: \"https://data.example.com/auth/api/v1\"}}}}}}",
        "The URLs of services, for places without Repertoire. Goes before `repertoireBaseUrl`. A key that Repertoire does not have is a mistake. See [Static discovery](#static-discovery).",
    ),
    Key::new(
        "querySetDir",
        "path",
        "none: those of this release",
        "/etc/mobu/query_sets",
        "Directory with query sets of one's own: `tap/SET/TEMPLATE.sql` with `parameters.json` and `objects.json`, and `sia/SET/parameters.json`. Everything is checked when a worker starts. See [Query sets](#query-sets).",
    )
    .variable("MOBU_QUERY_SET_DIR"),
    Key::new(
        "autostart",
        "list of flocks",
        "none: the fleet keeps what it runs",
        "[{name: idle, count: 1, user_spec: {username_prefix: bot-mobu-idle}, scopes: [], business: {type: EmptyLoop}}]",
        "Flocks that the coordinator starts when it starts. Inside a flock the keys are snake_case, as in the API.",
    ),
    Key::new("logLevel", "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`, in any case", "`INFO`", "INFO", "Least severity that the service logs.")
        .variable("MOBU_LOG_LEVEL")
        .flag("--log-level"),
    Key::new("logProfile", "`production` or `development`", "`development`", "production", "Form of the log: JSON lines, or text for people. `profile`, as older configurations call it, is accepted.")
        .variable("MOBU_LOG_PROFILE")
        .flag("--log-profile")
        .also(&["profile"]),
    Key::new("logMonkeysToFile", "boolean", "`true`", "true", "Whether each monkey keeps a log of its own that can be asked for; otherwise it logs with the service.")
        .variable("MOBU_LOG_MONKEYS_TO_FILE"),
    Key::new("applyTimeout", "duration", "`30s`", "30s", "How long a change waits for the replicas to report it before the caller is told who is missing.")
        .variable("MOBU_APPLY_TIMEOUT"),
    Key::new("gatherTimeout", "duration", "`5s`", "5s", "How long a question to all replicas waits for their answers.")
        .variable("MOBU_GATHER_TIMEOUT"),
    Key::new(
        "drainTimeout",
        "duration",
        "`30s`",
        "30s",
        "How long a process that was asked to end may take to finish; whatever still runs then is dropped, a flock that is still within its `stopTimeout` included.",
    )
    .variable("MOBU_DRAIN_TIMEOUT"),
    Key::new(
        "stopTimeout",
        "duration",
        "`60s`",
        "60s",
        "How long the monkeys of a flock that is stopped may take to end, labs to delete included, while the process goes on. Those that take longer are abandoned, and the log names them and what they were at.",
    )
    .variable("MOBU_STOP_TIMEOUT"),
    Key::new("reportInterval", "duration, 0.1 s to 1 min", "`1s`", "1s", "How often a replica reports; after three without a report it counts as silent.")
        .variable("MOBU_REPORT_INTERVAL"),
    Key::new("announceInterval", "duration, 0.1 s to 1 min", "`2s`", "2s", "How often the coordinator announces where the state log stands.")
        .variable("MOBU_ANNOUNCE_INTERVAL"),
    Key::new(
        "maxLateness",
        "duration, 0.001 s to 1 min",
        "`0.25`",
        "0.25",
        "How late a replica may wake its monkeys from their pauses, at the 99th percentile. One that is later at three reports in a row is `overloaded`, until it was at most half as late at five.",
    )
    .variable("MOBU_MAX_LATENESS"),
    Key::new(
        "eventRate",
        "integer, 0 to 100000",
        "`1000`",
        "1000",
        "Most events that a replica publishes in a second to the exchange `{fleet}.events`; further ones are dropped and counted. `0` publishes none.",
    )
    .variable("MOBU_EVENT_RATE"),
    Key::new("slackAlerts", "boolean", "`false`", "true", "Whether to report failures to Slack; needs `alertHook`.")
        .variable("MOBU_SLACK_ALERTS"),
    Key::new("alertHook", "secret text", "none", "https://hooks.slack.example.com/services/key", "Incoming webhook of Slack.")
        .variable("MOBU_ALERT_HOOK")
        .secret(),
    Key::new("mobuSentryDsn", "secret text", "none", "https://key@sentry.example.com/1", "Where to report errors to Sentry.")
        .variable("MOBU_SENTRY_DSN")
        .secret(),
    Key::new("sentryEnvironment", "text", "none", "data.example.com", "The environment that Sentry is told.")
        .variable("MOBU_SENTRY_ENVIRONMENT"),
    Key::new("sentryTracesSampleConfig", "number from 0 to 1, or `errors`", "`0`", "errors", "Share of traces that Sentry gets; `errors`: those with an error.")
        .variable("MOBU_SENTRY_TRACES_SAMPLE_CONFIG"),
    Key::new("githubRefreshApp", "object", "none", "{acceptedGithubOrgs: [lsst-sqre]}", "Refreshes flocks when GitHub tells of a push to their repository. The variables below count only if the file has this key, if only as `{}`.")
        .secret(),
    Key::new("githubRefreshApp.webhookSecret", "secret text", "required", "a text that GitHub has too", "Secret with which GitHub signs.")
        .variable("MOBU_GITHUB_REFRESH_APP_WEBHOOK_SECRET")
        .secret(),
    Key::new("githubRefreshApp.acceptedGithubOrgs", "list of texts", "`[]`: nobody", "[lsst-sqre]", "Organizations whose pushes count; capitals matter."),
    Key::new("githubCiApp", "object", "none", "{users: [{username: bot-mobu-ci-1}], scopes: [\"exec:notebook\"]}", "Runs the changed notebooks of pull requests. The variables below count only if the file has this key.")
        .secret(),
    Key::new("githubCiApp.id", "integer", "required", "12345", "Number of the GitHub app.").variable("MOBU_GITHUB_CI_APP_ID"),
    Key::new("githubCiApp.privateKey", "secret text", "required", "the PEM text, with its line ends", "The app's private key.")
        .variable("MOBU_GITHUB_CI_APP_PRIVATE_KEY")
        .secret(),
    Key::new("githubCiApp.webhookSecret", "secret text", "required", "a text that GitHub has too", "Secret with which GitHub signs.")
        .variable("MOBU_GITHUB_CI_APP_WEBHOOK_SECRET")
        .secret(),
    Key::new("githubCiApp.users", "list of users", "required", "[{username: bot-mobu-ci-1}]", "Whom jobs run as; one job at a time for each."),
    Key::new("githubCiApp.scopes", "list of texts", "required", "[\"exec:notebook\"]", "Scopes of the jobs' tokens."),
    Key::new("githubCiApp.acceptedGithubOrgs", "list of texts", "`[]`: nobody", "[lsst-sqre]", "Organizations whose pull requests count; capitals matter."),
    Key::new("metrics", "object", "none: no events", "{enabled: false, application: mobu}", "Events for Kafka. If the file has no such key, a `METRICS_…` variable makes one.")
        .secret(),
    Key::new("metrics.enabled", "boolean", "`true`", "true", "Whether events go to Kafka; otherwise they are dropped, and the other keys are not looked at.")
        .variable("METRICS_ENABLED"),
    Key::new("metrics.mock", "boolean", "`false`", "true", "With `enabled: false`: keep the events in memory, for tests.")
        .variable("METRICS_MOCK"),
    Key::new("metrics.application", "text", "required", "mobu", "Who sends the events; also called `appName`.")
        .variable("METRICS_APPLICATION")
        .also(&["appName", "app_name"]),
    Key::new("metrics.events", "object", "`{}`", "{topicPrefix: lsst.square.metrics.events}", "Where events go."),
    Key::new("metrics.events.topicPrefix", "text", "`lsst.square.metrics.events`", "lsst.square.metrics.events", "The topic, up to the application's name.")
        .variable("METRICS_EVENTS_TOPIC_PREFIX"),
    Key::new("metrics.schemaManager", "object", "required with Kafka", "{registryUrl: \"http://registry:8081\"}", "The registry of schemas.")
        .secret(),
    Key::new("metrics.schemaManager.registryUrl", "URL", "required", "http://registry:8081", "Where it is.")
        .variable("SCHEMA_MANAGER_REGISTRY_URL")
        .secret(),
    Key::new("metrics.schemaManager.suffix", "text", "empty", "_test", "What is added to each subject's name.")
        .variable("SCHEMA_MANAGER_SUFFIX"),
    Key::new("metrics.kafka", "object", "required with Kafka", "{bootstrapServers: \"kafka:9092\", securityProtocol: PLAINTEXT}", "How to reach Kafka.")
        .secret(),
    Key::new("metrics.kafka.bootstrapServers", "text", "required", "kafka-0:9092,kafka-1:9092", "Hosts and ports, separated by commas.")
        .variable("KAFKA_BOOTSTRAP_SERVERS"),
    Key::new("metrics.kafka.securityProtocol", "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`", "required", "SSL", "How to speak with it.")
        .variable("KAFKA_SECURITY_PROTOCOL"),
    Key::new("metrics.kafka.clusterCaPath", "path", "none", "/etc/kafka/ca.crt", "Its authority; required for `SSL`.")
        .variable("KAFKA_CLUSTER_CA_PATH"),
    Key::new("metrics.kafka.clientCertPath", "path", "none", "/etc/kafka/tls.crt", "Our certificate; required for `SSL`.")
        .variable("KAFKA_CLIENT_CERT_PATH"),
    Key::new("metrics.kafka.clientKeyPath", "path", "none", "/etc/kafka/tls.key", "Our key; required for `SSL`.")
        .variable("KAFKA_CLIENT_KEY_PATH"),
    Key::new("metrics.kafka.saslMechanism", "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`", "none", "SCRAM-SHA-512", "How to log in; required for SASL.")
        .variable("KAFKA_SASL_MECHANISM"),
    Key::new("metrics.kafka.saslUsername", "text", "none", "mobu", "As whom; required for SASL.").variable("KAFKA_SASL_USERNAME"),
    Key::new("metrics.kafka.saslPassword", "secret text", "none", "a password", "With what; required for SASL.")
        .variable("KAFKA_SASL_PASSWORD")
        .secret(),
    Key::new("metrics.raiseOnError", "boolean", "`false`", "false", "Whether trouble with metrics fails what caused the event, instead of being logged.")
        .variable("METRICS_RAISE_ON_ERROR"),
    Key::new("metrics.backoffInterval", "duration", "`300s`", "300s", "Pause after an event that could not be sent.")
        .variable("METRICS_BACKOFF_INTERVAL"),
];

/// Returns a Markdown table of every key, which is the body of `docs/configuration.md`.
pub fn reference_table() -> String {
    let mut page =
        "| key | variable, flag | type | default | meaning | example |\n|---|---|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let sources: Vec<String> = key
            .variable
            .iter()
            .chain(&key.flag)
            .map(|name| format!("`{name}`"))
            .collect();
        let sources = if sources.is_empty() {
            "-".to_owned()
        } else {
            sources.join(", ")
        };
        writeln!(
            page,
            "| `{}` | {sources} | {} | {} | {} | `{}` |",
            key.path, key.kind, key.default, key.meaning, key.example
        )
        .expect("writing to a String cannot fail");
    }
    page
}
