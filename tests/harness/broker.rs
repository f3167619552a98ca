//! A private RabbitMQ node, made of what Debian's `rabbitmq-server` installs.
//!
//! It listens on loopback only, keeps everything in a temporary folder and shares nothing with a node of the system: own node name,
//! ports, cookie, and own epmd. A watchdog process ends it when this process is gone, however that went.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mobu_fleet::domain::ids::FleetName;
use mobu_fleet::link::amqp::{AmqpConfig, AmqpLink};
use mobu_fleet::link::topology::{Permissions, Role, Topology};

/// Names the broker that the runner has started for all tests, if it has.
pub const URL_VARIABLE: &str = "MOBU_TEST_AMQP_URL";

/// Names another RabbitMQ than the installed one: a folder whose `sbin` has its scripts, as `tests/brokers/unpack` makes it.
pub const HOME_VARIABLE: &str = "MOBU_TEST_RABBITMQ_HOME";

/// How long a node may take to answer a handshake, or to end. It takes 3 to 6 s on an idle machine, three at once on a busy one take a minute.
const PATIENCE: Duration = Duration::from_secs(240);
/// A node that outlives its test run by this much is ended by its watchdog even if the run goes on.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Ports above are the system's for outgoing connections; a client that reconnects there can take its own broker's port.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The broker users of a fleet, as `deploy/rabbitmq` makes them: one for each role, by name.
pub fn role_users(topology: &Topology) -> [(&'static str, Permissions); 4] {
    let roles = [
        ("coordinator", Role::Coordinator),
        ("worker", Role::Worker),
        ("publisher", Role::Publisher),
        ("auditor", Role::Auditor),
    ];
    roles.map(|(name, role)| (name, topology.permissions(role)))
}

/// The broker that tests share, each with a fleet name of its own: the runner's, or one started by this process.
///
/// # Panics
///
/// If there is none and none can be started: a test without its broker has failed.
pub fn shared_broker() -> &'static str {
    static URL: OnceLock<(String, Option<Broker>)> = OnceLock::new();
    let (url, _) = URL.get_or_init(|| {
        let given = std::env::var_os(URL_VARIABLE).filter(|url| !url.is_empty());
        if let Some(url) = given {
            return (url.into_string().expect("the broker's URL is text"), None);
        }
        // Never dropped; the watchdog ends it with this process.
        let broker = Broker::start_blocking().expect("a private RabbitMQ node starts");
        (broker.url(), Some(broker))
    });
    url
}

/// A fleet name that no other test has.
///
/// # Panics
///
/// Never.
pub fn unique_fleet() -> FleetName {
    format!("t{}", uuid::Uuid::new_v4().simple())
        .parse()
        .expect("letters and digits")
}

/// A configuration for tests: short time limits.
///
/// # Panics
///
/// If the URL is wrong.
pub fn config(url: &str, fleet: &FleetName) -> AmqpConfig {
    let urls = AmqpConfig::parse_urls(url).expect("the harness makes right URLs");
    let mut config = AmqpConfig::new(urls, fleet.clone());
    config.operation_timeout = Duration::from_secs(20);
    config.connect_timeout = Duration::from_secs(20);
    config
}

/// A link to a broker.
///
/// # Panics
///
/// If the URL is wrong.
pub fn link(url: &str, fleet: &FleetName) -> AmqpLink {
    AmqpLink::new(config(url, fleet)).expect("the harness makes right URLs")
}

/// A private node. Ended, with its data, when it is dropped.
#[derive(Debug, Clone)]
pub struct Broker {
    node: Arc<Node>,
}

#[derive(Debug)]
struct Node {
    folder: tempfile::TempDir,
    scripts: PathBuf,
    name: String,
    port: u16,
    dist_port: u16,
    tls_port: Option<u16>,
    epmd_port: u16,
    password: String,
    heartbeat: u16,
    watchdog: Child,
}

/// What a node is to be like.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Password of the user `guest`, who may do everything; letters and digits.
    pub password: String,
    /// How many nodes form one cluster.
    pub nodes: usize,
    /// When a watchdog ends the nodes even if this process goes on.
    pub lifetime: Duration,
    /// Heartbeat that its URLs ask for, in seconds: short in tests, 5 by default in production.
    pub heartbeat: u16,
    /// A folder as `deploy/rabbitmq/make-certs` makes it: the nodes then speak TLS at one port more, to clients that show a
    /// certificate of the same authority.
    pub certificates: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            password: "guest".to_owned(),
            nodes: 1,
            lifetime: LIFETIME,
            heartbeat: 2,
            certificates: None,
        }
    }
}

impl Broker {
    /// Starts a node and waits until it speaks AMQP.
    pub async fn start() -> Result<Self> {
        tokio::task::spawn_blocking(Self::start_blocking).await?
    }

