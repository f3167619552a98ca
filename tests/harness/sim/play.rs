//! Plays a script, and checks after every event what must always be true.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::time::Duration;

use mobu_fleet::domain::flock::Spread;
use mobu_fleet::domain::ids::{FlockName, InstanceId, MonkeyName, Revision};
use mobu_fleet::domain::messages::{FlockPhase, Standing};
use mobu_fleet::link::memory::Hub;
use mobu_fleet::runtime::clock::{Instant, now};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use mobu_worker::{LinkStatus, WorkerHandle};

use super::ask::{self, Heard};
use super::fault::Plan;
use super::model::Accepted;
use super::node::Node;
use super::oracle::Oracle;
use super::script::{Event, LEASE, LEASED, MOST_REPLICAS, REPLICAS, Role, SPREAD, Script};
use super::watch::Watched;

/// How often the invariants are checked between two events.
const CHECK: Duration = Duration::from_millis(250);

/// How long a fleet may take to converge once nothing goes wrong any more.
const CONVERGENCE: Duration = Duration::from_secs(60);

/// How long a process may take to end in an orderly way.
const ENDING: Duration = Duration::from_secs(20);

/// How long a replica may take to stop its monkeys while another process has its name, and the link works for it: it asks that
/// process whether it lives, again and again, and question and answer may be lost.
const NAMELESS: Duration = Duration::from_secs(40);

/// How long a replica that is not heard is waited for before its users are given to others: `spread: across_replicas`.
const SILENT_WAIT: Duration = Duration::from_secs(30);

/// How long a replica may take to notice something.
const SLACK: Duration = Duration::from_secs(2);

/// A run in which everything was as it must be.
#[derive(Debug)]
pub struct Played {
    /// Digest of all that happened: the same for the same seed.
    pub digest: u64,
    /// How many changes were accepted.
    pub accepted: usize,
    /// How long the fleet took to converge after the last fault, in simulated time.
    pub convergence: Duration,
    /// What happened.
    pub trace: Vec<String>,
}

/// A run in which something was not.
#[derive(Debug)]
pub struct Failure {
    /// What.
    pub what: String,
    /// All that happened before.
    pub trace: Vec<String>,
}

thread_local! {
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Collects panics on threads that simulate: a task's panic ends nothing but the task.
fn collect_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_ours = PANICS.with_borrow_mut(|panics| panics.as_mut().map(|panics| panics.push(info.to_string())));
            if is_ours.is_none() {
                before(info);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

/// What tasks of the harness write and the loop reads.
#[derive(Debug, Default)]
struct Notes {
    trace: Vec<String>,
    wrong: Option<String>,
    /// The states that each replica's process has acted on, in order.
    acted: BTreeMap<String, Vec<Standing>>,
}

struct World {
    script: Script,
    began: Instant,
    hub: Hub,
    plan: Arc<Plan>,
    oracle: Arc<Mutex<Oracle>>,
    link: Watched,
    nodes: Vec<Node>,
    /// How many replicas the fleet is to have.
    size: usize,
    /// Tasks of the harness itself.
    own: Tasks,
    notes: Arc<Mutex<Notes>>,
    heard: Heard,
    accepted: Accepted,
    random: fastrand::Rng,
    lives: usize,
    requests: Vec<String>,
    /// After the log lost something: a process that knows all that was accepted, and must live until the log has it again.
    knower: Option<String>,
    /// The refresh that a run of a flock showed first.
    first_refresh: BTreeMap<(String, String, u64), Revision>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("the harness does not panic while it holds this")
}

/// Plays a script to its end.
pub(super) async fn play_world(script: &Script) -> Result<Played, Box<Failure>> {
    let seed = script.seed;
    let plan = Arc::new(Plan::new(seed ^ 0x5eed, script.profile));
    let hub = Hub::with_faults(plan.clone());
    let oracle = Arc::new(Mutex::new(Oracle::default()));
    let link = Watched::new(hub.clone(), plan.clone(), oracle.clone());
    let mut world = World {
        script: script.clone(),
        began: now(),
        hub,
        plan,
        oracle,
        link,
        nodes: Vec::new(),
        size: REPLICAS,
        own: Tasks::new(),
        notes: Arc::default(),
        heard: Heard::default(),
        accepted: Accepted::default(),
        random: fastrand::Rng::with_seed(seed ^ 0x00f1_ee70),
        lives: 0,
        requests: Vec::new(),
        knower: None,
        first_refresh: BTreeMap::new(),
    };
    let outcome = world.whole().await;
    let mut trace = std::mem::take(&mut locked(&world.notes).trace);
    match outcome {
        Ok(convergence) => Ok(Played {
            digest: trace
                .iter()
                .flat_map(|line| line.bytes())
                .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
                }),
            accepted: world.accepted.count,
            convergence,
            trace,
        }),
        Err(what) => {
            trace.extend(locked(&world.oracle).lines());
            let replicas = world
                .nodes
                .iter()
                .filter_map(|node| Some((&node.name, node.worker.as_ref()?)));
            trace.extend(replicas.map(|(name, worker)| format!("{name}: {:?}", *worker.status().borrow())));
            Err(Box::new(Failure { what, trace }))
        }
    }
}

