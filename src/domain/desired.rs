//! What shall run, and how commands change it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::business::shown_repo_url;
use super::flock::{FlockConfig, Spread};
use super::ids::{FlockName, Revision};

/// How many stopped flocks a state remembers. Autostart flocks among them are never forgotten.
const STOPPED_KEPT: usize = 256;

/// The desired state of a fleet: which flocks shall run, and as of which revision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DesiredState {
    /// Number of the last accepted change.
    pub revision: Revision,
    /// Every flock that shall run.
    pub flocks: BTreeMap<FlockName, DesiredFlock>,
    /// Flocks that were stopped, so that autostart and a recovery do not bring them back. The newest 256,
    /// and all that autostart knows.
    #[serde(default)]
    pub stopped: BTreeMap<FlockName, Stopped>,
}

/// One flock that shall run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DesiredFlock {
    /// What it does.
    pub config: FlockConfig,
    /// Revision at which `config` was last given, even if it was given unchanged: mobu restarts the flock then.
    pub generation: Revision,
    /// Revision of the last refresh, or the generation if there was none since.
    pub refresh_generation: Revision,
    /// When the generation was accepted; what the flock's `duration` counts from.
    pub since: Timestamp,
    /// Digest of the autostart definition that this name last had, whoever replaced the flock since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<String>,
    /// Whether the flock still is as autostart defined it.
    #[serde(default)]
    pub by_autostart: bool,
    /// Among how many replicas, 0 to n - 1, the users of a flock with `spread: across_replicas` are dealt out. 0 while a fleet is
    /// being scaled: nobody runs them until everybody has stopped. Without it, each replica goes by the number that it is configured for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<u32>,
    /// While `among` is 0: among how many they were before, so that each of those is waited for; `None` if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was_among: Option<u32>,
}

impl DesiredFlock {
    /// Returns whether its users are dealt out among another number of replicas than `replica_count`.
    pub fn is_dealt_otherwise(&self, replica_count: u32) -> bool {
        self.config.spread == Spread::AcrossReplicas && self.among != Some(replica_count)
    }

    /// Returns whether a user of its list is another replica's with the list of `next`: a list is dealt out by position.
    fn moves_users(&self, next: &Self, replica_count: u32) -> bool {
        let (Some(ran), Some(next)) = (&self.config.users, &next.config.users) else {
            return false;
        };
        let count = usize::try_from(replica_count.max(1)).unwrap_or(usize::MAX);
        let places: BTreeMap<&str, usize> = ran
            .iter()
            .zip(0..)
            .map(|(user, place)| (user.username.as_str(), place))
            .collect();
        next.iter().zip(0..).any(|(user, place): (_, usize)| {
            let before = places.get(user.username.as_str());
            before.is_some_and(|before| before % count != place % count)
        })
    }

    /// Returns among how many replicas its users were dealt out last, if that is known.
    fn dealt_last(&self) -> Option<u32> {
        self.among.filter(|among| *among > 0).or(self.was_among)
    }

    /// The same for a flock whose users are dealt out; 0 if it is not known.
    fn dealt(&self) -> Option<u32> {
        let is_dealt = self.config.spread == Spread::AcrossReplicas;
        is_dealt.then(|| self.dealt_last().unwrap_or(0))
    }

    /// Takes the users from everybody; `among` is for how many they were dealt out last.
    fn take_users(&mut self, among: Option<u32>) {
        (self.among, self.was_among) = (Some(0), among);
    }

    fn deal_users(&mut self, replica_count: u32) {
        (self.among, self.was_among) = (Some(replica_count), None);
    }
}

/// What is remembered of a flock that was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    /// Revision of the stop.
    pub revision: Revision,
    /// Digest of the autostart definition that the flock had: it stays stopped until that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autostart: Option<String>,
    /// Among how many replicas its users were dealt out last, if they were: one of those may still be stopping them. 0 if nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<u32>,
}