    /// As [`Broker::start`], for who has no runtime.
    pub fn start_blocking() -> Result<Self> {
        let mut nodes = Self::start_all_blocking(&Settings::default())?;
        nodes.pop().context("one node was asked for")
    }

    /// Starts as many nodes as the settings say, one cluster, and waits until each speaks AMQP.
    pub async fn start_all(settings: Settings) -> Result<Vec<Self>> {
        tokio::task::spawn_blocking(move || Self::start_all_blocking(&settings)).await?
    }

    fn start_all_blocking(settings: &Settings) -> Result<Vec<Self>> {
        let mut ports = free_ports(3 * settings.nodes + 1)?;
        let epmd_port = ports.pop().context("one more than three for each")?;
        let cookie = uuid::Uuid::new_v4().simple().to_string();
        let names: Vec<_> = ports
            .chunks(3)
            .map(|ports| format!("mobu{}@localhost", ports[0]))
            .collect();
        let nodes = ports.chunks(3).zip(&names).map(|(ports, name)| {
            let folder = tempfile::Builder::new().prefix("mobu-broker-").tempdir()?;
            // The node may run as another user than the one who made the folder.
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
            write_files(folder.path(), [ports[0], ports[2]], settings, &cookie, &names)?;
            let node = Node {
                scripts: scripts()?,
                name: name.clone(),
                port: ports[0],
                dist_port: ports[1],
                tls_port: settings.certificates.is_some().then_some(ports[2]),
                epmd_port,
                password: settings.password.clone(),
                heartbeat: settings.heartbeat,
                watchdog: watch(folder.path(), settings.lifetime)?,
                folder,
            };
            Ok(Self { node: Arc::new(node) })
        });
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        // All at once: the nodes of a cluster wait for each other.
        thread::scope(|scope| {
            let booting: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.node.boot())).collect();
            booting
                .into_iter()
                .try_for_each(|boot| boot.join().map_err(|_| anyhow::anyhow!("a start panicked"))?)
        })?;
        Ok(nodes)
    }

    /// Where it listens, with the credentials of its administrator and the heartbeat of its settings.
    pub fn url(&self) -> String {
        self.url_at(self.node.port)
    }

    /// The same through another port: a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        let Node {
            password, heartbeat, ..
        } = &*self.node;
        format!("amqp://guest:{password}@127.0.0.1:{port}/?heartbeat={heartbeat}")
    }

    /// The same through TLS, for a host name that the node's certificate may or may not have.
    ///
    /// # Panics
    ///
    /// If the node was started without certificates.
    pub fn tls_url(&self, host: &str) -> String {
        let Node {
            password,
            tls_port,
            heartbeat,
            ..
        } = &*self.node;
        let tls_port = tls_port.expect("the node was given certificates");
        format!("amqps://guest:{password}@{host}:{tls_port}/?heartbeat={heartbeat}")
    }

    /// The same as another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let Node { port, heartbeat, .. } = &*self.node;
        format!("amqp://{user}:{password}@127.0.0.1:{port}/?heartbeat={heartbeat}")
    }

    /// The port that it listens at.
    pub fn port(&self) -> u16 {
        self.node.port
    }

    /// Waits until what was declared so far survives a kill. The node writes its own tables seconds late: when
    /// 3.10.8 is killed just after it got its first stream, that stream stays "down or inaccessible" for good.
    pub async fn sync(&self) -> Result<()> {
        self.control(&["eval", "mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()]."])
            .await?;
        Ok(())
    }

    /// Ends the node without a warning to anybody.
    pub async fn kill(&self) -> Result<()> {
        self.blocking(|node| {
            node.signal("KILL")?;
            node.wait_gone()
        })
        .await
    }

    /// Ends the node as an administrator would, and waits until it has.
    pub async fn stop(&self) -> Result<()> {
        self.blocking(|node| {
            node.signal("TERM")?;
            node.wait_gone()
        })
        .await
    }

    /// Name of the node in its cluster.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// Where a node keeps its data.
    pub fn data(&self) -> PathBuf {
        self.node.folder.path().join("mnesia").join(&self.node.name)
    }

    /// Boots a node that was killed, with the data that it had.
    pub async fn restart(&self) -> Result<()> {
        self.blocking(Node::boot).await
    }

    /// Deletes all data of a node that was killed.
    pub async fn wipe(&self) -> Result<()> {
        self.blocking(|node| {
            ensure!(node.pid().is_none(), "wipe of a node that runs");
            fs::remove_dir_all(node.folder.path().join("mnesia"))?;
            Ok(())
        })
        .await
    }

    /// Stops the node's clock.
    pub async fn freeze(&self) -> Result<()> {
        self.blocking(|node| node.signal("STOP")).await
    }

    /// Lets a frozen node go on.
    pub async fn thaw(&self) -> Result<()> {
        self.blocking(|node| node.signal("CONT")).await
    }

    /// Raises a memory alarm, which blocks publishers, or ends it.
    pub async fn alarm(&self, on: bool) -> Result<()> {
        let fraction = if on { "0.00001" } else { "0.8" };
        self.control(&["set_vm_memory_high_watermark", fraction]).await?;
        Ok(())
    }

    /// Raises the alarm of a full disk, which blocks publishers, or ends it.
    pub async fn disk_alarm(&self, on: bool) -> Result<()> {
        let limit = if on { "1000000GB" } else { "50MB" };
        self.control(&["set_disk_free_limit", limit]).await?;
        Ok(())
    }

    /// Makes users with exactly these permissions; their password is their name.
    pub async fn add_users(&self, users: &[(&str, Permissions)]) -> Result<()> {
        let users = users.iter().map(|(name, may)| (*name, *name, may.clone()));
        self.add_users_with_passwords(&users.collect::<Vec<_>>()).await
    }

    /// Makes users by name, with these passwords and exactly these permissions.
    pub async fn add_users_with_passwords(&self, users: &[(&str, &str, Permissions)]) -> Result<()> {
        let names: Vec<_> = users
            .iter()
            .map(|(name, password, _)| serde_json::json!({ "name": name, "password": password, "tags": "" }))
            .collect();
        let permissions: Vec<_> = users
            .iter()
            .map(|(name, _, may)| {
                serde_json::json!({
                    "user": name, "vhost": "/",
                    "configure": may.configure, "write": may.write, "read": may.read,
                })
            })
            .collect();
        let definitions = serde_json::json!({ "users": names, "permissions": permissions });
        let path = self.node.folder.path().join("definitions.json");
        fs::write(&path, definitions.to_string())?;
        let path = path.to_str().context("temporary folders have plain names")?.to_owned();
        self.control(&["import_definitions", &path]).await?;
        Ok(())
    }

    /// Runs `rabbitmqctl` against this node and returns what it printed.
    pub async fn control(&self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        self.blocking(move |node| {
            let output = node
                .command("rabbitmqctl")
                .args(["-q", "-t", "30", "-n", &node.name])
                .args(&arguments)
                .stdin(Stdio::null())
                .output()?;
            ensure!(
                output.status.success(),
                "rabbitmqctl {arguments:?}: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Node) -> Result<T> + Send + 'static) -> Result<T> {
        let node = Arc::clone(&self.node);
        tokio::task::spawn_blocking(move || work(&node)).await?
    }
}

impl Node {
    /// The environment in which all of Erlang's tools mean this node and no other.
    fn command(&self, script: &str) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(self.scripts.join(script));
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", folder)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("env.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_FEATURE_FLAGS_FILE", folder.join("flags"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", folder.join("generated"))
            // Idle schedulers would spin, and the distribution would listen on every address.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
            )
            .current_dir(folder);
        command
    }

    fn boot(&self) -> Result<()> {
        let folder = self.folder.path();
        remove(&folder.join("pid"))?;
        let log = fs::File::create(folder.join("console.log"))?;
        // Away from our process group: a signal to the tests is for the watchdog to pass on.
        let server = self.command("rabbitmq-server");
        let mut detached = Command::new("setsid");
        detached.arg(server.get_program());
        detached.env_clear();
        for (key, value) in server.get_envs() {
            if let Some(value) = value {
                detached.env(key, value);
            }
        }
        let mut child = detached
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("rabbitmq-server could not be started")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The listener for TLS opens after the other one.
            if speaks_amqp(self.port) && self.tls_port.is_none_or(is_open) {
                break;
            }
            let ended = child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("the node did not come up ({ended:?}):\n{}", self.console());
            }
            thread::sleep(Duration::from_millis(50));
        }
        // Collects the child when it ends, so that no zombie keeps its pid.
        thread::spawn(move || drop(child.wait()));
        Ok(())
    }

    fn console(&self) -> String {
        fs::read_to_string(self.folder.path().join("console.log")).unwrap_or_default()
    }

    /// The pid of the Erlang machine itself, if it runs.
    fn pid(&self) -> Option<u32> {
        running(&self.folder.path().join("pid"))
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.pid().context("the node does not run")?;
        kill(pid, signal)
    }

    fn wait_gone(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.pid().is_some() {
            ensure!(Instant::now() < deadline, "the node does not end");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The end of its standard input tells the watchdog to end the node, which it does within moments.
        drop(self.watchdog.stdin.take());
        drop(self.watchdog.wait());
    }
}

