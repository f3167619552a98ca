//! One monkey: who it is, where it stands, what it has to say. [`task`] lives its life, [`roster`] keeps its flock together.

pub(crate) mod line;
pub(crate) mod log;
pub(crate) mod roster;
pub(crate) mod spool;
pub(crate) mod stop;
pub(crate) mod task;

use std::borrow::Cow;
use std::ffi::OsString;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mobu_fleet::domain::business::{BusinessConfig, LogLevel};
use mobu_fleet::domain::events::Act;
use mobu_fleet::domain::flock::Group;
use mobu_fleet::domain::ids::{FlockName, InstanceId, MonkeyName};
use mobu_fleet::domain::messages::LogPart;
use mobu_fleet::domain::monkey::{BusinessData, MonkeyData, MonkeyEvent, MonkeyState, UserData};
use mobu_fleet::runtime::clock::Instant;
use mobu_fleet::runtime::telemetry::LogProfile;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tracing::{debug, error, info, warn};

pub(crate) use self::line::{Event, Field};
pub(crate) use self::stop::{Pause, Stopped};

use crate::business::Phase;
use crate::business::query_sets::own::QuerySets;
use crate::client::repertoire::Locator;
use crate::client::repository::Clones;
use crate::client::shown::{hide_token, shortened};
use crate::measure::causes::Causes;
use crate::measure::lateness::LatenessGauge;
use crate::measure::outlet::{Outlet, Waiting};
use crate::measure::tally::Tally;

use self::line::severity;
use self::log::MonkeyLog;
use self::spool::Spool;
use self::stop::StopSignal;

/// Whom a monkey plays, with a token of its own.
#[derive(Debug, Clone)]
pub(crate) struct AuthenticatedUser {
    /// Name as Gafaelfawr returned it.
    pub username: MonkeyName,
    /// Numeric user ID, if known.
    pub uidnumber: Option<i64>,
    /// Numeric primary group ID, if known.
    pub gidnumber: Option<i64>,
    /// Groups that it is in.
    pub groups: Arc<[Group]>,
    /// Its token.
    pub token: SecretString,
    /// Who says so.
    pub origin: UserOrigin,
}

/// Who says what a user is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UserOrigin {
    /// The flock's configuration alone; no service knows the user.
    Local,
    /// Gafaelfawr, which also knows a name that is never shown.
    Gafaelfawr {
        /// What the user is called, if anything.
        display_name: Option<Box<str>>,
    },
}

/// What all monkeys of a replica share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The replica, by its name for life.
    pub(crate) instance_id: InstanceId,
    /// Whether the fleet has several replicas, so that a monkey says which one runs it.
    pub(crate) is_one_of_many: bool,
    /// Where monkeys log to; `None` if they share the service's log.
    pub(crate) spool: Option<Arc<Spool>>,
    /// Form of a log line.
    pub(crate) profile: LogProfile,
    /// What decides every random choice.
    pub(crate) seed: u64,
    /// What TAP and SIA monkeys choose from.
    pub(crate) query_sets: Arc<QuerySets>,
    /// Where services are; `None` if nothing says so.
    pub(crate) locator: Option<Arc<Locator>>,
    /// What git gets of the process's environment.
    pub(crate) git_environment: Vec<(OsString, OsString)>,
    /// The clones of repositories whose notebooks are run.
    pub(crate) clones: Clones,
    /// Where monkeys say how late they woke.
    pub(crate) lateness: LatenessGauge,
    /// Where events go.
    pub(crate) outlet: Outlet,
}

/// What a monkey is at, as far as it shows.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Base name of its current or last notebook.
    pub(crate) notebook: Option<String>,
    /// Its running query, or the last one that failed: a text, or an object of SIA parameters.
    pub(crate) running_query: Option<Value>,
    /// Image of its lab, as long as it has one: `reference` and `description`, or nothing if the lab does not tell.
    pub(crate) image: Option<Value>,
    /// Code of its running cell, or of the last one that failed.
    pub(crate) running_code: Option<String>,
}

/// What all monkeys of one run of a flock share.
#[derive(Debug)]
pub(crate) struct FlockRun {
    pub(crate) name: FlockName,
    pub(crate) business: BusinessConfig,
    pub(crate) scopes: Arc<[String]>,
    pub(crate) counts: Counts,
    /// Counts and durations of what they do.
    pub(crate) tally: Tally,
    /// Why they failed.
    pub(crate) causes: Arc<Causes>,
    pub(crate) surroundings: Arc<Surroundings>,
}

/// Sums over the monkeys of a flock, kept by the monkeys themselves, so that a report need not ask each of them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    by_state: [AtomicU64; STATES.len()],
    success: AtomicU64,
    failure: AtomicU64,
}