/// A wish to change the desired state, already checked as far as it can be without knowing the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Start a flock, or restart the one of that name with this configuration.
    Start(Box<FlockConfig>),
    /// Stop a flock.
    Stop(FlockName),
    /// Stop every flock, in one revision.
    StopAll,
    /// Refresh one flock.
    Refresh(FlockName),
    /// Refresh every flock that uses a repository and branch, compared as texts.
    RefreshRepository {
        /// As in the flock's `repo_url`.
        repo_url: String,
        /// As in the flock's `repo_ref`.
        repo_ref: String,
    },
    /// Bring in the autostart flocks of a configuration.
    Autostart {
        /// The definitions, in order.
        flocks: Vec<FlockConfig>,
        /// Whether flocks that an earlier configuration defined, and this one does not, shall stop.
        stop_others: bool,
    },
    /// Deal out the users of every flock with `spread: across_replicas` anew. Those that run are first taken from everybody, so
    /// this is wanted twice: with `idle` once all replicas have stopped them.
    Deal {
        /// Among how many replicas.
        replica_count: u32,
        /// Whether no replica runs any of those users.
        idle: bool,
    },
}

/// What a revision changed: for people, logs and `GET /revisions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Change {
    /// A flock was started, or restarted.
    Start {
        /// Which one.
        flock: FlockName,
    },
    /// Flocks were stopped.
    Stop {
        /// Which ones, by name.
        flocks: Vec<FlockName>,
    },
    /// Flocks were told to refresh.
    Refresh {
        /// Which ones, by name.
        flocks: Vec<FlockName>,
        /// The repository whose push caused it, without what opens it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repo_url: Option<String>,
        /// The branch whose push caused it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repo_ref: Option<String>,
    },
    /// The configuration's autostart flocks were brought in, or those that its number of replicas concerns were dealt out anew.
    Autostart {
        /// Flocks that start, or restart.
        started: Vec<FlockName>,
        /// Flocks that stop because they are defined no more.
        stopped: Vec<FlockName>,
    },
    /// A fleet began.
    Begin,
    /// A new coordinator wrote the state again; nothing changed.
    Takeover,
    /// The state log had lost entries; what replicas and coordinators knew was brought back.
    Recover,
}

/// Why a command cannot be carried out on the present state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such flock.
    #[error("Flock {0} not found")]
    FlockNotFound(FlockName),
}

/// A state that a command leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The state under the next revision.
    pub state: DesiredState,
    /// What is different about it.
    pub change: Change,
}

impl DesiredState {
    /// Returns the state that a command leads to, or `None` if it changes nothing.
    ///
    /// # Errors
    ///
    /// [`CommandError::FlockNotFound`] if it names a flock that shall not run.
    pub fn apply(&self, command: &Command, now: Timestamp) -> Result<Option<Changed>, CommandError> {
        let mut state = self.clone();
        state.revision = self.revision.next();
        let change = match command {
            Command::Start(config) => {
                let autostart = self.autostart_of(&config.name);
                state.put((**config).clone(), now, autostart, false);
                Change::Start {
                    flock: config.name.clone(),
                }
            }
            Command::Stop(name) => {
                if !self.flocks.contains_key(name) {
                    return Err(CommandError::FlockNotFound(name.clone()));
                }
                state.remove(name);
                Change::Stop {
                    flocks: vec![name.clone()],
                }
            }
            Command::StopAll => {
                let flocks: Vec<_> = self.flocks.keys().cloned().collect();
                for name in &flocks {
                    state.remove(name);
                }
                Change::Stop { flocks }
            }
            Command::Refresh(name) => {
                let revision = state.revision;
                let flock = state
                    .flocks
                    .get_mut(name)
                    .ok_or_else(|| CommandError::FlockNotFound(name.clone()))?;
                flock.refresh_generation = revision;
                Change::Refresh {
                    flocks: vec![name.clone()],
                    repo_url: None,
                    repo_ref: None,
                }
            }
            Command::RefreshRepository { repo_url, repo_ref } => Change::Refresh {
                flocks: state.refresh_repository(repo_url, repo_ref),
                // For whoever looks at the history. Nobody acts on it.
                repo_url: Some(shown_repo_url(repo_url)),
                repo_ref: Some(repo_ref.clone()),
            },
            Command::Autostart { flocks, stop_others } => state.autostart(flocks, *stop_others, now),
            Command::Deal { replica_count, idle } => state.deal(*replica_count, *idle),
        };
        let changes_something = match &change {
            Change::Stop { flocks } | Change::Refresh { flocks, .. } => !flocks.is_empty(),
            Change::Autostart { started, stopped } => !started.is_empty() || !stopped.is_empty(),
            Change::Start { .. } | Change::Begin | Change::Takeover | Change::Recover => true,
        };
        Ok(changes_something.then_some(Changed { state, change }))
    }