/// Plays a script; a panic anywhere is a failure.
///
/// # Errors
///
/// [`Failure`].
pub async fn play(script: &Script) -> Result<Played, Box<Failure>> {
    collect_panics();
    let played = play_world(script).await;
    let panics = PANICS.take().unwrap_or_default();
    match (played, panics.first()) {
        (Ok(played), Some(panic)) => Err(Box::new(Failure {
            what: format!("a task panicked: {panic}"),
            trace: played.trace,
        })),
        (played, _) => played,
    }
}

impl World {
    async fn whole(&mut self) -> Result<Duration, String> {
        for number in 0..self.script.coordinators {
            self.start(Role::Coordinator(number));
        }
        for number in 0..self.size {
            self.start(Role::Replica(number));
        }
        for (at, event) in self.script.events.clone() {
            self.wait_until(self.began + at).await?;
            if matches!(event, Event::LoseNewest(_) | Event::LoseUnnoticed(..) | Event::Wipe) {
                // What is under way in this instant arrives before.
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                self.check()?;
            }
            self.apply(event);
            // Everybody gets to know before it is checked.
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.check()?;
        }
        self.heal();
        let healed = now();
        self.converge().await?;
        let convergence = healed.elapsed();
        self.end().await?;
        Ok(convergence)
    }

    fn say(&self, text: &str) {
        let at = self.began.elapsed().as_millis();
        locked(&self.notes).trace.push(format!("{at:>6} {text}"));
    }

    async fn wait_until(&mut self, at: Instant) -> Result<(), String> {
        while now() < at {
            tokio::time::sleep_until(at.min(now() + CHECK)).await;
            self.check()?;
        }
        Ok(())
    }

    fn start(&mut self, role: Role) {
        self.lives += 1;
        let seed = self.random.u64(..);
        let node = Node::start(role, self.size, self.lives, seed, Arc::new(self.link.clone()));
        self.say(&format!("started {}", node.name));
        if let Some(worker) = &node.worker {
            let watch = watch_replica(
                node.name.clone(),
                worker.clone(),
                self.began,
                self.oracle.clone(),
                self.hub.clone(),
                self.link.clone(),
                self.notes.clone(),
            );
            drop(self.own.spawn(TaskKind::Expendable, "watch", watch));
        }
        self.nodes.push(node);
    }

