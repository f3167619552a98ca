//! What a replica knows and decides: events in, effects out, nothing else.
//!
//! Each session reads the log with a fresh view: one kept over a log that lost entries might hold a claim that the log has
//! not, and then ignore all that is new. The replica never goes back all the same, for it acts on a
//! state only if its revision is above that of the state it acted on last (`amqp.md` b.4, rules 1, 5 and 8).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::desired::DesiredFlock;
use mobu_fleet::domain::fold::{Known, Verdict, View};
use mobu_fleet::domain::ids::{Epoch, FlockName, Revision};
use mobu_fleet::domain::messages::{Announcement, ReadEntry, ReplicaPhase};
use mobu_fleet::domain::reconcile::{ActualFlock, Step, reconcile};
use mobu_fleet::link::LogStart;
use mobu_fleet::runtime::clock::Instant;
use mobu_fleet::simulation::{Bug, has};

/// How long to wait for an announcement before the log is read from its beginning.
const ANNOUNCEMENT_WAIT: Duration = Duration::from_secs(5);
/// How long the log must be silent to count as read to its end, if nobody announced where that is.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a reader may be silent while the coordinator announces more than it has read.
const STUCK: Duration = Duration::from_secs(5);

/// First and longest pause before a flock whose task has crashed again is started again.
const CRASHED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a flock must have run so that its last crash does not count any more.
const SOUND: Duration = Duration::from_secs(120);

/// What happened.
#[derive(Debug)]
pub(super) enum ReplicaEvent {
    /// A session is open and holds the instance ID.
    Opened,
    /// The instance ID is held: by another process that answers, or by a connection that does not, such as our own last one.
    NameTaken {
        /// Whether somebody answered.
        by_another: bool,
    },
    /// The session has ended.
    Lost,
    /// The coordinator says where things stand.
    Announced(Announcement),
    /// The reader of the log is there: from now on its silence means something.
    Attached,
    /// The next entry of the log.
    Read(u64, Box<ReadEntry>),
    /// The task of a flock has ended.
    FlockEnded(FlockName),
    /// Time has passed.
    Tick,
    /// The process ends.
    Drain,
}

/// What must now be done.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    /// Read the log from here on.
    ReadLog(LogStart),
    /// End the session, which is of no use any more.
    EndSession(&'static str),
    /// Tell the flock of that name to run so; start it if it does not.
    Run(FlockName, Arc<DesiredFlock>),
    /// Tell the flock to stop.
    Stop(FlockName),
    /// The coordinator was heard of.
    Contact,
    /// Report soon.
    Report,
    /// Say that the instance ID is in use, and end the process: it never ran anything.
    GiveUp,
    /// Everything has stopped: report a last time, and end.
    Finish,
}

/// What the replica knows.
#[derive(Debug)]
pub(super) struct ReplicaState {
    name_wait: Duration,
    view: View,
    acted: Option<Known>,
    /// What each flock's task was told last; `None`: to stop.
    told: BTreeMap<FlockName, Option<ActualFlock>>,
    /// Flocks whose task ended although they were to run.
    crashed: BTreeMap<FlockName, Crashes>,
    session: Session,
    has_run: bool,
    /// Whether the log was read to its end at least once.
    was_caught_up: bool,
    /// Since when the instance ID is known to be another's.
    name_taken: Option<Instant>,
    /// What was announced beyond the view, and since when the reader has been silent.
    ahead: Option<((Epoch, Revision), Instant)>,
    /// The announced offset at which the session began to read.
    began_at: Option<u64>,
    is_draining: bool,
}

/// How often a flock's task ended although it was to run.
#[derive(Debug, Clone, Copy)]
struct Crashes {
    count: u32,
    last: Instant,
    /// When it is started again; until then it has no task.
    due: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    Closed,
    /// Waits for an announcement until then.
    Open {
        until: Instant,
    },
    /// Reads towards `target`, if one was announced.
    Reading {
        target: Option<Target>,
        read: Option<u64>,
        /// When the last entry came, or since when the reader is there; `None` before.
        last: Option<Instant>,
    },
    /// Acts on every entry.
    CaughtUp,
}

/// The entry up to which the log must be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    offset: u64,
    announced: (Epoch, Revision),
}

impl ReplicaState {
    pub(super) fn new(name_wait: Duration) -> Self {
        Self {
            name_wait,
            view: View::default(),
            acted: None,
            told: BTreeMap::new(),
            crashed: BTreeMap::new(),
            session: Session::Closed,
            has_run: false,
            was_caught_up: false,
            name_taken: None,
            ahead: None,
            began_at: None,
            is_draining: false,
        }
    }