    /// Brings together what two parts of a fleet know, when the state log cannot say what came last.
    ///
    /// `self` is what the leader holds, `other` what somebody else knows. Per flock the newer generation wins; a stop
    /// wins over an older generation. The revision is above both, so that everybody takes the result.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut merged = Self {
            revision: self.revision.max(other.revision).next(),
            ..Self::default()
        };
        for (name, theirs) in self.stopped.iter().chain(&other.stopped) {
            let kept = merged.stopped.entry(name.clone()).or_insert_with(|| theirs.clone());
            if theirs.revision > kept.revision {
                *kept = theirs.clone();
            }
        }
        // The leader's flocks come last, so that they win a tie.
        for (name, flock) in other.flocks.iter().chain(&self.flocks) {
            if merged
                .stopped
                .get(name)
                .is_some_and(|stopped| stopped.revision > flock.generation)
            {
                continue;
            }
            let mut kept = flock.clone();
            if let Some(known) = merged.flocks.remove(name) {
                let refresh = known.refresh_generation.max(flock.refresh_generation);
                let differ = known.config != flock.config || known.among != flock.among;
                let is_fork = known.generation == flock.generation && differ;
                kept = if flock.generation >= known.generation {
                    kept
                } else {
                    known
                };
                kept.refresh_generation = refresh;
                if is_fork {
                    // One number stands for two configurations: only a new one makes every replica run the same.
                    (kept.generation, kept.refresh_generation) = (merged.revision, merged.revision);
                }
            }
            merged.flocks.insert(name.clone(), kept);
        }
        merged.stopped.retain(|name, _| !merged.flocks.contains_key(name));
        merged.forget_old_stops();
        merged
    }

    /// Returns a digest of the whole state: two states are equal if and, for all practical purposes, only if theirs are.
    ///
    /// # Panics
    ///
    /// Never: every part of a state has string keys.
    pub fn digest(&self) -> String {
        digest(&serde_json::to_value(self).expect("a state serializes"))
    }

    /// Deals out the flocks that this state's revision started. A flock of which some replica may still run users that another one shall
    /// have waits until nobody does: see [`Command::Deal`].
    pub fn deal_started(&mut self, before: &Self, replica_count: u32) {
        let revision = self.revision;
        let started = self.flocks.iter_mut();
        let started =
            started.filter(|(_, flock)| flock.generation == revision && flock.is_dealt_otherwise(replica_count));
        for (name, flock) in started {
            let ran = before.flocks.get(name);
            let stopped = before.stopped.get(name).and_then(|stopped| stopped.among);
            match (ran, stopped) {
                (Some(ran), _) if ran.is_dealt_otherwise(replica_count) || ran.moves_users(flock, replica_count) => {
                    flock.take_users(ran.dealt_last());
                }
                // Who had which place in a list is not remembered, and matters where there are several replicas.
                (None, Some(among))
                    if among != replica_count || (replica_count > 1 && flock.config.users.is_some()) =>
                {
                    flock.take_users(Some(among));
                }
                _ => flock.deal_users(replica_count),
            }
        }
    }

    fn put(&mut self, config: FlockConfig, now: Timestamp, autostart: Option<String>, by_autostart: bool) {
        let name = config.name.clone();
        let flock = DesiredFlock {
            config,
            generation: self.revision,
            refresh_generation: self.revision,
            since: now,
            autostart,
            by_autostart,
            among: None,
            was_among: None,
        };
        self.stopped.remove(&name);
        self.flocks.insert(name, flock);
    }

    fn remove(&mut self, name: &FlockName) {
        if let Some(flock) = self.flocks.remove(name) {
            self.stopped.insert(
                name.clone(),
                Stopped {
                    revision: self.revision,
                    among: flock.dealt(),
                    autostart: flock.autostart,
                },
            );
            self.forget_old_stops();
        }
    }

    fn forget_old_stops(&mut self) {
        while self.stopped.len() > STOPPED_KEPT {
            let oldest = self.stopped.iter().filter(|(_, stopped)| stopped.autostart.is_none());
            let Some(name) = oldest
                .min_by_key(|(_, stopped)| stopped.revision)
                .map(|(name, _)| name.clone())
            else {
                return;
            };
            self.stopped.remove(&name);
        }
    }

    fn refresh_repository(&mut self, repo_url: &str, repo_ref: &str) -> Vec<FlockName> {
        let revision = self.revision;
        let uses_it = |flock: &DesiredFlock| {
            let repository = flock.config.business.repository();
            repository.is_some_and(|used| used.url == repo_url && used.reference == repo_ref)
        };
        let matching = self.flocks.iter_mut().filter(|(_, flock)| uses_it(flock));
        matching
            .map(|(name, flock)| {
                flock.refresh_generation = revision;
                name.clone()
            })
            .collect()
    }

    fn autostart(&mut self, configs: &[FlockConfig], stop_others: bool, now: Timestamp) -> Change {
        let mut started = Vec::new();
        for config in configs {
            let definition = digest(config.echo());
            if self.autostart_of(&config.name).as_ref() != Some(&definition) {
                self.put(config.clone(), now, Some(definition), true);
                started.push(config.name.clone());
            }
        }
        let mut stopped = Vec::new();
        if stop_others {
            let defined = |name: &FlockName| configs.iter().any(|config| config.name == *name);
            let gone = self
                .flocks
                .iter()
                .filter(|(name, flock)| flock.by_autostart && !defined(name));
            stopped = gone.map(|(name, _)| name.clone()).collect();
            for name in &stopped {
                self.remove(name);
            }
            // A definition that comes back some day is a new one.
            for name in &stopped {
                if let Some(flock) = self.stopped.get_mut(name) {
                    flock.autostart = None;
                }
            }
        }
        Change::Autostart { started, stopped }
    }

    fn deal(&mut self, replica_count: u32, idle: bool) -> Change {
        let revision = self.revision;
        let mut started = Vec::new();
        for (name, flock) in &mut self.flocks {
            if !flock.is_dealt_otherwise(replica_count) || (!idle && flock.among == Some(0)) {
                continue;
            }
            if idle {
                flock.deal_users(replica_count);
            } else {
                flock.take_users(flock.dealt_last());
            }
            (flock.generation, flock.refresh_generation) = (revision, revision);
            started.push(name.clone());
        }
        Change::Autostart {
            started,
            stopped: Vec::new(),
        }
    }

    fn autostart_of(&self, name: &FlockName) -> Option<String> {
        let running = self.flocks.get(name).and_then(|flock| flock.autostart.clone());
        running.or_else(|| self.stopped.get(name).and_then(|stopped| stopped.autostart.clone()))
    }
}