    fn nodes_of(&self, role: Role) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter(|(_, node)| node.role == role)
            .map(|(index, _)| index)
            .collect()
    }

    /// Picks one of the live processes of a role.
    fn pick(&mut self, role: Role) -> Option<usize> {
        let found = self.nodes_of(role);
        let index = self.random.usize(0..found.len().max(1));
        found.get(index).copied()
    }

    fn apply(&mut self, event: Event) {
        self.say(&format!("event {event:?}"));
        match event {
            Event::Kill(role) | Event::Stop(role) => {
                let Some(index) = self.pick(role) else { return };
                let node = &mut self.nodes[index];
                if self.knower.as_ref() == Some(&node.name) {
                    return;
                }
                if matches!(event, Event::Kill(_)) {
                    node.kill();
                } else {
                    node.stop();
                }
            }
            Event::Start(role) => {
                if self.nodes_of(role).is_empty() && self.belongs(role) {
                    self.start(role);
                }
            }
            Event::Second(number) => {
                let running = self.nodes_of(Role::Replica(number));
                let is_known = running
                    .iter()
                    .any(|index| self.knower.as_ref() == Some(&self.nodes[*index].name));
                if running.len() < 2 && !is_known && self.belongs(Role::Replica(number)) {
                    self.start(Role::Replica(number));
                }
            }
            Event::Scale(size) => self.scale(size),
            Event::Cut(role) => {
                if let Some(index) = self.pick(role) {
                    let name = self.nodes[index].name.clone();
                    self.hub.cut(|session| session.starts_with(&name));
                }
            }
            Event::CutAll => self.hub.cut(|_| true),
            Event::StrandLock(millis) => {
                self.hub.strand_lock();
                let hub = self.hub.clone();
                if let Some(millis) = millis {
                    drop(self.own.spawn(TaskKind::Expendable, "node", async move {
                        tokio::time::sleep(Duration::from_millis(millis)).await;
                        hub.free_lock();
                    }));
                }
            }
            Event::StrandName(number, millis) => {
                let id: InstanceId = number.to_string().parse().expect("a number is an instance ID");
                self.hub.strand_name(&id);
                let hub = self.hub.clone();
                if let Some(millis) = millis {
                    drop(self.own.spawn(TaskKind::Expendable, "node", async move {
                        tokio::time::sleep(Duration::from_millis(millis)).await;
                        hub.free_name(&id);
                    }));
                }
            }
            Event::Unreachable(role, millis) => {
                if let Some(index) = self.pick(role) {
                    self.cut_off(self.nodes[index].name.clone(), millis);
                }
            }
            Event::Freeze(role, millis, is_noticed) => {
                if let Some(index) = self.pick(role) {
                    let (name, freezer) = (
                        self.nodes[index].name.clone(),
                        self.nodes[index].tasks.freezer().clone(),
                    );
                    freezer.freeze();
                    let hub = self.hub.clone();
                    drop(self.own.spawn(TaskKind::Expendable, "freeze", async move {
                        let half = Duration::from_millis(millis / 2);
                        tokio::time::sleep(half).await;
                        if is_noticed {
                            hub.cut(|session| session.starts_with(&name));
                        }
                        tokio::time::sleep(half).await;
                        freezer.thaw();
                    }));
                }
            }
            Event::LoseNewest(entries) => drop(self.lose(|hub| hub.lose_newest(entries))),
            Event::Wipe => drop(self.lose(Hub::wipe)),
            Event::LoseUnnoticed(entries, millis) => self.lose_unnoticed(entries, millis),
            Event::Call(wanted, is_repeated) => {
                let request = self.request(is_repeated);
                let leads = |node: &Node| node.fleet.is_some();
                let coordinators: Vec<_> = self.nodes.iter().filter(|node| leads(node)).collect();
                // A client that meets a standby tries the next one.
                for node in coordinators {
                    if let Some(fleet) = node.fleet.clone() {
                        let call = ask::call(fleet, wanted, request.clone(), self.heard.clone());
                        drop(self.own.spawn(TaskKind::Expendable, "call", call));
                    }
                }
            }
            Event::Request(wanted, is_doubled) => {
                let request = self.request(false);
                let copies = if is_doubled { 2 } else { 1 };
                let publish = ask::publish(self.hub.clone(), wanted, request, copies, self.heard.clone());
                drop(self.own.spawn(TaskKind::Expendable, "request", publish));
            }
        }
    }

    fn belongs(&self, role: Role) -> bool {
        match role {
            Role::Coordinator(number) => number < self.script.coordinators,
            Role::Replica(number) => number < self.size,
        }
    }

    /// Gives the fleet another size, as an operator does.
    fn scale(&mut self, size: usize) {
        // Who must not end does not.
        if self.knower.is_some() {
            return;
        }
        let old = std::mem::replace(&mut self.size, size);
        for node in &mut self.nodes {
            let goes = match node.role {
                Role::Coordinator(_) => true,
                Role::Replica(number) => number >= size,
            };
            if goes {
                node.stop();
            }
        }
        (0..self.script.coordinators).for_each(|number| self.start(Role::Coordinator(number)));
        (old..size).for_each(|number| self.start(Role::Replica(number)));
    }

    /// Takes the network away from a process for a while.
    fn cut_off(&self, name: String, millis: u64) {
        let plan = self.plan.clone();
        plan.cut_off(&name);
        self.hub.cut(|session| session.starts_with(&name));
        drop(self.own.spawn(TaskKind::Expendable, "network", async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            plan.let_back(&name);
        }));
    }

    /// The log loses something while nobody is there who could say so.
    fn lose_unnoticed(&mut self, entries: usize, millis: u64) {
        if !self.lose(|hub| hub.lose_newest(entries)) {
            return;
        }
        let nodes: Vec<(Role, String)> = self.nodes.iter().map(|node| (node.role, node.name.clone())).collect();
        for (role, name) in nodes {
            match role {
                Role::Coordinator(_) => {
                    self.nodes
                        .iter_mut()
                        .filter(|node| node.name == name)
                        .for_each(Node::kill);
                    self.start(role);
                }
                Role::Replica(_) => self.cut_off(name, millis),
            }
        }
    }

    fn request(&mut self, is_repeated: bool) -> String {
        if is_repeated && let Some(last) = self.requests.last() {
            return last.clone();
        }
        let request = format!("r{}", self.requests.len());
        self.requests.push(request.clone());
        request
    }

    /// The broker loses something, if somebody is there from whom it can be learnt again.
    ///
    /// A change that nobody alive knows is lost with the log, and nothing can be done about it: design 8 promises what any
    /// coordinator or replica knows. Such a loss is left out; so is one before the last is healed.
    fn lose(&mut self, how: impl Fn(&Hub)) -> bool {
        locked(&self.oracle).absorb(&self.hub.log());
        let knows = |node: &&Node| {
            let is_alone = self.nodes_of(node.role).len() == 1;
            let standing = node
                .worker
                .as_ref()
                .and_then(|worker| worker.status().borrow().standing.clone());
            let oracle = locked(&self.oracle);
            let is_newest = |standing: Standing| {
                let newest = oracle.newest.as_ref().map(|(newest, _)| newest);
                newest.is_some_and(|newest| newest.revision == standing.revision && newest.digest == standing.digest)
            };
            node.ending.is_none() && is_alone && standing.is_some_and(is_newest)
        };
        let knowers: Vec<String> = self.nodes.iter().filter(knows).map(|node| node.name.clone()).collect();
        if self.knower.is_some() || knowers.is_empty() || !locked(&self.heard).is_empty() {
            self.say("the loss is left out: nobody could heal it");
            return false;
        }
        let chosen = knowers[self.random.usize(0..knowers.len())].clone();
        self.say(&format!("{chosen} knows all"));
        self.knower = Some(chosen);
        how(&self.hub);
        locked(&self.oracle).lose(&self.hub.log());
        true
    }

    fn heal(&mut self) {
        self.say("healed");
        self.plan.heal();
        for node in &self.nodes {
            node.tasks.freezer().thaw();
        }
        for role in (0..self.size).map(Role::Replica).chain([Role::Coordinator(0)]) {
            let is_there = self
                .nodes_of(role)
                .iter()
                .any(|index| self.nodes[*index].ending.is_none());
            if !is_there {
                self.start(role);
            }
        }
    }

    /// Everything that must be true at any time.
    fn check(&mut self) -> Result<(), String> {
        locked(&self.oracle).absorb(&self.hub.log());
        if let Some(wrong) = locked(&self.oracle).wrong.take() {
            return Err(wrong);
        }
        if let Some(wrong) = locked(&self.notes).wrong.take() {
            return Err(wrong);
        }
        self.hear()?;
        self.reap()?;
        self.nodes.iter_mut().for_each(Node::look);
        self.check_users()?;
        self.check_spread()?;
        self.check_leases()?;
        self.check_flocks()?;
        if self.knower.is_some() && self.is_remembered() {
            self.say("the log has again what was accepted");
            self.knower = None;
            locked(&self.oracle).has_forgotten = false;
        }
        Ok(())
    }

    fn is_remembered(&self) -> bool {
        let oracle = locked(&self.oracle);
        let newest = oracle.newest.as_ref();
        newest.is_some_and(|(standing, state)| {
            standing.revision >= oracle.all.newest && oracle.all.forgotten(state).is_none() && oracle.knows_requests()
        })
    }

    /// Takes note of what clients were told.
    fn hear(&mut self) -> Result<(), String> {
        for told in std::mem::take(&mut *locked(&self.heard)) {
            let told = told?;
            let (request, revision) = (&told.request, told.revision);
            self.say(&format!(
                "{request} is accepted as revision {revision}, new: {}",
                told.is_new
            ));
            let change = locked(&self.oracle)
                .changes
                .get(&(request.clone(), revision.0))
                .cloned();
            match change {
                Some(change) => self.accepted.take(revision, &change),
                None if told.is_new => {
                    return Err(format!(
                        "{request} was accepted as revision {revision}, which does not count"
                    ));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Buries the dead.
    fn reap(&mut self) -> Result<(), String> {
        for node in &self.nodes {
            let late = node.ending.is_some_and(|since| since.elapsed() > ENDING);
            if late && !node.is_frozen() && !node.has_ended() {
                return Err(format!("{} has not ended {ENDING:?} after it was asked to", node.name));
            }
            if node.has_ended() && node.ending.is_none() {
                let failure = node
                    .worker
                    .as_ref()
                    .and_then(|worker| worker.status().borrow().failure.clone());
                if failure.is_none() {
                    return Err(format!("{} ended by itself", node.name));
                }
            }
        }
        let ended: Vec<String> = self
            .nodes
            .iter()
            .filter(|node| node.has_ended())
            .map(|node| node.name.clone())
            .collect();
        for name in ended {
            self.say(&format!("ended {name}"));
            self.nodes.retain(|node| node.name != name);
        }
        Ok(())
    }

    /// No user runs twice, but for one whose replica does not know yet that another process has its name.
    fn check_users(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            let Some(worker) = &node.worker else { continue };
            let can_know = !node.tasks.freezer().is_frozen() && !self.plan.is_cut_off(&node.name);
            let is_nameless = worker.status().borrow().is_name_taken && can_know;
            node.nameless = is_nameless.then(|| node.nameless.unwrap_or_else(now));
            if node.monkeys() > 0 && node.nameless.is_some_and(|since| since.elapsed() > NAMELESS) {
                return Err(format!(
                    "{} runs monkeys although another process has its name",
                    node.name
                ));
            }
        }
        for number in 0..MOST_REPLICAS {
            let both: Vec<&Node> = self
                .nodes_of(Role::Replica(number))
                .iter()
                .map(|index| &self.nodes[*index])
                .filter(|node| node.monkeys() > 0)
                .collect();
            let is_sure = |node: &&&Node| {
                let worker = node.worker.as_ref().expect("it has monkeys");
                !node.is_frozen() && worker.status().borrow().link == LinkStatus::Open
            };
            if both.iter().filter(is_sure).count() > 1 {
                return Err(format!("two processes run the users of replica {number}"));
            }
        }
        Ok(())
    }

    /// No user that is dealt out runs on two replicas, but for what one has that the fleet has waited for long enough, or that does not know yet
    /// that another process has its name: the fleet hears of that one.
    fn check_spread(&self) -> Result<(), String> {
        let name = flock_name(SPREAD);
        let mut runs: BTreeMap<MonkeyName, &Node> = BTreeMap::new();
        let is_alone = |node: &Node| self.nodes_of(node.role).len() == 1;
        let is_waited_for = |node: &Node, since: Instant| since.elapsed() < SILENT_WAIT && is_alone(node);
        let is_heard = |node: &&Node| node.speechless.is_none_or(|since| is_waited_for(node, since));
        for node in self.nodes.iter().filter(is_heard) {
            for user in node.users(&name) {
                if let Some(other) = runs.insert(user.clone(), node)
                    && other.role != node.role
                {
                    return Err(format!("{} and {} both run {user}", other.name, node.name));
                }
            }
        }
        Ok(())
    }

    /// A replica that hears of nobody does not run for longer than the lease.
    fn check_leases(&self) -> Result<(), String> {
        let name = flock_name(LEASED);
        let is_over = |node: &&Node| node.alone.is_some_and(|since| since.elapsed() > LEASE + SLACK);
        for node in self.nodes.iter().filter(is_over) {
            if !node.users(&name).is_empty() {
                return Err(format!("{} runs {name} beyond its lease", node.name));
            }
        }
        Ok(())
    }

    /// A replica runs only what a state asked for that it may have read, and refreshes exactly as asked.
    fn check_flocks(&mut self) -> Result<(), String> {
        let oracle = locked(&self.oracle);
        let notes = locked(&self.notes);
        for node in &self.nodes {
            let Some(worker) = &node.worker else { continue };
            let flocks = worker.flocks();
            let acted = notes.acted.get(&node.name);
            if !flocks.is_empty() && acted.is_none() {
                return Err(format!("{} runs flocks and has read nothing", node.name));
            }
            for (name, report) in flocks {
                let key = (name.as_str().to_owned(), report.generation.0);
                let states = acted.into_iter().flatten().filter_map(|standing| {
                    let state = oracle.counted.get(&(standing.revision.0, standing.digest.clone()))?;
                    state
                        .flocks
                        .get(&name)
                        .filter(|flock| flock.generation == report.generation)
                });
                let adopted = states.map(|flock| flock.refresh_generation).min();
                let Some(adopted) = adopted.filter(|_| oracle.asked.contains(&key)) else {
                    return Err(format!(
                        "{} runs generation {} of {name}, which no state asked for that it acted on",
                        node.name, report.generation
                    ));
                };
                if report.phase != FlockPhase::Running || node.is_frozen() {
                    continue;
                }
                let run = (
                    node.name.clone(),
                    format!("{name} {:?}", report.start_time),
                    report.generation.0,
                );
                let first = *self.first_refresh.entry(run).or_insert(report.refresh_generation);
                for monkey in worker.monkeys(&name) {
                    let refreshes = monkey.business.refreshing;
                    if refreshes && report.refresh_generation <= adopted {
                        return Err(format!(
                            "{} refreshes {} without being asked to",
                            node.name, monkey.name
                        ));
                    }
                    if !refreshes && report.refresh_generation > first {
                        return Err(format!("{} has lost a refresh of {}", node.name, monkey.name));
                    }
                }
            }
        }
        Ok(())
    }

    async fn converge(&mut self) -> Result<(), String> {
        let until = now() + CONVERGENCE;
        loop {
            tokio::time::sleep(CHECK).await;
            self.check()?;
            match self.unconverged().await {
                None => return Ok(()),
                Some(why) if now() >= until => {
                    return Err(format!(
                        "the fleet has not converged {CONVERGENCE:?} after the last fault: {why}"
                    ));
                }
                Some(_) => {}
            }
        }
    }

    /// Returns what is not as it should be, if anything.
    async fn unconverged(&self) -> Option<String> {
        let mut leaders = Vec::new();
        for node in self.nodes.iter().filter(|node| node.ending.is_none()) {
            if let Some(fleet) = &node.fleet
                && let Ok(status) = fleet.status().await
                && status.is_leading()
            {
                leaders.push((node.name.clone(), status));
            }
        }
        let [(leader, status)] = leaders.as_slice() else {
            return Some(format!("{} coordinators lead", leaders.len()));
        };
        let Some((newest, state)) = locked(&self.oracle).newest.clone() else {
            return Some("the log has no state".to_owned());
        };
        if let Some(forgotten) = self.accepted.forgotten(&state) {
            return Some(format!("an accepted change is forgotten: {forgotten}"));
        }
        if status.standing.as_ref() != Some(&newest) {
            return Some(format!(
                "{leader} leads at {:?}, the log says {newest:?}",
                status.standing
            ));
        }
        if !status.converged {
            return Some(format!("{leader} sees no convergence: {:?}", status.states));
        }
        let is_nameless = |worker: &WorkerHandle| worker.status().borrow().is_name_taken;
        let busy = |node: &&Node| node.worker.as_ref().is_some_and(is_nameless) && node.monkeys() > 0;
        if let Some(node) = self.nodes.iter().find(busy) {
            return Some(format!(
                "{} runs monkeys although another process has its name",
                node.name
            ));
        }
        for number in 0..self.size {
            let holders = self.nodes_of(Role::Replica(number));
            let mut holders = holders.iter().filter_map(|index| self.nodes[*index].worker.as_ref());
            let Some(holder) = holders.find(|worker| worker.status().borrow().link == LinkStatus::Open) else {
                return Some(format!("replica {number} is not connected"));
            };
            let standing = holder.status().borrow().standing.clone();
            let same = |theirs: &Standing| theirs.revision == newest.revision && theirs.digest == newest.digest;
            if !standing.as_ref().is_some_and(same) {
                return Some(format!(
                    "replica {number} acts on {standing:?}, the log says {newest:?}"
                ));
            }
            let runs = holder.flocks();
            let names = |flocks: Vec<&mobu_fleet::domain::ids::FlockName>| -> BTreeSet<String> {
                flocks.into_iter().map(ToString::to_string).collect()
            };
            if names(runs.keys().collect()) != names(state.flocks.keys().collect()) {
                return Some(format!("replica {number} runs {:?}", runs.keys().collect::<Vec<_>>()));
            }
            for (name, flock) in &state.flocks {
                let report = &runs[name];
                let monkeys = holder.monkeys(name).len();
                let count = usize::try_from(flock.config.count).expect("a few");
                let (share, is_dealt) = match flock.config.spread {
                    Spread::PerReplica => (count, true),
                    Spread::AcrossReplicas => {
                        let is_dealt = usize::try_from(flock.among.unwrap_or_default()) == Ok(self.size);
                        ((number..count).step_by(self.size).count(), is_dealt)
                    }
                };
                let has_ended = report.phase == FlockPhase::Ended && flock.config.lease.is_some();
                let is_refreshed = report.refresh_generation == flock.refresh_generation;
                let is_as_asked = report.generation == flock.generation
                    && is_dealt
                    && (has_ended || (report.phase == FlockPhase::Running && is_refreshed && monkeys == share));
                if !is_as_asked {
                    return Some(format!("replica {number} runs {name} as {report:?}, {monkeys} monkeys"));
                }
            }
        }
        None
    }

    /// Ends every process; nothing may be left.
    async fn end(&mut self) -> Result<(), String> {
        locked(&self.oracle).check_fold();
        self.nodes.iter_mut().for_each(Node::stop);
        let until = now() + ENDING + CHECK;
        while !self.nodes.is_empty() {
            tokio::time::sleep(CHECK).await;
            self.reap()?;
            if now() > until {
                return Err("not every process has ended".to_owned());
            }
        }
        self.own.abort_token().cancel();
        self.own.wait().await;
        if self.hub.sessions() > 0 {
            return Err(format!("{} sessions are left", self.hub.sessions()));
        }
        locked(&self.oracle).wrong.take().map_or(Ok(()), Err)
    }
}

fn flock_name(number: usize) -> FlockName {
    format!("f{number}").parse().expect("a right name")
}

/// Looks at every state that a replica acts on, the moment it does.
async fn watch_replica(
    name: String,
    worker: WorkerHandle,
    began: Instant,
    oracle: Arc<Mutex<Oracle>>,
    hub: Hub,
    link: Watched,
    notes: Arc<Mutex<Notes>>,
) {
    let mut status = worker.status();
    let mut last: Option<Standing> = None;
    while status.changed().await.is_ok() {
        let standing = status.borrow_and_update().standing.clone();
        if standing == last {
            continue;
        }
        let Some(standing) = standing else { continue };
        let mut oracle = locked(&oracle);
        oracle.absorb(&hub.log());
        let mut wrong = None;
        if !oracle
            .counted
            .contains_key(&(standing.revision.0, standing.digest.clone()))
        {
            wrong = Some(format!(
                "{name} acts on revision {}, which never counted",
                standing.revision
            ));
        }
        if last.as_ref().is_some_and(|last| last.revision > standing.revision) {
            wrong = Some(format!("{name} went down to revision {}", standing.revision));
        }
        if let Some(reading) = link.reading(&name)
            && !reading.may_act
            && standing.revision.0 < reading.head
        {
            let (revision, head) = (standing.revision, reading.head);
            wrong = Some(format!(
                "{name} acts on revision {revision}, and the log had {head} before it began to read"
            ));
        }
        let mut notes = locked(&notes);
        let at = began.elapsed().as_millis();
        notes.trace.push(format!(
            "{at:>6} {name} acts on revision {} of epoch {}",
            standing.revision, standing.epoch
        ));
        notes.wrong = notes.wrong.take().or(wrong);
        notes.acted.entry(name.clone()).or_default().push(standing.clone());
        last = Some(standing);
    }
}
