use insta::assert_snapshot;
use secrecy::ExposeSecret;

use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::read(variables.iter().map(|(name, value)| (name.into(), value.into())))
}

/// Loads a file's text under variables and flags.
fn load_all(role: Role, file: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<Loaded, ConfigError> {
    Config::from_layers(role, yaml::parse("config.yaml", file), environment(variables), flags)
}

fn load(role: Role, file: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    load_all(role, file, variables, &Flags::default())
}

/// A configuration for `mobu local`, which needs nothing.
fn local(file: &str, variables: &[(&str, &str)]) -> Config {
    load(Role::Local, file, variables).unwrap().config
}

fn refusal(role: Role, file: &str, variables: &[(&str, &str)]) -> String {
    load(role, file, variables).unwrap_err().to_string()
}

const WORKER: &[(&str, &str)] = &[("MOBU_AMQP_URL", "amqp://broker"), ("MOBU_TOKENS", "local")];

#[test]
fn nothing_at_all_is_enough_for_a_local_fleet() {
    let loaded = load(Role::Local, "", &[]).unwrap();
    let config = loaded.config;
    assert_eq!(loaded.warnings, [""; 0]);
    assert_eq!((config.fleet.as_str(), config.replica_count), ("mobu", 3));
    assert_eq!(config.http_bind.to_string(), "127.0.0.1:8080");
    assert_eq!((config.path_prefix.as_str(), config.name.as_str()), ("/mobu", "mobu"));
    assert!(matches!(config.auth, Auth::Header));
    assert!(matches!(config.tokens, Some(Tokens::Local)));
    assert!(config.autostart.is_none() && config.log_monkeys_to_file && !config.slack_alerts);
    let limits = [
        config.apply_timeout,
        config.gather_timeout,
        config.drain_timeout,
        config.stop_timeout,
        config.gafaelfawr_timeout,
        config.report_interval,
        config.announce_interval,
    ];
    assert_eq!(limits.map(|limit| limit.as_secs()), [30, 5, 30, 60, 20, 1, 2]);
    assert_eq!((config.max_lateness.as_millis(), config.event_rate), (250, 1000));
    assert_eq!(config.level_filter(), LevelFilter::INFO);
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let file = "{fleet: file, name: file, logLevel: debug, logProfile: production, httpBind: '127.0.0.1:1'}";
    let variables = [
        ("MOBU_FLEET", "env"),
        ("MOBU_LOG_LEVEL", "WARNING"),
        ("MOBU_HTTP_BIND", "[::1]:0"),
    ];
    let flags = Flags {
        fleet: Some("flag".into()),
        replica_count: Some("7".into()),
        ..Flags::default()
    };
    let config = load_all(Role::Local, file, &variables, &flags).unwrap().config;
    assert_eq!(
        (config.fleet.as_str(), config.name.as_str(), config.replica_count),
        ("flag", "file", 7)
    );
    assert_eq!(
        (config.log_level, config.log_profile),
        (LogLevel::Warning, LogProfile::Production)
    );
    assert_eq!(config.http_bind.to_string(), "[::1]:0");
}

#[test]
fn a_null_of_the_chart_is_not_set() {
    let file = "{gafaelfawrTimeout: null, githubCiApp: null, githubRefreshApp: ~, sentryEnvironment: null, \
                alertHook: null, autostart: null, metrics: null, auth: null}";
    let variables = [("MOBU_SENTRY_ENVIRONMENT", "env"), ("MOBU_ALERT_HOOK", "hook")];
    let config = local(file, &variables);
    assert_eq!(config.sentry_environment.as_deref(), Some("env"));
    assert_eq!(config.alert_hook.unwrap().expose_secret(), "hook");
    assert_eq!(config.gafaelfawr_timeout.as_secs(), 20);
    assert!(config.autostart.is_none() && config.github_ci_app.is_none() && config.metrics.is_none());
    assert_eq!(local("autostart: []", &[]).autostart, Some(Vec::new()));
}

#[test]
fn keys_have_mobus_names() {
    for file in [
        "logProfile: production",
        "log_profile: production",
        "MOBU_LOG_PROFILE: production",
        "profile: production",
    ] {
        assert_eq!(local(file, &[]).log_profile, LogProfile::Production, "{file}");
    }
    assert!(local("mobuSentryDsn: x", &[]).sentry_dsn.is_some());
    assert!(
        local("githubRefreshApp: {webhook_secret: x, accepted_github_orgs: [a]}", &[])
            .github_refresh_app
            .is_some()
    );
    assert_snapshot!(refusal(Role::Local, "{logLevel: INFO, log_level: INFO}", &[]), @"logLevel: given twice, under two names");
}

#[test]
fn unknown_keys_are_mistakes_that_say_what_was_meant() {
    let file = "{loglevel: INFO, sentryDsn: x, environmentUrl: x, availableServices: [], surprise: null, \
                githubRefreshApp: {webhookSecret: x, orgs: []}}";
    assert_snapshot!(refusal(Role::Local, file, &[]), @"
    loglevel: there is no such key: is `logLevel` meant?
    sentryDsn: there is no such key: the key is `mobuSentryDsn`
    environmentUrl: there is no such key: the URLs of services come from service discovery now: set REPERTOIRE_BASE_URL, or list them in `discovery`
    availableServices: there is no such key: list them in `discovery.applications`
    surprise: there is no such key
    githubRefreshApp.orgs: there is no such key
    ");
}

#[test]
fn all_mistakes_are_reported_at_once_each_with_its_place() {
    let file = r"
replicaCount: zero
instanceId: 3
httpBind: localhost:8080
pathPrefix: /mobu/
logLevel: loud
logProfile: Production
gafaelfawrTimeout: soon
applyTimeout: -1
reportInterval: 1ms
sentryTracesSampleConfig: 2
repertoireBaseUrl: ftp://x
tokens: vault
metrics: {application: mobu, kafka: {bootstrapServers: k, securityProtocol: SSL}}
githubCiApp: {id: one}
discovery: {services: {ui: {nublado: {url: nowhere}}}}
autostart:
  - name: a/b
    count: 1
  - {name: twin, count: 1, user_spec: {username_prefix: bot-mobu-a}, scopes: [], business: {type: EmptyLoop}}
  - {name: twin, count: 1, user_spec: {username_prefix: bot-mobu-b}, scopes: [], business: {type: Nope}}
  - {name: twin, count: 1, user_spec: {username_prefix: bot-mobu-b}, scopes: [], business: {type: EmptyLoop}}
";
    let variables = [
        ("MOBU_REPLICA_COUNT", "three"),
        ("MOBU_FLEET", "a b"),
        ("MOBU_AUTH", "nobody"),
        ("MOBU_AUTH_TOKENS", "brief,also brief"),
    ];
    let flags = Flags {
        replica_count: Some("0".into()),
        ..Flags::default()
    };
    let error = load_all(Role::Coordinator, file, &variables, &flags).unwrap_err();
    assert_eq!(error.to_string().lines().count(), error.mistakes().len());
    assert_snapshot!(error, @r#"
    MOBU_FLEET: `a b` is not a fleet name: it must match ^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$ (for example: mobu)
    --replica-count: Input should be greater than or equal to 1, not "0" (for example: 3)
    instanceId: Input should be a valid string, not 3 (for example: "0")
    httpBind: Input should be an IP address and a port, not "localhost:8080" (for example: 0.0.0.0:8080)
    pathPrefix: Input should begin with `/`, not end with one, and hold letters, digits and -._~ between them, not "/mobu/" (for example: /mobu)
    MOBU_AUTH: Input should be 'header', 'token' or 'none', not "nobody" (for example: header)
    MOBU_AUTH_TOKENS[0]: String should have at least 16 characters
    MOBU_AUTH_TOKENS[1]: String should have at least 16 characters
    tokens: Input should be 'gafaelfawr' or 'local', not "vault" (for example: gafaelfawr)
    gafaelfawrTimeout: Could not parse 'soon' as a time duration (for example: 20s)
    repertoireBaseUrl: the URL must begin with http:// or https:// and name a host (for example: https://data.example.com/repertoire)
    discovery.services.ui.nublado.url: not an absolute URL: relative URL without a base
    autostart[0].name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'
    autostart[0].scopes: Field required
    autostart[0].business: Field required
    autostart[2].business: Input tag 'Nope' found using 'type' does not match any of the expected tags: 'TAPQueryRunner', 'GitLFS', 'Muster', 'NotebookRunnerCounting', 'NotebookRunnerList', 'NotebookRunnerInfinite', 'NubladoPythonLoop', 'TAPQuerySetRunner', 'SIAQuerySetRunner', 'EmptyLoop', 'HTTPRunner'
    autostart[3].name: a flock before it is called `twin` too
    logLevel: Input should be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL', not "loud" (for example: INFO)
    logProfile: Input should be 'production' or 'development', not "Production" (for example: production)
    applyTimeout: Input should be greater than 0 seconds, not -1 (for example: 30s)
    reportInterval: Could not parse '1ms' as a time duration (for example: 1s)
    sentryTracesSampleConfig: Input should be a number from 0 to 1, or `errors`, not 2 (for example: errors)
    githubCiApp.id: Input should be a valid integer, unable to parse string as an integer, not "one" (for example: 12345)
    githubCiApp.privateKey or MOBU_GITHUB_CI_APP_PRIVATE_KEY: Field required (for example: the PEM text, with its line ends)
    githubCiApp.webhookSecret or MOBU_GITHUB_CI_APP_WEBHOOK_SECRET: Field required (for example: a text that GitHub has too)
    githubCiApp.users: Field required (for example: [{username: bot-mobu-ci-1}])
    githubCiApp.scopes: Field required (for example: ["exec:notebook"])
    metrics.schemaManager: Field required (for example: {registryUrl: "http://registry:8081"})
    metrics.kafka.clusterCaPath or KAFKA_CLUSTER_CA_PATH: Field required (for example: /etc/kafka/ca.crt)
    metrics.kafka.clientCertPath or KAFKA_CLIENT_CERT_PATH: Field required (for example: /etc/kafka/tls.crt)
    metrics.kafka.clientKeyPath or KAFKA_CLIENT_KEY_PATH: Field required (for example: /etc/kafka/tls.key)
    replicaCount: Input should be a valid integer, unable to parse string as an integer, not "zero" (for example: 3)
    MOBU_REPLICA_COUNT: Input should be a valid integer, unable to parse string as an integer, not "three" (for example: 3)
    amqpUrl or MOBU_AMQP_URL: the broker is missing (for example: amqp://mobu:password@rabbitmq:5672/mobu)
    "#);
}

#[test]
fn a_mistake_takes_one_line_whatever_the_file_holds() {
    let refusal = refusal(Role::Local, r#"{"a\nb\e[2J": 1, logLevel: "x\ny"}"#, &[]);
    let lines: Vec<_> = refusal.lines().collect();
    assert_eq!(lines.len(), 2, "{refusal}");
    assert_eq!(lines[0], r"a\nb\u{1b}[2J: there is no such key");
}

#[test]
fn each_role_is_told_what_it_lacks() {
    assert_snapshot!(refusal(Role::Coordinator, "", &[]), @"amqpUrl or MOBU_AMQP_URL: the broker is missing (for example: amqp://mobu:password@rabbitmq:5672/mobu)");
    assert_snapshot!(refusal(Role::Worker, "", &[("MOBU_REPLICA_COUNT", "3")]), @r#"
    amqpUrl or MOBU_AMQP_URL: the broker is missing (for example: amqp://mobu:password@rabbitmq:5672/mobu)
    instanceId or MOBU_INSTANCE_ID: with more than one replica, each needs a name of its own (for example: "0")
    gafaelfawrToken or MOBU_GAFAELFAWR_TOKEN: it is not said where monkeys get their tokens: give a token for Gafaelfawr, or say `tokens: local` (MOBU_TOKENS=local) (for example: gt-key.secret)
    "#);
    let gafaelfawr = [("MOBU_AMQP_URL", "amqp://b"), ("MOBU_TOKENS", "gafaelfawr")];
    assert_snapshot!(refusal(Role::Worker, "", &gafaelfawr), @"
    gafaelfawrToken or MOBU_GAFAELFAWR_TOKEN: tokens: gafaelfawr needs a token for Gafaelfawr (for example: gt-key.secret)
    repertoireBaseUrl or REPERTOIRE_BASE_URL: Gafaelfawr cannot be found without service discovery (for example: https://data.example.com/repertoire)
    ");
    let discovery = [("MOBU_AMQP_URL", "amqp://b"), ("MOBU_GAFAELFAWR_TOKEN", "gt-a.b")];
    assert_snapshot!(refusal(Role::Worker, "discovery: {}", &discovery), @"discovery: Gafaelfawr is missing: services.internal.gafaelfawr.versions.v1.url");
    assert_snapshot!(refusal(Role::Coordinator, "amqpCertFile: c", &[("MOBU_AMQP_URL", "amqps://b")]), @"amqpKeyFile or MOBU_AMQP_KEY_FILE: amqpCertFile is of no use without its key (for example: /etc/mobu/client.key)");
    assert_snapshot!(refusal(Role::Coordinator, "", &[("MOBU_AMQP_URL", "amqps://b"), ("MOBU_AMQP_KEY_FILE", "k")]), @"amqpCertFile or MOBU_AMQP_CERT_FILE: amqpKeyFile is of no use without its certificate (for example: /etc/mobu/client.pem)");
    assert_snapshot!(refusal(Role::Local, "auth: token", &[]), @"authTokens or MOBU_AUTH_TOKENS: auth: token needs at least one token (for example: [6b0ff0a3c9d14f57a0])");
    assert_snapshot!(refusal(Role::Local, "httpBind: 0.0.0.0:80", &[("MOBU_AUTH", "none")]), @"MOBU_AUTH: auth: none would let anybody who reaches 0.0.0.0:80 control the fleet; use header or token, or bind to 127.0.0.1");
}

#[test]
fn a_worker_is_named_by_its_instance_id_or_by_mobu_19s_index() {
    let name = |more: &[(&str, &str)]| {
        let loaded = load(Role::Worker, "", &[WORKER, more].concat()).unwrap();
        loaded.config.instance_id.unwrap().to_string()
    };
    assert_eq!(name(&[]), "0");
    assert_eq!(name(&[("MOBU_REPLICA_COUNT", "3"), ("MOBU_REPLICA_INDEX", "2")]), "2");
    assert_eq!(
        name(&[("MOBU_INSTANCE_ID", "west"), ("MOBU_REPLICA_INDEX", "2")]),
        "west"
    );
    assert_snapshot!(refusal(Role::Worker, "instanceId: 1", WORKER), @r#"instanceId: Input should be a valid string, not 1 (for example: "0")"#);
}

#[test]
fn a_worker_finds_gafaelfawr_where_it_is_told() {
    let variables = [
        ("MOBU_AMQP_URL", "amqp://b"),
        ("MOBU_GAFAELFAWR_TOKEN", "gt-a.b"),
        ("REPERTOIRE_BASE_URL", "https://data.test/repertoire/"),
    ];
    let config = load(Role::Worker, "", &variables).unwrap().config;
    assert!(matches!(config.tokens, Some(Tokens::Gafaelfawr(_))));
    assert!(matches!(config.discovery, Some(ServiceDiscovery::Repertoire(_))));
    let file = "discovery: {services: {internal: {gafaelfawr: {versions: {v1: {url: 'https://data.test/v1'}}}}}}";
    let loaded = load(Role::Worker, file, &variables).unwrap();
    assert!(matches!(loaded.config.discovery, Some(ServiceDiscovery::Static(_))));
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
}

#[test]
fn tokens_of_callers_are_a_list_or_a_text_with_commas() {
    let tokens = |file: &str, variables: &[(&str, &str)]| match local(file, variables).auth {
        Auth::Token(tokens) => tokens.len(),
        auth => panic!("{auth:?}"),
    };
    assert_eq!(tokens("{auth: token, authTokens: [aaaaaaaaaaaaaaaa]}", &[]), 1);
    let variables = [
        ("MOBU_AUTH", "token"),
        ("MOBU_AUTH_TOKENS", "aaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbb"),
    ];
    assert_eq!(tokens("", &variables), 2);
    let loaded = load(Role::Local, "authTokens: [aaaaaaaaaaaaaaaa]", &[]).unwrap();
    assert_eq!(
        loaded.warnings,
        ["authTokens are given, but not asked for with auth: header"]
    );
}

#[test]
fn variables_fill_in_the_apps_that_the_file_enables_and_enable_none() {
    let variables = [
        ("MOBU_GITHUB_REFRESH_APP_WEBHOOK_SECRET", "x"),
        ("MOBU_GITHUB_CI_APP_ID", "5"),
        ("MOBU_GITHUB_CI_APP_PRIVATE_KEY", "pem"),
        ("MOBU_GITHUB_CI_APP_WEBHOOK_SECRET", "y"),
    ];
    let file = "{githubRefreshApp: {}, githubCiApp: {id: null, users: [{username: bot-mobu-ci}], scopes: [a]}}";
    let config = local(file, &variables);
    assert_eq!(config.github_refresh_app.unwrap().webhook_secret.expose_secret(), "x");
    assert_eq!(config.github_ci_app.unwrap().id, 5);
    let loaded = load(Role::Local, "", &variables).unwrap();
    assert!(loaded.config.github_refresh_app.is_none() && loaded.config.github_ci_app.is_none());
    assert_eq!(loaded.warnings.len(), 4, "{:?}", loaded.warnings);
}

#[test]
fn metrics_have_three_shapes() {
    let mock = local("metrics: {enabled: false, mock: true, appName: a}", &[]).metrics;
    assert!(matches!(mock, Some(MetricsConfig::Mock { .. })));
    let file = "metrics: {enabled: false, application: a, schemaManager: {any: thing}, more: 1}";
    assert!(matches!(local(file, &[]).metrics, Some(MetricsConfig::Disabled { .. })));
    let variables = [
        ("METRICS_APPLICATION", "a"),
        ("SCHEMA_MANAGER_REGISTRY_URL", "http://r:8081"),
        ("KAFKA_BOOTSTRAP_SERVERS", "k:9092"),
        ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
    ];
    let Some(MetricsConfig::Kafka(kafka)) = local("", &variables).metrics else {
        panic!("the environment alone configures metrics");
    };
    assert_eq!(kafka.topic_prefix, "lsst.square.metrics.events");
    assert_eq!(kafka.security_protocol, SecurityProtocol::Plaintext);
    assert!(local("", &variables[2..]).metrics.is_none());
}

/// The example of the contract, for mobu 19, with the variables that its comment lists.
const CHART: &str = r#"
slackAlerts: true
logLevel: INFO
logProfile: production
pathPrefix: /mobu
sentryTracesSampleConfig: errors
gafaelfawrTimeout: 45
metrics:
  enabled: true
  application: mobu
  events: {topicPrefix: lsst.square.metrics.events}
  schemaManager: {registryUrl: "http://registry:8081", suffix: ""}
githubRefreshApp:
  acceptedGithubOrgs: [lsst-sqre]
autostart:
  - name: tap
    count: 1
    users: [{username: bot-mobu-tap}]
    scopes: ["read:tap"]
    business:
      type: TAPQuerySetRunner
      restart: true
      options: {dataset: dp02, query_set: dp0.2, sync: false}
"#;

#[test]
fn the_configuration_of_a_mobu_19_chart_loads() {
    let variables = [
        ("MOBU_ALERT_HOOK", "https://hooks.test/x"),
        ("MOBU_GAFAELFAWR_TOKEN", "gt-a.b"),
        ("MOBU_REPLICA_COUNT", "1"),
        ("MOBU_REPLICA_INDEX", "0"),
        ("MOBU_SENTRY_DSN", "https://a@sentry.test/1"),
        ("MOBU_SENTRY_ENVIRONMENT", "data.test"),
        ("MOBU_GITHUB_REFRESH_APP_WEBHOOK_SECRET", "x"),
        ("REPERTOIRE_BASE_URL", "https://data.test/repertoire"),
        ("SENTRY_RELEASE", "1"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9093"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ("KAFKA_SASL_USERNAME", "mobu"),
        ("KAFKA_SASL_PASSWORD", "x"),
        // Ours.
        ("MOBU_AMQP_URL", "amqp://mobu:x@rabbitmq"),
    ];
    for role in [Role::Coordinator, Role::Worker] {
        let loaded = load(role, CHART, &variables).unwrap();
        let without_effect: Vec<_> = loaded
            .warnings
            .iter()
            .filter_map(|warning| warning.split(':').next())
            .collect();
        assert_eq!(without_effect, ["slackAlerts", "mobuSentryDsn", "metrics"]);
        let config = loaded.config;
        assert_eq!(config.autostart.unwrap()[0].name.as_str(), "tap");
        assert_eq!(config.gafaelfawr_timeout.as_secs(), 45);
        assert_eq!(config.sentry_traces, TracesSample::Errors);
        assert!(matches!(config.metrics, Some(MetricsConfig::Kafka(_))));
        assert!(config.instance_id.is_some_and(|id| id.as_str() == "0"));
    }
    // The same fleet with more replicas would run one user several times at once.
    let more: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| *name != "MOBU_REPLICA_COUNT")
        .collect();
    let more = [more, vec![("MOBU_REPLICA_COUNT", "3")]].concat();
    assert_snapshot!(refusal(Role::Coordinator, CHART, &more), @"autostart[0].users: Only user_spec users are allowed if replica_count > 1");
}

#[test]
fn a_file_that_is_not_yaml_hides_no_mistake_of_the_environment() {
    let refusal = refusal(
        Role::Worker,
        "a: [",
        &[("MOBU_REPLICA_COUNT", "x"), ("MOBU_LOG_LEVEL", "INFO")],
    );
    let lines: Vec<_> = refusal.lines().collect();
    assert!(lines[0].starts_with("config.yaml:"), "{refusal}");
    assert!(lines[1].starts_with("MOBU_REPLICA_COUNT: "), "{refusal}");
    assert_eq!(lines.len(), 2, "{refusal}");
    assert_snapshot!(self::refusal(Role::Local, "[1, 2]", &[]), @"the file: must be an object of keys and values (for example: logLevel: INFO)");
}

#[test]
fn only_a_file_that_was_named_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yaml");
    let sources = |flag: Option<&Path>, variable: &Path| Sources {
        role: Role::Local,
        flags: Flags {
            config: flag.map(Path::to_path_buf),
            ..Flags::default()
        },
        variables: [(OsString::from("MOBU_CONFIG_PATH"), variable.as_os_str().to_owned())],
    };
    let error = Config::load(sources(None, &file)).unwrap_err().to_string();
    assert!(error.contains("c.yaml: the file cannot be read: "), "{error}");
    std::fs::write(&file, "fleet: written\n").unwrap();
    assert_eq!(
        Config::load(sources(None, &file)).unwrap().config.fleet.as_str(),
        "written"
    );
    let elsewhere = folder.path().join("other.yaml");
    assert!(Config::load(sources(Some(&elsewhere), &file)).is_err());
    assert!(Config::load(sources(Some(&file), &elsewhere)).is_ok());
    std::fs::write(&file, b"fleet: \xff\n").unwrap();
    let error = Config::load(sources(None, &file)).unwrap_err().to_string();
    assert!(error.ends_with("c.yaml: not UTF-8 from byte 7 on"), "{error}");
    let folder = Config::load(sources(None, folder.path())).unwrap_err().to_string();
    assert!(folder.contains("the file cannot be read"), "{folder}");
    std::fs::write(&file, "#".repeat((4 << 20) + 1)).unwrap();
    let error = Config::load(sources(None, &file)).unwrap_err().to_string();
    assert!(error.ends_with("the file is larger than 4 MiB"), "{error}");
}

/// Every key whose value is secret, with one; the shapes are right or wrong by turns.
#[test]
fn secrets_are_never_printed() {
    const MARK: &str = "hunter2-hunter2-hunter2";
    let right = format!(
        "{{amqpUrl: 'amqp://u:{MARK}@h', gafaelfawrToken: '{MARK}', alertHook: '{MARK}', mobuSentryDsn: '{MARK}', \
         auth: token, authTokens: ['{MARK}'], repertoireBaseUrl: 'https://x', \
         githubRefreshApp: {{webhookSecret: '{MARK}'}}, \
         githubCiApp: {{id: 1, privateKey: '{MARK}', webhookSecret: '{MARK}', users: [], scopes: []}}, \
         metrics: {{application: a, schemaManager: {{registryUrl: 'http://r'}}, kafka: {{bootstrapServers: k, \
         securityProtocol: SASL_SSL, saslMechanism: PLAIN, saslUsername: u, saslPassword: '{MARK}'}}}}, \
         autostart: [{{name: a, count: 1, user_spec: {{username_prefix: bot-mobu-a}}, scopes: [], business: {{type: \
         HTTPRunner, options: {{requests: [{{url: 'http://x', headers: {{Authorization: '{MARK}'}}}}]}}}}}}]}}"
    );
    let loaded = load(Role::Worker, &right, &[]).unwrap();
    assert!(!format!("{loaded:?}{:?}", loaded.config).contains(MARK));
    let apps = (
        &loaded.config.github_ci_app,
        &loaded.config.github_refresh_app,
        &loaded.config.metrics,
    );
    assert!(!format!("{apps:?}").contains(MARK));

    let mut wrong = vec![
        format!("authTokens: ['{MARK} with a blank']"),
        format!("repertoireBaseUrl: 'https://a:{MARK}@x'"),
        format!("githubRefreshApp: '{MARK}'"),
        format!("githubCiApp: {{id: 1, '{MARK}': 1}}").replace(MARK, "privatekey"),
        format!("githubCiApp: '{MARK}'"),
        format!("metrics: '{MARK}'"),
        format!("metrics: {{application: a, kafka: '{MARK}', schemaManager: '{MARK}'}}"),
        format!("surprise: '{MARK}'"),
        format!(
            "autostart: [{{name: a, business: {{type: HTTPRunner, options: {{requests: [{{headers: {{A: [{MARK}]}}}}]}}}}}}]"
        ),
        format!("'{MARK}"),
        MARK.to_owned(),
    ];
    for key in keys::KEYS.iter().filter(|key| key.secret && !key.path.contains('.')) {
        wrong.push(format!("{}: ['{MARK}', {{x: '{MARK}'}}]", key.path));
    }
    for file in wrong {
        let error = load(Role::Coordinator, &file, &[]).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(MARK), "{shown}");
    }
    let variables: Vec<_> = keys::KEYS
        .iter()
        .filter(|key| key.secret)
        .filter_map(|key| key.variable)
        .collect();
    let variables: Vec<_> = variables.into_iter().map(|name| (name, MARK)).collect();
    let shown = match load(
        Role::Coordinator,
        "{githubCiApp: {}, githubRefreshApp: {}, fleet: '?'}",
        &variables,
    ) {
        Ok(_) => panic!("the fleet's name is wrong"),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!shown.contains(MARK), "{shown}");
}

#[test]
fn every_key_is_on_the_reference_page() {
    let page = include_str!("../../../docs/configuration.md");
    let table = reference_table();
    let missing: Vec<_> = table.lines().filter(|line| !page.contains(line)).collect();
    assert!(
        missing.is_empty(),
        "docs/configuration.md lacks or differs from:\n{}",
        missing.join("\n")
    );
    for flag in <Flags as clap::Args>::augment_args(clap::Command::new("x")).get_arguments() {
        let long = flag.get_long().unwrap();
        assert!(
            page.contains(&format!("`--{long}")),
            "docs/configuration.md lacks --{long}"
        );
    }
}

/// The other way round, what is not in the list does not reach the rules that read keys.
#[test]
fn every_key_of_the_list_is_read() {
    for key in keys::KEYS {
        let mut file = serde_json::json!([{}]);
        for step in key.path.split('.').rev() {
            file = serde_json::json!({ step: file });
        }
        let refusal = Config::from_layers(Role::Local, Ok(file), environment(&[]), &Flags::default());
        let refusal = refusal.err().map(|error| error.to_string()).unwrap_or_default();
        let place = key.path;
        assert!(
            refusal
                .lines()
                .any(|line| line.starts_with(place) && !line.contains("there is no such key")),
            "{place}: {refusal}"
        );
    }
}

#[test]
fn examples_of_the_list_are_right() {
    for key in keys::KEYS.iter().filter(|key| !key.path.contains('.')) {
        let file = format!("{}: {}", key.path, key.example);
        if let Err(error) = load(Role::Local, &file, &[("MOBU_TOKENS", "local")]) {
            let of_this = error.mistakes().iter().any(|mistake| mistake.place() == key.path);
            assert!(!of_this, "{error}");
        }
    }
}

#[test]
fn a_mistyped_key_of_the_static_discovery_is_refused_with_its_place() {
    let file = "discovery: {environment_name: x, servces: {}, services: {internl: {}, ui: {nublado: {ulr: 'https://x.test/nb'}}}, \
                datasets: {dp02: {docs_url: 'https://x.test', services: {tap: {url: 'https://x.test/tap', versions: {v1: {uri: a}}}}}}}";
    assert_snapshot!(refusal(Role::Local, file, &[]), @r"
    discovery.servces: there is no such key here: known are `applications`, `datasets`, `environment_name`, `influxdb_databases`, `services`
    discovery.services.internl: there is no such key here: known are `internal`, `ui`
    discovery.services.ui.nublado.ulr: there is no such key here: known are `openapi`, `url`, `versions`
    discovery.datasets.dp02.services.tap.versions.v1.uri: there is no such key here: known are `ivoa_standard_id`, `url`
    ");
}

#[test]
fn the_example_of_all_businesses_loads() {
    for role in [Role::Local, Role::Coordinator, Role::Worker] {
        let environment = [
            ("MOBU_GAFAELFAWR_TOKEN", "gt-key.secret"),
            ("MOBU_AMQP_URL", "amqp://mobu:password@rabbitmq:5672/mobu"),
        ];
        let environment = if role == Role::Local {
            &environment[..1]
        } else {
            &environment[..]
        };
        let loaded = load(role, include_str!("../../../examples/businesses.yaml"), environment).unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        let flocks = loaded.config.autostart.unwrap();
        let kinds: std::collections::BTreeSet<_> = flocks.iter().map(|flock| flock.business.kind().as_str()).collect();
        assert_eq!(kinds.len(), flocks.len(), "one example of each");
        let missing = crate::domain::business::BusinessKind::ALL
            .iter()
            .filter(|(name, _)| !kinds.contains(name));
        let missing: Vec<_> = missing.map(|(name, _)| *name).collect();
        assert_eq!(missing, ["EmptyLoop", "HTTPRunner"], "those are in examples/local.yaml");
        for flock in &flocks {
            assert_eq!(flock.business.oddities(), [""; 0]);
        }
        let Some(super::ServiceDiscovery::Static(discovery)) = loaded.config.discovery else {
            panic!("it lists its services");
        };
        assert!(discovery.gafaelfawr().is_ok() && discovery.nublado().is_ok() && discovery.muster().is_ok());
        assert!(discovery.tap("dp02").is_ok() && discovery.sia("dp02").is_ok());
    }
}

#[test]
fn the_guide_to_businesses_has_the_example_as_it_is() {
    let (guide, example) = (
        include_str!("../../../docs/businesses.md"),
        include_str!("../../../examples/businesses.yaml"),
    );
    assert!(
        guide.contains(example),
        "docs/businesses.md quotes another examples/businesses.yaml"
    );
}

#[test]
fn the_example_for_a_local_fleet_loads() {
    let flags = Flags {
        replica_count: Some("3".into()),
        ..Flags::default()
    };
    let loaded = load_all(Role::Local, include_str!("../../../examples/local.yaml"), &[], &flags).unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    let flocks: Vec<_> = loaded
        .config
        .autostart
        .unwrap()
        .iter()
        .map(|flock| flock.name.to_string())
        .collect();
    assert_eq!(flocks, ["idlers", "latecomers", "visitors"]);
    assert_eq!(loaded.config.replica_count, 3);
}

#[test]
fn a_configuration_for_tests_takes_a_free_port() {
    let config = Config::for_tests();
    assert_eq!(config.http_bind.port(), 0);
    assert!(config.drain_timeout <= Duration::from_secs(5));
}