/// Every state, in the order of its number.
const STATES: [MonkeyState; 5] = [
    MonkeyState::Idle,
    MonkeyState::Running,
    MonkeyState::Stopping,
    MonkeyState::Finished,
    MonkeyState::Error,
];

/// Stands for a monkey that is at nothing in particular.
const NO_PHASE: u8 = u8::MAX;

impl Counts {
    pub(crate) fn success(&self) -> u64 {
        self.success.load(Ordering::Relaxed)
    }

    pub(crate) fn failure(&self) -> u64 {
        self.failure.load(Ordering::Relaxed)
    }

    /// Returns how many monkeys are in each state that any is in.
    pub(crate) fn by_state(&self) -> impl Iterator<Item = (MonkeyState, u64)> {
        let counts = self.by_state.iter().map(|count| count.load(Ordering::Relaxed));
        STATES.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// One monkey, as all who deal with it see it.
#[derive(Debug)]
pub(crate) struct Monkey {
    flock: Arc<FlockRun>,
    user: AuthenticatedUser,
    /// Position in [`STATES`].
    state: AtomicU8,
    /// Number of what it is at, or [`NO_PHASE`].
    phase: AtomicU8,
    /// Guards when the last refresh was asked for that has not been done; held for a copy or a change, never over an await.
    refresh_asked: Mutex<Option<Instant>>,
    /// Whether its task has ended.
    has_ended: AtomicBool,
    /// Whether a lab was asked for in its name that is not known to be gone. Here, because it outlives whatever becomes of a run.
    may_have_lab: AtomicBool,
    success: AtomicU64,
    failure: AtomicU64,
    stop: StopSignal,
    log: Option<MonkeyLog>,
    /// Guards what it is at; held for a copy or a change, never over an await. Most monkeys never have any.
    activity: Mutex<Option<Box<Activity>>>,
}

impl Monkey {
    pub(crate) fn new(flock: Arc<FlockRun>, user: AuthenticatedUser) -> Self {
        flock.counts.by_state[0].fetch_add(1, Ordering::Relaxed);
        let log = flock
            .surroundings
            .spool
            .as_ref()
            .map(|spool| MonkeyLog::new(spool.clone()));
        let monkey = Self {
            flock,
            user,
            state: AtomicU8::new(0),
            phase: AtomicU8::new(NO_PHASE),
            refresh_asked: Mutex::default(),
            has_ended: AtomicBool::new(false),
            may_have_lab: AtomicBool::new(false),
            success: AtomicU64::new(0),
            failure: AtomicU64::new(0),
            stop: StopSignal::default(),
            log,
            activity: Mutex::default(),
        };
        if monkey.log.is_some() {
            let fields = [("file", Field::Text("spool of the replica"))];
            monkey.say(&Event {
                level: LogLevel::Info,
                text: "Starting new file logger",
                fields: &fields,
                exception: None,
            });
        }
        monkey
    }

    /// Its name: that of its user.
    pub(crate) fn name(&self) -> &MonkeyName {
        &self.user.username
    }

    /// Whom it plays.
    pub(crate) fn user(&self) -> &AuthenticatedUser {
        &self.user
    }

    /// The replica that runs it.
    pub(crate) fn instance_id(&self) -> &InstanceId {
        &self.flock.surroundings.instance_id
    }

    /// What it shares with every monkey of the replica.
    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.flock.surroundings
    }

    /// Changes what it shows of what it is at.
    pub(crate) fn show(&self, change: impl FnOnce(&mut Activity)) {
        let mut activity = self
            .activity
            .lock()
            .expect("no code panics while it holds the activity");
        change(activity.get_or_insert_default());
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> MonkeyState {
        STATES[usize::from(self.state.load(Ordering::SeqCst))]
    }

    /// Notes what it is at: named if it fails there, or has to be abandoned there.
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase.number(), Ordering::Relaxed);
    }

    /// Notes that it is at nothing in particular any more.
    pub(crate) fn leave(&self) {
        self.phase.store(NO_PHASE, Ordering::Relaxed);
    }

    /// What it is at, if that has a name.
    pub(crate) fn phase(&self) -> Option<Phase> {
        Phase::of_number(self.phase.load(Ordering::Relaxed))
    }

    /// Returns random numbers of its own: the same ones for the same monkey and seed.
    pub(crate) fn random(&self) -> fastrand::Rng {
        let salt = self
            .name()
            .as_str()
            .bytes()
            .fold(7, |salt: u64, byte| salt.wrapping_mul(31).wrapping_add(byte.into()));
        fastrand::Rng::with_seed(self.flock.surroundings.seed ^ salt)
    }