/// Starts the process that ends the node when its standard input closes: when we say so, or when we are gone.
///
/// The epmd that the node started is found by its port, which nobody else was given.
fn watch(folder: &Path, lifetime: Duration) -> Result<Child> {
    let script = format!(
        r#"
        timeout {lifetime} cat > /dev/null
        pid=$(cat "$1/pid" 2>/dev/null)
        case "$pid" in
            ''|*[!0-9]*) ;;
            *) grep -q beam "/proc/$pid/comm" 2>/dev/null && kill -KILL "$pid" ;;
        esac
        for entry in /proc/[0-9]*; do
            if grep -q '^epmd$' "$entry/comm" 2>/dev/null \
                && tr '\0' '\n' < "$entry/environ" 2>/dev/null | grep -qxF "HOME=$1"; then
                kill -KILL "${{entry#/proc/}}"
            fi
        done
        rm -rf "$1"
        "#,
        lifetime = lifetime.as_secs(),
    );
    Command::new("setsid")
        .args(["sh", "-c", &script, "watchdog"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("no watchdog could be started")
}

fn write_files(folder: &Path, ports: [u16; 2], given: &Settings, secret: &str, nodes: &[String]) -> Result<()> {
    let [port, tls_port] = ports;
    for name in ["mnesia", "log", "generated"] {
        fs::create_dir(folder.join(name))?;
    }
    let cookie = folder.join(".erlang.cookie");
    fs::write(&cookie, secret)?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
    fs::write(folder.join("plugins"), "[].\n")?;
    fs::write(folder.join("env.conf"), "")?;
    let mut settings = String::new();
    writeln!(settings, "listeners.tcp.local = 127.0.0.1:{port}")?;
    writeln!(settings, "disk_free_limit.absolute = 50MB")?;
    writeln!(settings, "vm_memory_high_watermark.relative = 0.8")?;
    writeln!(settings, "log.console = true")?;
    writeln!(settings, "log.console.level = warning")?;
    writeln!(settings, "log.file = false")?;
    writeln!(settings, "default_pass = {}", given.password)?;
    if let Some(certificates) = &given.certificates {
        writeln!(settings, "listeners.ssl.local = 127.0.0.1:{tls_port}")?;
        for (key, file) in [
            ("cacertfile", "ca.crt"),
            ("certfile", "server.crt"),
            ("keyfile", "server.key"),
        ] {
            writeln!(settings, "ssl_options.{key} = {}", certificates.join(file).display())?;
        }
        writeln!(settings, "ssl_options.verify = verify_peer")?;
        writeln!(settings, "ssl_options.fail_if_no_peer_cert = true")?;
    }
    if nodes.len() > 1 {
        writeln!(settings, "cluster_formation.peer_discovery_backend = classic_config")?;
        for (index, name) in nodes.iter().enumerate() {
            writeln!(
                settings,
                "cluster_formation.classic_config.nodes.{} = {name}",
                index + 1
            )?;
        }
        writeln!(settings, "cluster_partition_handling = pause_minority")?;
        writeln!(settings, "net_ticktime = 8")?;
    }
    fs::write(folder.join("rabbitmq.conf"), settings)?;
    Ok(())
}

/// The folder of the server's own scripts. Those in the path switch to another user.
fn scripts() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os(HOME_VARIABLE).filter(|home| !home.is_empty()) {
        let scripts = Path::new(&home).join("sbin");
        ensure!(
            scripts.join("rabbitmq-server").exists(),
            "{HOME_VARIABLE}: there is no rabbitmq-server in {}",
            scripts.display()
        );
        return Ok(scripts);
    }
    let base = Path::new("/usr/lib/rabbitmq/lib");
    for entry in fs::read_dir(base).context("rabbitmq-server is not installed")? {
        let scripts = entry?.path().join("sbin");
        if scripts.join("rabbitmq-server").exists() {
            return Ok(scripts);
        }
    }
    bail!("no rabbitmq-server under {}", base.display())
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let mut held = Vec::new();
    for _ in 0..1000 {
        let port = fastrand::u16(PORTS);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return Ok(held.into_iter().map(|(port, _)| port).collect());
        }
    }
    bail!("no free ports in {PORTS:?}")
}

/// Whether a whole AMQP greeting comes back: an open port alone says nothing.
fn speaks_amqp(port: u16) -> bool {
    let greet = || -> std::io::Result<u8> {
        let limit = Duration::from_secs(1);
        let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut frame = [0];
        stream.read_exact(&mut frame)?;
        Ok(frame[0])
    };
    // Frame type 1: a method, and the first one is `connection.start`.
    greet().is_ok_and(|kind| kind == 1)
}

fn is_open(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Reads a pid file; `None` if there is none or its process is gone.
fn running(file: &Path) -> Option<u32> {
    let pid: u32 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A zombie has ended.
    let state = status.rsplit_once(") ")?.1;
    (!state.starts_with('Z')).then_some(pid)
}

/// Signals through the shell's own `kill`: the program of that name is not on every machine.
fn kill(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", signal, &pid.to_string()])
        .status()?;
    ensure!(status.success(), "kill -s {signal} {pid}");
    Ok(())
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