    /// The state that the replica acts on, if it knows one.
    pub(super) fn acted(&self) -> Option<&Known> {
        self.acted.as_ref()
    }

    /// What each flock was told last; `None`: to stop.
    pub(super) fn told(&self) -> impl Iterator<Item = (&FlockName, Option<ActualFlock>)> {
        self.told.iter().map(|(name, told)| (name, *told))
    }

    /// Whether another process holds the instance ID, as far as is known.
    pub(super) fn is_name_taken(&self) -> bool {
        self.name_taken.is_some()
    }

    pub(super) fn phase(&self) -> ReplicaPhase {
        if self.is_draining {
            ReplicaPhase::Draining
        } else if self.was_caught_up {
            ReplicaPhase::Running
        } else {
            ReplicaPhase::Starting
        }
    }

    /// Returns when to come back with a [`ReplicaEvent::Tick`] at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let session = match self.session {
            Session::Open { until } => Some(until),
            Session::Reading { target: None, last, .. } => last.map(|last| last + SILENCE),
            Session::Reading { last, .. } => last.map(|last| last + STUCK),
            _ => None,
        };
        let stuck = self.ahead.filter(|_| self.is_reading()).map(|(_, since)| since + STUCK);
        let due = self.crashed.values().filter_map(|crashes| crashes.due);
        session.into_iter().chain(stuck).chain(due).min()
    }

    /// Applies one event; returns what must now be done, in order.
    pub(super) fn handle(&mut self, event: ReplicaEvent, now: Instant) -> Vec<Effect> {
        match event {
            ReplicaEvent::Opened => self.opened(now),
            ReplicaEvent::NameTaken { by_another } => self.name_taken(by_another, now),
            ReplicaEvent::Lost => {
                (self.session, self.ahead) = (Session::Closed, None);
                Vec::new()
            }
            ReplicaEvent::Announced(announcement) => self.announced(&announcement, now),
            ReplicaEvent::Attached => {
                if let Session::Reading { last, .. } = &mut self.session {
                    *last = Some(now);
                }
                Vec::new()
            }
            ReplicaEvent::Read(offset, entry) => self.read(offset, *entry, now),
            ReplicaEvent::FlockEnded(name) => self.flock_ended(&name, now),
            ReplicaEvent::Tick => self.tick(now),
            ReplicaEvent::Drain => {
                self.is_draining = true;
                let mut effects = self.stop_all();
                effects.push(if self.told.is_empty() {
                    Effect::Finish
                } else {
                    Effect::Report
                });
                effects
            }
        }
    }

    fn opened(&mut self, now: Instant) -> Vec<Effect> {
        self.has_run = true;
        (self.name_taken, self.ahead, self.view) = (None, None, View::default());
        self.began_at = None;
        self.session = Session::Open {
            until: now + ANNOUNCEMENT_WAIT,
        };
        vec![Effect::Report]
    }

    fn name_taken(&mut self, by_another: bool, now: Instant) -> Vec<Effect> {
        let since = *self.name_taken.get_or_insert(now);
        if self.has_run && has(Bug::KeepRunningWithoutName) {
            return Vec::new();
        }
        if self.has_run {
            // Two processes must never play the same users: the other one has the name, so it has the users. But a network that
            // failed for a moment is no reason to stop; the broker then holds our own last connection for a while.
            return if by_another { self.stop_all() } else { Vec::new() };
        }
        if now.duration_since(since) >= self.name_wait {
            vec![Effect::GiveUp]
        } else {
            Vec::new()
        }
    }

    fn announced(&mut self, announcement: &Announcement, now: Instant) -> Vec<Effect> {
        if self.is_draining {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let announced = (announcement.standing.epoch, announcement.standing.revision);
        let aim = Target {
            offset: announcement.offset,
            announced,
        };
        // Below our epoch speaks a coordinator that was replaced, or one that has yet to learn what we know.
        if announcement.standing.epoch >= self.view.epoch() {
            effects.push(Effect::Contact);
        }
        match &mut self.session {
            Session::Open { .. } => {
                // Any entry that counted will do, however old: all that is later is seen in order.
                self.session = Session::Reading {
                    target: Some(aim),
                    read: None,
                    last: None,
                };
                self.began_at = Some(announcement.offset);
                effects.push(Effect::ReadLog(LogStart::Offset(announcement.offset)));
            }
            Session::Reading { target, .. } => {
                // The newest word counts, not the highest offset: a log that lost entries counts from a lower one again.
                if target.is_none_or(|target| announced >= target.announced) {
                    *target = Some(aim);
                }
                effects.extend(self.catch_up(now));
            }
            Session::CaughtUp | Session::Closed => {}
        }
        if announced > self.known() {
            let since = self.ahead.map_or(now, |(_, since)| since);
            self.ahead = Some((announced, since));
        } else if announcement.standing.epoch >= self.view.epoch() {
            self.ahead = None;
        }
        effects
    }

    fn read(&mut self, offset: u64, entry: ReadEntry, now: Instant) -> Vec<Effect> {
        if let Session::Reading { read, last, target } = &mut self.session {
            let is_first = read.is_none();
            (*read, *last) = (Some(offset), Some(now));
            if let (true, Some(target), ReadEntry::Whole(entry)) = (is_first, *target, &entry)
                && self.began_at == Some(target.offset)
                && offset == target.offset
                && (entry.epoch, entry.revision) != target.announced
            {
                // The announcement was made before the log lost entries. What is there now may not count.
                return vec![self.end_session("the log has another entry where one was announced")];
            }
        }
        let verdict = self.view.fold_read(offset, entry);
        self.ahead = self
            .ahead
            .filter(|(announced, _)| *announced > self.known())
            .map(|(announced, _)| (announced, now));
        match self.session {
            Session::CaughtUp if verdict == Verdict::State => self.act(),
            Session::Reading { .. } if has(Bug::ActBeforeCaughtUp) => self.act(),
            Session::Reading { .. } => self.catch_up(now),
            _ => Vec::new(),
        }
    }

    fn flock_ended(&mut self, name: &FlockName, now: Instant) -> Vec<Effect> {
        let mut effects = vec![Effect::Report];
        match self.told.get(name) {
            Some(None) => {
                self.told.remove(name);
            }
            // It was told to run again in the moment in which it ended, or it crashed.
            Some(Some(_)) => {
                let pause = self.crash(name, now);
                if pause.is_zero() {
                    effects.extend(self.run_again(name));
                }
            }
            None => {}
        }
        if self.is_draining && self.told.is_empty() {
            effects.push(Effect::Finish);
        }
        effects
    }

    /// Takes note that a flock ended by itself; returns how long to leave it alone. The first time it may have been told to
    /// run again just as it ended, so it does at once.
    fn crash(&mut self, name: &FlockName, now: Instant) -> Duration {
        self.crashed.retain(|_, crashes| now < crashes.last + SOUND);
        let crashes = self.crashed.entry(name.clone()).or_insert(Crashes {
            count: 0,
            last: now,
            due: None,
        });
        let pause = match crashes.count {
            0 => Duration::ZERO,
            count => CRASHED.0.saturating_mul(2_u32.saturating_pow(count - 1)).min(CRASHED.1),
        };
        *crashes = Crashes {
            count: crashes.count.saturating_add(1),
            last: now + pause,
            due: (!pause.is_zero()).then(|| now + pause),
        };
        pause
    }

    fn run_again(&mut self, name: &FlockName) -> Option<Effect> {
        let wanted = self.acted.as_ref().and_then(|acted| acted.state.flocks.get(name));
        if wanted.is_none() {
            self.told.remove(name);
        }
        wanted.map(|flock| Effect::Run(name.clone(), Arc::new(flock.clone())))
    }

    /// Starts what was left alone for long enough.
    fn run_due(&mut self, now: Instant) -> Vec<Effect> {
        let due = self.crashed.iter_mut();
        let due = due.filter(|(_, crashes)| crashes.due.is_some_and(|due| due <= now));
        let names: Vec<FlockName> = due
            .map(|(name, crashes)| {
                crashes.due = None;
                name.clone()
            })
            .collect();
        let wanted = names
            .iter()
            .filter(|name| matches!(self.told.get(*name), Some(Some(_))));
        let wanted: Vec<FlockName> = wanted.cloned().collect();
        wanted.iter().filter_map(|name| self.run_again(name)).collect()
    }

    /// Has a flock stopped; one that is left alone after a crash has no task that could say that it has ended.
    fn stop(&mut self, name: &FlockName) -> Option<Effect> {
        let crashes = self.crashed.get_mut(name);
        if crashes.is_some_and(|crashes| crashes.due.take().is_some()) {
            self.told.remove(name);
            return None;
        }
        self.told.insert(name.clone(), None);
        Some(Effect::Stop(name.clone()))
    }

    fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = self.run_due(now);
        effects.extend(self.tick_session(now));
        effects
    }

    fn tick_session(&mut self, now: Instant) -> Vec<Effect> {
        if self.is_reading() && self.ahead.is_some_and(|(_, since)| now >= since + STUCK) {
            return vec![self.end_session("the coordinator announces more than the log's reader delivers")];
        }
        match self.session {
            Session::Open { until } if now >= until => {
                self.session = Session::Reading {
                    target: None,
                    read: None,
                    last: None,
                };
                vec![Effect::ReadLog(LogStart::First)]
            }
            Session::Reading {
                target: Some(_),
                last: Some(last),
                ..
            } if now >= last + STUCK => {
                vec![self.end_session("the log does not have what the coordinator announced")]
            }
            Session::Reading { .. } => self.catch_up(now),
            _ => Vec::new(),
        }
    }

    /// Has the session ended. Until that is done it counts as closed, so that no deadline of it is left to come back for.
    fn end_session(&mut self, reason: &'static str) -> Effect {
        (self.session, self.ahead) = (Session::Closed, None);
        Effect::EndSession(reason)
    }

    fn is_reading(&self) -> bool {
        matches!(self.session, Session::Reading { .. } | Session::CaughtUp)
    }

    /// Where the newest state that was read stands.
    fn known(&self) -> (Epoch, Revision) {
        let held = self.view.held();
        held.map_or((Epoch(0), Revision(0)), |held| {
            (held.standing.epoch, held.standing.revision)
        })
    }

    /// Begins to act once everything was read that there was when the session began.
    fn catch_up(&mut self, now: Instant) -> Vec<Effect> {
        let Session::Reading { target, read, last } = self.session else {
            return Vec::new();
        };
        let is_there = match target {
            Some(target) => read.is_some_and(|read| read >= target.offset),
            None => last.is_some_and(|last| now >= last + SILENCE),
        };
        if !is_there {
            return Vec::new();
        }
        self.session = Session::CaughtUp;
        self.was_caught_up = true;
        let mut effects = self.act();
        effects.push(Effect::Report);
        effects
    }

    /// Takes the newest state, if it is newer than the one acted on last, and does what is missing.
    fn act(&mut self) -> Vec<Effect> {
        if self.is_draining {
            return Vec::new();
        }
        let mut effects = Vec::new();
        // A state that this release cannot read is no state: what runs goes on, and the reports show how far it is behind.
        if let Some(held) = self.view.held().filter(|_| self.view.unreadable().is_none()) {
            let standing = &held.standing;
            let goes_back = has(Bug::ApplyOlderRevision);
            let is_newer = self
                .acted
                .as_ref()
                .is_none_or(|acted| standing.revision > acted.standing.revision || goes_back);
            // The log lost what we act on, and has outgrown it. Whoever leads must merge ours first, or it would be forgotten.
            let is_strange = self
                .acted
                .as_ref()
                .is_some_and(|acted| !goes_back && held.line.holds(&acted.standing) == Some(false));
            // The same state under a later epoch: nothing to do, but we stand there now.
            let is_confirmed = self.acted.as_ref().is_some_and(|acted| {
                standing.revision == acted.standing.revision
                    && standing.digest == acted.standing.digest
                    && standing.epoch > acted.standing.epoch
            });
            if is_strange {
                effects.push(Effect::Report);
            } else if is_newer || is_confirmed {
                self.acted = Some(held.known.clone());
                effects.push(Effect::Report);
            }
        }
        let Some(acted) = self.acted.clone() else {
            return effects;
        };
        let actual = self
            .told
            .iter()
            .filter_map(|(name, told)| told.map(|told| (name.clone(), told)))
            .collect();
        for step in reconcile(&acted.state, &actual) {
            match step {
                Step::Stop(name) => effects.extend(self.stop(&name)),
                Step::Start(name) | Step::Restart(name) | Step::Refresh(name) => {
                    let flock = &acted.state.flocks[&name];
                    let told = ActualFlock {
                        generation: flock.generation,
                        refresh_generation: flock.refresh_generation,
                    };
                    self.told.insert(name.clone(), Some(told));
                    if let Some(crashes) = self.crashed.get_mut(&name) {
                        // A new wish is a new try.
                        crashes.due = None;
                    }
                    effects.push(Effect::Run(name, Arc::new(flock.clone())));
                }
            }
        }
        effects
    }

    fn stop_all(&mut self) -> Vec<Effect> {
        let running = self.told.iter().filter(|(_, told)| told.is_some());
        let running: Vec<FlockName> = running.map(|(name, _)| name.clone()).collect();
        running.iter().filter_map(|name| self.stop(name)).collect()
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