    /// Pauses; a stop ends the pause at once.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn pause(&self, interval: Duration) -> Pause {
        self.stop.pause(interval, &self.flock.surroundings.lateness).await
    }

    /// Waits for `future`, and drops it as soon as the monkey shall stop.
    ///
    /// # Errors
    ///
    /// [`Stopped`] in that case.
    pub(crate) async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        self.stop.unless_set(future).await
    }

    /// Says what it did: for the replica's metrics, and for whoever listens to events. Never waits.
    pub(crate) fn emit(&self, act: Act) {
        self.flock.tally.act(&act);
        self.flock.surroundings.outlet.offer(act, |act| {
            let kind = self.flock.business.kind();
            Waiting::now(&self.flock.name, (kind.as_str(), kind.class_name()), self.name(), act)
        });
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_set()
    }

    /// Waits until it is told to stop.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn stopped(&self) {
        self.stop.wait().await;
    }

    /// Logs an event of level info without further facts.
    pub(crate) fn info(&self, text: &str) {
        self.tell(LogLevel::Info, text);
    }

    /// Logs an event of level info that is always the same, so that nothing in it has to be hidden.
    pub(crate) fn note(&self, text: &'static str) {
        let event = Event {
            level: LogLevel::Info,
            text,
            fields: &[],
            exception: None,
        };
        if let Some((is_kept, is_developed)) = self.listens(event.level) {
            self.write(&event, is_kept, is_developed);
        }
    }

    /// Logs an event of level warning without further facts.
    pub(crate) fn warn(&self, text: &str) {
        self.tell(LogLevel::Warning, text);
    }

    fn tell(&self, level: LogLevel, text: &str) {
        self.say(&Event {
            level,
            text,
            fields: &[],
            exception: None,
        });
    }

    /// Returns a text without the monkey's token.
    pub(crate) fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        hide_token(text, &self.user.token)
    }

    /// Returns a text without the monkey's token, and without its middle if it is longer than `most` bytes.
    pub(crate) fn shown(&self, text: &str, most: usize) -> String {
        shortened(&self.hide(text), most).into_owned()
    }

    /// Logs an event, if its level is one that this monkey's log keeps. Whatever a service or a kernel has said, the monkey's token is
    /// not in what is logged.
    pub(crate) fn say(&self, event: &Event<'_>) {
        if let Some((is_kept, is_developed)) = self.listens(event.level) {
            event.hiding(|text| self.hide(text), |event| self.write(event, is_kept, is_developed));
        }
    }

    /// Returns whether the monkey's log keeps an event of this level, and whether the service's log shows it to whoever develops; `None`
    /// if nobody wants it.
    fn listens(&self, level: LogLevel) -> Option<(bool, bool)> {
        // As in mobu, whoever develops sees everything in one place; there it takes the level debug.
        let is_developed = self.flock.surroundings.profile == LogProfile::Development;
        let is_kept = level >= self.flock.business.common().log_level;
        (self.log.is_none() || is_kept || is_developed).then_some((is_kept, is_developed))
    }

    fn write(&self, event: &Event<'_>, is_kept: bool, is_developed: bool) {
        let Some(log) = &self.log else {
            return self.say_to_service(event);
        };
        if is_kept {
            log.append(|buffer| event.write(self.flock.surroundings.profile, self.name().as_str(), buffer));
        }
        if is_developed {
            debug!(flock.name = %self.flock.name, monkey.name = %self.name(), "{}", event.text);
        }
    }

    fn say_to_service(&self, event: &Event<'_>) {
        let (flock, monkey) = (&self.flock.name, self.name());
        let error = event.exception.unwrap_or_default();
        let facts = event.facts();
        macro_rules! emit {
            ($level:ident) => {
                $level!(%flock, %monkey, user = %monkey, severity = severity(event.level), facts, error, "{}", event.text)
            };
        }
        match event.level {
            LogLevel::Debug => emit!(debug),
            LogLevel::Info => emit!(info),
            LogLevel::Warning => emit!(warn),
            LogLevel::Error | LogLevel::Critical => emit!(error),
        }
    }

    /// Asks for a refresh, as of `now`. It stays asked for until the business has done it.
    pub(crate) fn refresh(&self, now: Instant) {
        *self.asked() = Some(now);
    }

    /// Returns when the last refresh was asked for that has not been done.
    pub(crate) fn refresh_asked(&self) -> Option<Instant> {
        *self.asked()
    }

    /// Notes that a refresh was done, unless another one has been asked for since.
    pub(crate) fn refreshed(&self, asked: Instant) {
        let mut last = self.asked();
        if *last == Some(asked) {
            *last = None;
        }
    }

    fn asked(&self) -> MutexGuard<'_, Option<Instant>> {
        let asked = self.refresh_asked.lock();
        asked.expect("no code panics while it holds the wish for a refresh")
    }

    /// Tells it to stop; waits for nothing.
    pub(crate) fn stop(&self) {
        if self.stop.set() {
            self.apply(MonkeyEvent::Stop);
            self.note("Stopping...");
        }
    }

    /// Whether its task has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Notes that a lab was asked for in its name, or that there is none any more.
    pub(crate) fn note_lab(&self, may_be_there: bool) {
        self.may_have_lab.store(may_be_there, Ordering::SeqCst);
    }

    /// Whether a lab was asked for in its name that is not known to be gone.
    pub(crate) fn may_have_lab(&self) -> bool {
        self.may_have_lab.load(Ordering::SeqCst)
    }

    /// Moves to the next state. Returns whether the event could happen; otherwise nothing changed.
    pub(crate) fn apply(&self, event: MonkeyEvent) -> bool {
        let mut number = self.state.load(Ordering::SeqCst);
        loop {
            let Some(next) = STATES[usize::from(number)].next(event) else {
                return false;
            };
            let index = STATES
                .iter()
                .position(|state| *state == next)
                .expect("STATES has every state");
            let to = u8::try_from(index).expect("there are five states");
            match self
                .state
                .compare_exchange(number, to, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) if number == to => return true,
                Ok(_) => {
                    let counts = &self.flock.counts.by_state;
                    counts[usize::from(number)].fetch_sub(1, Ordering::Relaxed);
                    counts[index].fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                Err(now) => number = now,
            }
        }
    }

    fn count_success(&self) {
        self.success.fetch_add(1, Ordering::Relaxed);
        self.flock.counts.success.fetch_add(1, Ordering::Relaxed);
    }

    fn count_failure(&self) {
        self.failure.fetch_add(1, Ordering::Relaxed);
        self.flock.counts.failure.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the monkey as mobu shows it.
    pub(crate) fn data(&self) -> MonkeyData {
        let surroundings = &self.flock.surroundings;
        let activity = self
            .activity
            .lock()
            .expect("no code panics while it holds the activity");
        let text = |text: Option<&str>| text.map(|text| self.hide(text).into_owned());
        let value = |value: Option<&Value>| value.map(|value| self.hide_in(value));
        MonkeyData {
            name: self.name().clone(),
            state: self.state(),
            user: UserData {
                username: self.user.username.as_str().to_owned(),
                scopes: self.flock.scopes.to_vec(),
                token: public_half(self.user.token.expose_secret()),
                uidnumber: self.user.uidnumber,
                gidnumber: self.user.gidnumber,
                groups: self.user.groups.to_vec(),
            },
            business: BusinessData {
                name: self.flock.business.kind().class_name().to_owned(),
                failure_count: self.failure.load(Ordering::Relaxed),
                success_count: self.success.load(Ordering::Relaxed),
                refreshing: self.refresh_asked().is_some(),
                notebook: text(activity.as_ref().and_then(|activity| activity.notebook.as_deref())),
                image: value(activity.as_ref().and_then(|activity| activity.image.as_ref())),
                running_code: text(activity.as_ref().and_then(|activity| activity.running_code.as_deref())),
                running_query: value(activity.as_ref().and_then(|activity| activity.running_query.as_ref())),
            },
            replica: surroundings.is_one_of_many.then(|| surroundings.instance_id.clone()),
        }
    }

    fn hide_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::from(self.hide(text)),
            Value::Array(values) => values.iter().map(|value| self.hide_in(value)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (key.clone(), self.hide_in(value)));
                Value::Object(fields.collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// Reads a part of its log; `None` if it has none of its own.
    pub(crate) fn read_log(&self, offset: u64, limit: u32) -> Option<LogPart> {
        self.log.as_ref().map(|log| log.read(offset, limit))
    }

    pub(crate) fn flock(&self) -> &Arc<FlockRun> {
        &self.flock
    }
}

/// Returns what may be shown of a token: `gt-{key}.***`. Nothing at all of one that has another form.
pub(crate) fn public_half(token: &str) -> String {
    match token.split_once('.') {
        Some((key, _)) if key.starts_with("gt-") => format!("{key}.***"),
        _ => "***".to_owned(),
    }
}

/// Returns a state as mobu writes it.
pub(crate) const fn state_name(state: MonkeyState) -> &'static str {
    match state {
        MonkeyState::Idle => "IDLE",
        MonkeyState::Running => "RUNNING",
        MonkeyState::Stopping => "STOPPING",
        MonkeyState::Finished => "FINISHED",
        MonkeyState::Error => "ERROR",
    }
}