/// Returns the 64-bit FNV-1a hash, in hex, of a JSON value with its keys in order: the same on every machine and in every version.
fn digest(value: &serde_json::Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in sorted.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(name: &str, idle: u32) -> FlockConfig {
        FlockConfig::parse(&json!({
            "name": name, "count": 1, "user_spec": {"username_prefix": "bot-mobu-x"}, "scopes": [],
            "business": {"type": "EmptyLoop", "options": {"idle_time": idle}},
        }))
        .unwrap()
    }

    fn runner(name: &str, kind: &str, reference: &str) -> FlockConfig {
        FlockConfig::parse(&json!({
            "name": name, "count": 1, "user_spec": {"username_prefix": "bot-mobu-x"}, "scopes": [],
            "business": {"type": kind, "options": {"repo_url": "https://github.com/o/r.git", "repo_ref": reference}},
        }))
        .unwrap()
    }

    fn start(config: FlockConfig) -> Command {
        Command::Start(Box::new(config))
    }

    fn after(state: &DesiredState, command: &Command) -> DesiredState {
        state
            .apply(command, Timestamp::UNIX_EPOCH)
            .unwrap()
            .expect("the command changes something")
            .state
    }

    fn name(text: &str) -> FlockName {
        text.parse().unwrap()
    }

    #[test]
    fn a_state_with_any_float_keeps_its_digest_on_the_wire() {
        let mut random = fastrand::Rng::with_seed(17);
        let floats = std::iter::repeat_with(|| f64::from_bits(random.u64(..))).filter(|float| float.is_finite());
        let mut floats: Vec<_> = floats.take(1000).collect();
        floats.extend([0.300_000_000_000_000_04, 1.184_467_440_737_095_5e20, 5e-324, f64::MAX]);
        let request = json!({ "url": "http://x.test/", "json": floats });
        let config = FlockConfig::parse(&json!({
            "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-x"}, "scopes": [],
            "business": {"type": "HTTPRunner", "options": {"requests": [request]}},
        }));
        let state = after(&DesiredState::default(), &start(config.unwrap()));
        let wire = serde_json::to_vec(&state).unwrap();
        let read: DesiredState = serde_json::from_slice(&wire).unwrap();
        assert_eq!(read, state);
        assert_eq!(read.digest(), state.digest());
    }

    #[test]
    fn users_are_taken_from_everybody_before_they_are_dealt_out_anew() {
        let mut dealt = config("dealt", 1);
        dealt.spread = Spread::AcrossReplicas;
        let start_for = |before: &DesiredState, replica_count| {
            let mut state = after(before, &start(dealt.clone()));
            state.deal_started(before, replica_count);
            state
        };
        let deal = |state: &DesiredState, idle| {
            let command = Command::Deal { replica_count: 4, idle };
            let changed = state.apply(&command, Timestamp::UNIX_EPOCH).unwrap();
            changed.map(|changed| changed.state)
        };
        let among = |state: &DesiredState| state.flocks[&name("dealt")].among;
        let two = start_for(&after(&DesiredState::default(), &start(config("lambs", 1))), 2);
        assert_eq!((among(&two), two.flocks[&name("lambs")].among), (Some(2), None));

        let taken = deal(&two, false).unwrap();
        assert_eq!(
            (among(&taken), taken.flocks[&name("dealt")].was_among),
            (Some(0), Some(2))
        );
        assert!(deal(&taken, false).is_none());
        let four = deal(&taken, true).unwrap();
        assert_eq!((among(&four), four.flocks[&name("dealt")].was_among), (Some(4), None));
        assert!(deal(&four, true).is_none());
        // Each time the flock starts anew, and no other does.
        assert_eq!(four.flocks[&name("dealt")].generation, four.revision);
        assert_eq!(four.flocks[&name("lambs")], two.flocks[&name("lambs")]);

        // Also with a list in which somebody has another place.
        let listed = |names: &[&str]| {
            let users: Vec<_> = names
                .iter()
                .map(|name| json!({"username": format!("bot-mobu-{name}")}))
                .collect();
            FlockConfig::parse(&json!({
                "name": "listed", "count": users.len(), "users": users, "scopes": [], "spread": "across_replicas",
                "business": {"type": "EmptyLoop"},
            }))
            .unwrap()
        };
        let put = |before: &DesiredState, names: &[&str]| {
            let mut state = after(before, &start(listed(names)));
            state.deal_started(before, 2);
            state
        };
        let place = |state: &DesiredState| state.flocks[&name("listed")].among;
        let first = put(&two, &["a", "b", "c"]);
        assert_eq!(place(&first), Some(2));
        assert_eq!(
            place(&put(&first, &["c", "b", "a", "d"])),
            Some(2),
            "each stays where it was"
        );
        assert_eq!(place(&put(&first, &["b", "c"])), Some(0));

        // One that is started meanwhile waits like the others.
        assert_eq!(among(&start_for(&two, 4)), Some(0));
        assert_eq!(among(&start_for(&four, 4)), Some(4));

        // One that was stopped meanwhile does too: a replica may not know yet.
        let stop = |state: &DesiredState, flock: &str| after(state, &Command::Stop(name(flock)));
        let back = start_for(&stop(&two, "dealt"), 4);
        assert_eq!(
            (among(&back), back.flocks[&name("dealt")].was_among),
            (Some(0), Some(2))
        );
        let again = start_for(&stop(&taken, "dealt"), 4);
        assert_eq!(
            (among(&again), again.flocks[&name("dealt")].was_among),
            (Some(0), Some(2))
        );
        assert_eq!(among(&start_for(&stop(&two, "dealt"), 2)), Some(2));
        assert_eq!(place(&put(&stop(&first, "listed"), &["a", "b"])), Some(0));
        // One that an earlier release started does not say how its users are dealt out, so they are taken first as well.
        let old = after(&DesiredState::default(), &start(listed(&["a"])));
        assert_eq!(
            (place(&old), place(&put(&stop(&old, "listed"), &["a"]))),
            (None, Some(0))
        );
    }

    #[test]
    fn starting_the_same_flock_again_makes_a_new_generation() {
        let one = after(&DesiredState::default(), &start(config("a", 1)));
        let two = after(&one, &start(config("a", 1)));
        assert_eq!(one.flocks["a"].generation, Revision(1));
        assert_eq!(two.flocks["a"].generation, Revision(2));
        assert_eq!(two.flocks["a"].refresh_generation, Revision(2));
    }

    #[test]
    fn stopping_an_unknown_flock_is_an_error_and_stopping_nothing_no_change() {
        let empty = DesiredState::default();
        let error = empty
            .apply(&Command::Stop(name("a")), Timestamp::UNIX_EPOCH)
            .unwrap_err();
        assert_eq!(error.to_string(), "Flock a not found");
        assert_eq!(empty.apply(&Command::StopAll, Timestamp::UNIX_EPOCH), Ok(None));
    }

    #[test]
    fn a_push_refreshes_every_notebook_flock_of_that_repository_and_branch() {
        let mut state = DesiredState::default();
        for flock in [
            runner("counting", "NotebookRunnerCounting", "u/x/y"),
            runner("list", "NotebookRunnerList", "u/x/y"),
            runner("infinite", "NotebookRunnerInfinite", "u/x/y"),
            runner("other", "NotebookRunnerCounting", "main"),
            config("empty", 1),
        ] {
            state = after(&state, &start(flock));
        }
        let push = |reference: &str| Command::RefreshRepository {
            repo_url: "https://github.com/o/r.git".to_owned(),
            repo_ref: reference.to_owned(),
        };
        let changed = state.apply(&push("u/x/y"), Timestamp::UNIX_EPOCH).unwrap().unwrap();
        let refreshed: Vec<_> = changed
            .state
            .flocks
            .values()
            .map(|flock| flock.refresh_generation.0)
            .collect();
        assert_eq!(refreshed, [6, 5, 6, 6, 4]);
        assert_eq!(state.apply(&push("nowhere"), Timestamp::UNIX_EPOCH), Ok(None));
    }

    #[test]
    fn what_an_operator_stopped_stays_stopped_until_its_definition_changes() {
        let autostart = |idle| Command::Autostart {
            flocks: vec![config("a", idle)],
            stop_others: true,
        };
        let state = after(&DesiredState::default(), &autostart(1));
        assert_eq!(state.apply(&autostart(1), Timestamp::UNIX_EPOCH), Ok(None));
        let state = after(&state, &Command::Stop(name("a")));
        assert_eq!(state.apply(&autostart(1), Timestamp::UNIX_EPOCH), Ok(None));
        let state = after(&state, &autostart(2));
        assert!(state.flocks["a"].by_autostart);
    }

    #[test]
    fn a_flock_that_an_operator_replaced_survives_the_end_of_its_definition() {
        let both = Command::Autostart {
            flocks: vec![config("a", 1), config("b", 1)],
            stop_others: true,
        };
        let state = after(&DesiredState::default(), &both);
        let state = after(&state, &start(config("a", 5)));
        assert_eq!(
            state.apply(&both, Timestamp::UNIX_EPOCH),
            Ok(None),
            "the definition did not change"
        );
        let none = Command::Autostart {
            flocks: vec![],
            stop_others: true,
        };
        let state = after(&state, &none);
        assert_eq!(state.flocks.keys().map(FlockName::as_str).collect::<Vec<_>>(), ["a"]);
        let state = after(&state, &both);
        assert!(
            state.flocks.contains_key("b"),
            "a definition that comes back starts again"
        );
    }

    #[test]
    fn a_merge_keeps_the_newer_of_each_flock_and_every_stop() {
        let base = after(
            &after(&DesiredState::default(), &start(config("a", 1))),
            &start(config("b", 1)),
        );
        let ours = after(&base, &Command::Stop(name("a")));
        let theirs = after(&after(&base, &start(config("c", 1))), &Command::Refresh(name("b")));
        for merged in [ours.merge(&theirs), theirs.merge(&ours)] {
            assert_eq!(merged.revision, Revision(5));
            assert_eq!(
                merged.flocks.keys().map(FlockName::as_str).collect::<Vec<_>>(),
                ["b", "c"]
            );
            assert_eq!(merged.flocks["b"].refresh_generation, Revision(4));
            assert_eq!(merged.stopped["a"].revision, Revision(3));
        }
    }

    #[test]
    fn two_configurations_under_one_number_get_a_new_one() {
        let ours = after(&DesiredState::default(), &start(config("a", 1)));
        let theirs = after(&DesiredState::default(), &start(config("a", 2)));
        let merged = ours.merge(&theirs);
        assert_eq!(merged.flocks["a"].config, config("a", 1), "the leader's");
        assert_eq!(
            (merged.revision, merged.flocks["a"].generation),
            (Revision(2), Revision(2))
        );
    }

    #[test]
    fn only_the_newest_stops_are_remembered_and_those_of_autostart_always() {
        let mut state = after(
            &DesiredState::default(),
            &Command::Autostart {
                flocks: vec![config("auto", 1)],
                stop_others: true,
            },
        );
        state = after(&state, &Command::Stop(name("auto")));
        for i in 0..300 {
            state = after(&state, &start(config(&format!("f{i}"), 1)));
            state = after(&state, &Command::Stop(name(&format!("f{i}"))));
        }
        assert_eq!(state.stopped.len(), STOPPED_KEPT);
        assert!(state.stopped.contains_key("auto") && state.stopped.contains_key("f299"));
        assert!(!state.stopped.contains_key("f0"));
    }

    #[test]
    fn a_digest_does_not_depend_on_the_order_of_keys() {
        assert_eq!(
            digest(&json!({"a": 1, "b": [{"c": 2, "d": 3}]})),
            digest(&json!({"b": [{"d": 3, "c": 2}], "a": 1}))
        );
        assert_ne!(digest(&json!({"a": 1})), digest(&json!({"a": 2})));
    }
}
