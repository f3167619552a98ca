//! What the coordinator knows and decides: events in, effects out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::business::BusinessConfig;
use mobu_fleet::domain::desired::{Change, Command, DesiredFlock, DesiredState};
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::fold::{Known, PastChange};
use mobu_fleet::domain::ids::{Epoch, FleetName, FlockName, InstanceId, Owner, Revision, SessionId};
use mobu_fleet::domain::line::Line;
use mobu_fleet::domain::messages::{
    Announcement, Answer, AnswerBody, Ask, CoordinatorReport, FlockPhase, LogEntry, Query, ReadEntry, ReplicaOutcome,
    ReplicaPhase, Report, SCHEMA, Source, Standing,
};
use mobu_fleet::domain::users;
use mobu_fleet::link::{MAX_STATE, RequestDelivery, SessionHealth};
use mobu_fleet::runtime::clock::{Instant, wall};
use mobu_fleet::simulation::{Bug, has};
use tracing::{info, warn};

use super::change::{Asker, ChangeError, Outcome, Wish};
use super::reign::{Memory, Proposal, Reign, ReignEffect, ReignEvent, ReignRules};
use super::replicas::{Replica, ReplicaState, Replicas, outcome};

/// How many changes may wait for their turn; further ones are refused.
const MOST_WISHES: usize = 1024;

/// How many callers may wait until a change is applied; further ones are answered at once as far as things are.
const MOST_WAITERS: usize = 4096;

/// How long to wait for a replica that says nothing to say that it has stopped users which another one shall run. One that reports is
/// waited for as long as it takes: its stops are bounded.
const SILENT_WAIT: Duration = Duration::from_secs(30);

/// What a coordinator's configuration decides.
#[derive(Debug, Clone)]
pub struct FleetRules {
    /// Name of the fleet.
    pub fleet: FleetName,
    /// Random name of this process.
    pub session: SessionId,
    /// This release.
    pub version: String,
    /// How leadership is come by.
    pub reign: ReignRules,
    /// How often replicas report.
    pub report_interval: Duration,
    /// How often the leader announces what is newest.
    pub announce_interval: Duration,
    /// How long a caller waits for a change to be applied.
    pub apply_timeout: Duration,
    /// The flocks to bring in when this coordinator begins to lead; `None` if the configuration says nothing of them.
    pub autostart: Option<Vec<FlockConfig>>,
}

/// What must be done, in order.
#[derive(Debug)]
pub enum Effect {
    /// Ask for the lock.
    TryLock,
    /// Append this to the log.
    Append(Box<LogEntry>),
    /// Tell everybody what is newest.
    Announce(Announcement),
    /// Ask everybody what desired state they know.
    AskAll(Query),
    /// Tell the other coordinators that this one is there.
    Present(CoordinatorReport),
    /// Begin to take requests.
    TakeRequests,
    /// Tell the asker what became of the wish.
    Settle {
        /// Who.
        asker: Asker,
        /// Whether it was also asked to hear when the change is applied.
        wait: bool,
        /// What.
        result: Result<Outcome, ChangeError>,
    },
    /// Drop both sessions and start over.
    End(String),
}

/// A wish and who made it.
#[derive(Debug)]
struct Waiting {
    wish: Wish,
    asker: Asker,
}

/// A change that counts, and somebody who wants to know when it is applied.
#[derive(Debug)]
struct Applying {
    revision: Revision,
    /// The state that it made, if this process wrote it.
    standing: Option<Standing>,
    change: Change,
    deadline: Instant,
    asker: Asker,
    /// A replica without whose report nothing is settled. To look at all of them for each report would cost a large
    /// fleet the square of its size.
    blocked_by: Option<InstanceId>,
}

/// What the coordinator knows of another one.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its last report.
    pub report: CoordinatorReport,
    /// When that came.
    pub heard_at: Instant,
}

/// The coordinator's knowledge.
#[derive(Debug)]
pub struct FleetState {
    rules: FleetRules,
    /// The present session with the log, if there is one.
    reign: Option<Reign>,
    /// What the present session must not forget if it ends.
    memory: Memory,
    /// The changes that the last session knew.
    remembered: VecDeque<Arc<PastChange>>,
    replicas: Replicas,
    peers: BTreeMap<SessionId, Peer>,
    wishes: VecDeque<Waiting>,
    /// The wish whose entry is under way.
    writing: Option<(Waiting, Change)>,
    applying: Vec<Applying>,
    /// When the newest state was last announced; `None` if it has yet to be.
    announced: Option<Instant>,
    presented: Option<Instant>,
    /// The revision that took users from everybody so that they can be dealt out anew, and since when replicas are waited for.
    taking: Option<(Revision, Instant)>,
    /// Whether nothing further is accepted.
    is_draining: bool,
    /// When the present or last session began.
    began: Instant,
    /// Why there is no session, for people.
    trouble: String,
}

/// What is known at one moment: what every read is answered from.
#[derive(Debug, Clone)]
pub struct Status {
    /// Name of the fleet.
    pub fleet: FleetName,
    /// This process.
    pub session: SessionId,
    /// This release.
    pub version: String,
    /// `offline`, `reading`, `standby`, `claiming`, `asking`, `writing` or `leading`.
    pub stage: &'static str,
    /// Why it is offline, if it is.
    pub trouble: Option<String>,
    /// The highest epoch seen.
    pub epoch: Epoch,
    /// The newest state, if any is known.
    pub standing: Option<Standing>,
    /// The same, whole.
    pub desired: Arc<DesiredState>,
    /// What that state descends from.
    pub line: Arc<Line>,
    /// The last accepted changes, oldest first.
    pub history: Vec<Arc<PastChange>>,
    /// Every replica heard of.
    pub replicas: Replicas,
    /// Where each stands.
    pub states: BTreeMap<InstanceId, ReplicaState>,
    /// Other coordinators.
    pub peers: BTreeMap<SessionId, Peer>,
    /// Whether every expected replica runs what it should.
    pub converged: bool,
    /// How the session with the broker is doing.
    pub link: SessionHealth,
    /// Messages that could not be used, since the start.
    pub unusable_messages: u64,
    /// Answers that came too late or twice, since the start.
    pub late_answers: u64,
    /// When this was put together.
    pub at: Instant,
}

/// What of a fleet an event stream tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    stage: &'static str,
    standing: Option<Standing>,
    states: BTreeMap<InstanceId, ReplicaState>,
    converged: bool,
}

impl Status {
    /// Whether this coordinator accepts changes.
    pub fn is_leading(&self) -> bool {
        self.stage == "leading"
    }

    /// Returns what is known of a replica.
    pub fn replica(&self, id: &InstanceId) -> Option<&Replica> {
        self.replicas.heard().get(id)
    }

    /// Returns how old a replica's last report is, or `None` if it never reported.
    pub fn age(&self, id: &InstanceId) -> Option<Duration> {
        self.replica(id)
            .map(|replica| self.at.saturating_duration_since(replica.heard_at))
    }

    /// Returns what each replica that was heard of has made of a past change.
    pub fn outcomes(&self, past: &PastChange) -> BTreeMap<InstanceId, ReplicaOutcome> {
        let heard = self.replicas.heard().iter();
        heard
            .map(|(id, replica)| {
                (
                    id.clone(),
                    outcome(&replica.report, past.revision, &past.change, &self.desired, &self.line),
                )
            })
            .collect()
    }
}

impl FleetState {
    /// Knows nothing yet.
    pub fn new(rules: FleetRules, now: Instant) -> Self {
        Self {
            replicas: Replicas::new(rules.reign.replica_count, rules.report_interval),
            rules,
            reign: None,
            memory: Memory::default(),
            remembered: VecDeque::new(),
            peers: BTreeMap::new(),
            wishes: VecDeque::new(),
            writing: None,
            applying: Vec::new(),
            announced: None,
            presented: None,
            taking: None,
            is_draining: false,
            began: now,
            trouble: "it has not connected yet".to_owned(),
        }
    }

    /// The configuration's decisions.
    pub fn rules(&self) -> &FleetRules {
        &self.rules
    }

    /// A session has begun.
    pub fn begin(&mut self, owner: Owner, now: Instant) {
        let reign = Reign::new(self.rules.reign.clone(), owner, self.memory.clone(), now);
        self.reign = Some(reign);
        self.began = now;
        self.announced = None;
        self.presented = None;
        self.taking = None;
    }

    /// The session has ended. What was under way is unknown; what still waited is refused.
    pub fn end(&mut self, reason: &str) -> Vec<Effect> {
        if let Some(reign) = self.reign.take() {
            self.remembered.clone_from(reign.view().history());
            self.memory = reign.into_memory();
        }
        reason.clone_into(&mut self.trouble);
        let mut effects = Vec::new();
        if let Some((waiting, _)) = self.writing.take() {
            let error = ChangeError::Unknown {
                reason: reason.to_owned(),
            };
            effects.push(Effect::Settle {
                asker: waiting.asker,
                wait: false,
                result: Err(error),
            });
        }
        for waiting in std::mem::take(&mut self.wishes) {
            let error = ChangeError::NotLeading {
                reason: reason.to_owned(),
            };
            effects.push(Effect::Settle {
                asker: waiting.asker,
                wait: false,
                result: Err(error),
            });
        }
        effects
    }

    /// The process ends: nothing further is accepted, and whoever waits for a change to be applied is told how far it is. It is
    /// durable all the same.
    pub fn drain(&mut self, now: Instant) -> Vec<Effect> {
        self.is_draining = true;
        for applying in &mut self.applying {
            applying.deadline = now;
        }
        self.settle_applied(now)
    }

    /// The log has a further entry.
    pub fn record(&mut self, offset: u64, entry: ReadEntry, now: Instant) -> Vec<Effect> {
        self.reign(
            ReignEvent::Record {
                offset,
                entry: Box::new(entry),
            },
            now,
        )
    }

    /// The lock was asked for.
    pub fn locked(&mut self, held: bool, now: Instant) -> Vec<Effect> {
        self.reign(ReignEvent::Lock { held }, now)
    }

    /// The broker has confirmed the last entry.
    pub fn confirmed(&mut self, now: Instant) -> Vec<Effect> {
        self.reign(ReignEvent::Confirmed, now)
    }

    /// A replica has reported.
    pub fn report(&mut self, report: Report, now: Instant) -> Vec<Effect> {
        let standing = report.standing.clone();
        let known = self.replicas.heard().get(&report.instance_id);
        let is_new = known.is_none_or(|known| known.report.session != report.session);
        if is_new && report.replica_count != self.rules.reign.replica_count {
            warn!(
                replica.id = %report.instance_id,
                "replica {} is configured for a fleet of {}, this coordinator for {}",
                report.instance_id, report.replica_count, self.rules.reign.replica_count
            );
        }
        let is_awaited = |applying: &Applying| applying.blocked_by.as_ref().is_none_or(|id| *id == report.instance_id);
        let is_awaited = self.applying.iter().any(is_awaited);
        if !self.replicas.hear(report, now) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if let Some(standing) = standing {
            effects = self.reign(ReignEvent::Heard { standing }, now);
        }
        // A report that shows that the log lost entries says nothing about the changes that are waited for.
        if effects.is_empty() && is_awaited {
            effects = self.settle_applied(now);
        }
        effects
    }

    /// Another coordinator has reported.
    pub fn peer(&mut self, report: CoordinatorReport, now: Instant) -> Vec<Effect> {
        if report.session == self.rules.session {
            return self.reign(ReignEvent::HeardSelf, now);
        }
        if report.active {
            self.heard_leader(now);
        }
        let standing = report.standing.clone();
        self.peers
            .insert(report.session.clone(), Peer { report, heard_at: now });
        standing.map_or_else(Vec::new, |standing| self.reign(ReignEvent::Heard { standing }, now))
    }

    /// Somebody has announced what is newest, or said in another way that they lead.
    pub fn heard_leader(&mut self, now: Instant) {
        let effects = self.reign(ReignEvent::HeardLeader, now);
        debug_assert!(effects.is_empty(), "a word of a leader is a reason to do nothing");
    }

    /// Somebody has answered what desired state they know.
    pub fn told(&mut self, answer: Answer, now: Instant) -> Vec<Effect> {
        let AnswerBody::State {
            standing,
            state,
            line,
            request_ids,
        } = answer.body
        else {
            return Vec::new();
        };
        let known = standing.clone().zip(state).map(|(standing, state)| Known {
            line: Arc::new(line.unwrap_or_else(|| Line::of(&standing))),
            state: Arc::new(state),
            request_ids: Arc::new(request_ids),
            standing,
        });
        let event = ReignEvent::Told {
            replica: answer.instance_id,
            session: answer.session,
            standing,
            known,
        };
        self.reign(event, now)
    }

    /// Somebody has answered what desired state they know, and this version cannot read it.
    pub fn told_unreadable(&mut self, now: Instant) -> Vec<Effect> {
        self.reign(ReignEvent::ToldUnreadable, now)
    }

    /// Another coordinator asks what desired state this one knows.
    pub fn asked(&self, query: &Query) -> Option<Answer> {
        let Ask::State { above, line } = &query.ask else {
            return None;
        };
        if self.reign.as_ref().is_some_and(|reign| *reign.owner() == query.owner) {
            return None;
        }
        let known = self.known();
        let standing = known.as_ref().map(|known| known.standing.clone());
        let more = known.filter(|known| known.standing.knows_more_than(above.as_ref(), line.as_ref()));
        Some(Answer {
            schema: SCHEMA,
            instance_id: None,
            session: self.rules.session.clone(),
            part: 0,
            last: true,
            body: AnswerBody::state(standing, more.as_ref()),
        })
    }

    /// Somebody wants a change.
    pub fn wish(&mut self, wish: Wish, asker: Asker, now: Instant) -> Vec<Effect> {
        let wait = wish.wait;
        let refused = if !self.is_leading() || self.is_draining {
            Some(ChangeError::NotLeading {
                reason: self.why_not_leading(),
            })
        } else if self.wishes.len() >= MOST_WISHES {
            Some(ChangeError::Overloaded)
        } else {
            None
        };
        if let Some(error) = refused {
            return vec![Effect::Settle {
                asker,
                wait,
                result: Err(error),
            }];
        }
        self.wishes.push_back(Waiting { wish, asker });
        self.propose(now)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Effect> {
        self.replicas.forget(now);
        let silent = self.rules.report_interval * 3;
        self.peers
            .retain(|_, peer| now.saturating_duration_since(peer.heard_at) <= silent);
        let others = self.peers_to_ask();
        if let Some(reign) = &mut self.reign {
            reign.set_others(others);
        }
        let mut effects = self.reign(ReignEvent::Tick, now);
        effects.extend(self.deal(now));
        effects.extend(self.settle_applied(now));
        effects.extend(self.present(now));
        effects.extend(self.announce(now));
        effects
    }

    /// Names the coordinators that may know more than the log, as far as this session has read it.
    ///
    /// One that was heard in this session and knew no more than the log says has learnt since what the log says, as we have; while a
    /// session lasts, the log loses nothing. So nobody need wait for a leader that just died.
    fn peers_to_ask(&self) -> BTreeSet<SessionId> {
        let held = self.reign.as_ref().and_then(|reign| reign.view().held());
        let line = held.map(|held| &*held.line);
        let held = held.map(|held| &held.standing);
        let may_know_more = |peer: &Peer| {
            let standing = peer.report.standing.as_ref();
            peer.heard_at < self.began || standing.is_some_and(|standing| standing.knows_more_than(held, line))
        };
        let peers = self.peers.iter().filter(|(_, peer)| may_know_more(peer));
        peers.map(|(session, _)| session.clone()).collect()
    }

    /// Returns whether changes are accepted.
    pub fn is_leading(&self) -> bool {
        self.reign.as_ref().is_some_and(Reign::is_leading)
    }

    /// Returns whether a change is under way to the log.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Returns what an event stream would tell: two equal shapes look the same from outside.
    pub fn shape(&self, now: Instant) -> Shape {
        let known = self.known();
        let standing = known.as_ref().map(|known| known.standing.clone());
        let is_converged = |known: &Known| self.replicas.converged(&known.state, &known.standing, now);
        Shape {
            stage: self.reign.as_ref().map_or("offline", Reign::stage),
            states: self.replicas.states(standing.as_ref(), now),
            converged: known.as_ref().is_some_and(is_converged),
            standing,
        }
    }

    /// Returns the replicas that a question to all should be answered by: those that report and, while this session is too
    /// young to have heard everybody, those that are expected.
    pub fn answerers(&self, now: Instant) -> BTreeSet<InstanceId> {
        let mut answerers = self.replicas.alive(now);
        if now.saturating_duration_since(self.began) <= self.rules.report_interval * 3 {
            let unheard = self.replicas.expected_ids();
            answerers.extend(unheard.into_iter().filter(|id| !self.replicas.heard().contains_key(id)));
        }
        answerers
    }

    /// Returns who this coordinator is in the log, or a name that nobody has while it has no session.
    pub fn owner(&self) -> Owner {
        self.reign
            .as_ref()
            .map_or_else(|| Owner::new(""), |reign| reign.owner().clone())
    }

    /// Returns everything that is known now.
    pub fn status(&self, now: Instant) -> Status {
        let known = self.known();
        let standing = known.as_ref().map(|known| known.standing.clone());
        let line = known.as_ref().map(|known| known.line.clone()).unwrap_or_default();
        let desired = known.map_or_else(Arc::default, |known| known.state);
        let converged = standing
            .as_ref()
            .is_some_and(|standing| self.replicas.converged(&desired, standing, now));
        Status {
            fleet: self.rules.fleet.clone(),
            session: self.rules.session.clone(),
            version: self.rules.version.clone(),
            stage: self.reign.as_ref().map_or("offline", Reign::stage),
            trouble: self.reign.is_none().then(|| self.trouble.clone()),
            epoch: self
                .reign
                .as_ref()
                .map_or(Epoch(0), |reign| reign.view().epoch())
                .max(self.memory.floor),
            states: self.replicas.states(standing.as_ref(), now),
            standing,
            desired,
            line,
            history: self.history(),
            replicas: self.replicas.clone(),
            peers: self.peers.clone(),
            converged,
            link: SessionHealth::Closed {
                reason: self.trouble.clone(),
            },
            unusable_messages: 0,
            late_answers: 0,
            at: now,
        }
    }

    /// The last changes; while there is no session, or it has only begun to read, those that the last one knew.
    fn history(&self) -> Vec<Arc<PastChange>> {
        let read = self
            .reign
            .as_ref()
            .map_or(&self.remembered, |reign| reign.view().history());
        let is_older = |one: &VecDeque<Arc<PastChange>>, other: &VecDeque<Arc<PastChange>>| {
            one.back().map(|past| past.revision) < other.back().map(|past| past.revision)
        };
        let history = if is_older(read, &self.remembered) {
            &self.remembered
        } else {
            read
        };
        history.iter().cloned().collect()
    }

    /// Returns whether a flock is known that shall run.
    pub fn shall_run(&self, flock: &FlockName) -> bool {
        self.known().is_some_and(|known| known.state.flocks.contains_key(flock))
    }

    fn known(&self) -> Option<Known> {
        self.reign
            .as_ref()
            .map_or_else(|| self.memory.known.clone(), Reign::known)
    }

    fn why_not_leading(&self) -> String {
        if self.is_draining {
            return "it is shutting down".to_owned();
        }
        match &self.reign {
            None => self.trouble.clone(),
            Some(reign) => match reign.stage() {
                "standby" => "it is a standby; another coordinator leads".to_owned(),
                stage => format!("it is taking over ({stage})"),
            },
        }
    }

    fn reign(&mut self, event: ReignEvent, now: Instant) -> Vec<Effect> {
        let Some(reign) = &mut self.reign else {
            return Vec::new();
        };
        let decided = reign.handle(event, now);
        self.carry_out(decided, now)
    }

    fn carry_out(&mut self, decided: Vec<ReignEffect>, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        for effect in decided {
            match effect {
                ReignEffect::TryLock => effects.push(Effect::TryLock),
                ReignEffect::Append(entry) => effects.push(Effect::Append(entry)),
                ReignEffect::Ask(known) => effects.push(Effect::AskAll(Query {
                    schema: SCHEMA,
                    owner: self.owner(),
                    ask: Ask::State {
                        above: known.as_ref().map(|known| known.standing.clone()),
                        line: known.map(|known| Arc::unwrap_or_clone(known.line)),
                    },
                })),
                ReignEffect::Led => {
                    let epoch = self.status(now).epoch;
                    info!(epoch = epoch.0, "this coordinator leads in epoch {epoch}");
                    self.announced = None;
                    effects.extend(self.announce(now));
                    effects.push(Effect::TakeRequests);
                    effects.extend(self.autostart(now));
                }
                ReignEffect::Committed => {
                    // Every replica reads the log, so this is for those whose reader is stuck. They can wait for the next tick, and
                    // those that are not need not look at it while somebody waits for them.
                    self.announced = None;
                    if let Some((waiting, change)) = self.writing.take() {
                        effects.extend(self.committed(waiting, change, now));
                    }
                    effects.extend(self.propose(now));
                }
                ReignEffect::End(reason) => effects.push(Effect::End(reason)),
            }
        }
        effects
    }

    fn autostart(&mut self, now: Instant) -> Vec<Effect> {
        let Some(flocks) = self.rules.autostart.clone() else {
            return Vec::new();
        };
        let command = Command::Autostart {
            flocks,
            stop_others: true,
        };
        self.wish_itself(command, now)
    }

    /// Takes a wish of the coordinator's own, which its configuration asks for.
    fn wish_itself(&mut self, command: Command, now: Instant) -> Vec<Effect> {
        let wish = Wish {
            command,
            by: "coordinator".to_owned(),
            source: Source::Autostart,
            request_id: None,
            wait: false,
            dry_run: false,
        };
        self.wish(wish, Asker::Nobody, now)
    }

    /// Deals out the users of flocks with `spread: across_replicas` anew, if the fleet has another size than they were dealt for: in one
    /// revision everybody gives them up, and in a second one, once everybody has, they are dealt out. So none runs twice.
    fn deal(&mut self, now: Instant) -> Vec<Effect> {
        let is_idle = self.reign.as_ref().is_some_and(Reign::is_free) && self.wishes.is_empty();
        if !self.is_leading() || self.is_draining || !is_idle {
            return Vec::new();
        }
        let replica_count = self.rules.reign.replica_count;
        let Some(known) = self.known() else { return Vec::new() };
        let flocks = known.state.flocks.iter();
        let waiting: Vec<_> = flocks
            .filter(|(_, flock)| flock.is_dealt_otherwise(replica_count))
            .collect();
        if waiting.is_empty() {
            self.taking = None;
            return Vec::new();
        }
        let is_taken = waiting.iter().all(|(_, flock)| flock.among == Some(0));
        if is_taken {
            let newest = waiting
                .iter()
                .map(|(_, flock)| flock.generation)
                .max()
                .unwrap_or_default();
            let taking = self.taking.filter(|(revision, _)| *revision == newest);
            let (_, since) = *self.taking.insert(taking.unwrap_or((newest, now)));
            let is_patient = now.saturating_duration_since(since) < SILENT_WAIT;
            if waiting
                .iter()
                .any(|(name, flock)| !self.is_given_up(name, flock, is_patient, now))
            {
                return Vec::new();
            }
        }
        let command = Command::Deal {
            replica_count,
            idle: is_taken,
        };
        self.wish_itself(command, now)
    }

    /// Returns whether no replica that reports runs a user of an older generation of a flock and, if we are patient, none that is silent, or
    /// was not heard of, either.
    fn is_given_up(&self, name: &FlockName, flock: &DesiredFlock, is_patient: bool, now: Instant) -> bool {
        if has(Bug::DealAtOnce) {
            return true;
        }
        let (heard, alive) = (self.replicas.heard(), self.replicas.alive(now));
        let has_heard_others = now.saturating_duration_since(self.began) > self.rules.report_interval * 3;
        let mut ran_it = (0..flock.was_among.unwrap_or(0)).map(|id| id.to_string());
        let is_unheard = |id: String| heard.keys().all(|heard| heard.as_str() != id);
        let mut waited_for = heard.iter().filter(|(id, _)| is_patient || alive.contains(*id));
        has_heard_others
            && !(is_patient && ran_it.any(is_unheard))
            && waited_for.all(|(_, replica)| has_given_up(&replica.report, name, flock.generation))
    }

    /// Takes wishes in turn until one must be written, or none is left.
    fn propose(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        while !self.is_draining
            && self.reign.as_ref().is_some_and(Reign::is_free)
            && let Some(waiting) = self.wishes.pop_front()
        {
            let wait = waiting.wish.wait;
            match self.decide(&waiting.wish, now) {
                Ok(Decision::Write(proposal)) => {
                    let change = proposal.change.clone();
                    let reign = self.reign.as_mut().expect("it is free, so it is there");
                    match reign.propose(*proposal, now) {
                        Ok(decided) => {
                            self.writing = Some((waiting, change));
                            effects.extend(self.carry_out(decided, now));
                        }
                        Err(size) => {
                            let error = ChangeError::TooLarge { size, limit: MAX_STATE };
                            effects.push(Effect::Settle {
                                asker: waiting.asker,
                                wait,
                                result: Err(error),
                            });
                        }
                    }
                }
                Ok(Decision::Done(outcome)) => {
                    effects.push(Effect::Settle {
                        asker: waiting.asker,
                        wait,
                        result: Ok(*outcome),
                    });
                }
                Ok(Decision::Repeated(revision, change)) => {
                    effects.extend(self.repeated(waiting, revision, change, now));
                }
                Err(error) => effects.push(Effect::Settle {
                    asker: waiting.asker,
                    wait,
                    result: Err(error),
                }),
            }
        }
        effects
    }

    fn decide(&self, wish: &Wish, now: Instant) -> Result<Decision, ChangeError> {
        let held = self.known().expect("a leader holds a state");
        if let Some(request_id) = &wish.request_id {
            let reign = self.reign.as_ref().expect("a leader has a session");
            let before = held.request_ids.iter().find(|(known, _)| known == request_id);
            if let Some((_, revision)) = before {
                let past = reign.view().history().iter().find(|past| past.revision == *revision);
                return Ok(match past {
                    Some(past) => Decision::Repeated(*revision, past.change.clone()),
                    None => Decision::Done(Box::new(self.outcome(*revision, None, &held.state, now))),
                });
            }
        }
        if let Command::Start(config) = &wish.command {
            let ids: Vec<InstanceId> = self.replicas.expected_ids().into_iter().collect();
            users::check_fleet_rules(config, self.rules.reign.replica_count, &ids)?;
        }
        let mut changed = held.state.apply(&wish.command, wall())?;
        if let Some(changed) = &mut changed
            && !matches!(wish.command, Command::Deal { .. })
        {
            let replica_count = self.rules.reign.replica_count;
            changed.state.deal_started(&held.state, replica_count);
        }
        match changed {
            None => Ok(Decision::Done(Box::new(self.outcome(
                held.standing.revision,
                None,
                &held.state,
                now,
            )))),
            Some(changed) if wish.dry_run => {
                let outcome = self.outcome(changed.state.revision, Some(changed.change), &changed.state, now);
                Ok(Decision::Done(Box::new(outcome)))
            }
            Some(changed) => Ok(Decision::Write(Box::new(Proposal {
                state: changed.state,
                change: changed.change,
                by: wish.by.clone(),
                source: wish.source,
                request_id: wish.request_id.clone(),
                at: wall(),
            }))),
        }
    }

    fn outcome(&self, revision: Revision, change: Option<Change>, desired: &DesiredState, now: Instant) -> Outcome {
        let known = self.known();
        let line = known.as_ref().map(|known| known.line.clone()).unwrap_or_default();
        let newest = known.map(|known| known.standing);
        let replicas = match &change {
            None => BTreeMap::new(),
            Some(change) => {
                let mut replicas = BTreeMap::new();
                for id in self.answerers(now) {
                    // One that this young session has yet to hear of may be running the old state.
                    let heard = self.replicas.heard().get(&id);
                    if heard.is_some_and(|heard| heard.report.phase == ReplicaPhase::Draining) {
                        // It stops everything, and will report no more.
                        continue;
                    }
                    let made = heard.map_or(ReplicaOutcome::Pending, |heard| {
                        outcome(&heard.report, revision, change, desired, &line)
                    });
                    replicas.insert(id, made);
                }
                replicas
            }
        };
        Outcome {
            revision,
            change,
            replicas,
            states: self.replicas.states(newest.as_ref(), now),
        }
    }

    fn committed(&mut self, waiting: Waiting, change: Change, now: Instant) -> Vec<Effect> {
        let held = self.known().expect("a change was committed, so there is a state");
        let revision = held.standing.revision;
        info!(
            revision = revision.0,
            control.kind = change_kind(&change),
            "revision {revision} accepted: {} by {}",
            change_kind(&change),
            waiting.wish.by
        );
        remark(&change, &held.state);
        let Waiting { wish, asker } = waiting;
        match asker {
            // The request is settled as soon as it is durable; whoever waits is told a second time.
            Asker::Request(delivery) => {
                let applied = applied_asker(&delivery);
                let outcome = self.outcome(revision, Some(change.clone()), &held.state, now);
                let asker = Asker::Request(delivery);
                let mut effects = vec![Effect::Settle {
                    asker,
                    wait: wish.wait,
                    result: Ok(outcome),
                }];
                if let Some(asker) = applied.filter(|_| wish.wait) {
                    effects.extend(self.wait(revision, Some(held.standing), change, asker, now));
                }
                effects
            }
            asker if wish.wait => self.wait(revision, Some(held.standing), change, asker, now),
            asker => {
                let outcome = self.outcome(revision, Some(change), &held.state, now);
                vec![Effect::Settle {
                    asker,
                    wait: false,
                    result: Ok(outcome),
                }]
            }
        }
    }

    /// The wish was carried out before. Whoever waits for it is told how far that is, and not that there is nothing to do.
    fn repeated(&mut self, waiting: Waiting, revision: Revision, change: Change, now: Instant) -> Vec<Effect> {
        let held = self.known().expect("a leader holds a state");
        let unchanged = self.outcome(revision, None, &held.state, now);
        let Waiting { wish, asker } = waiting;
        match asker {
            Asker::Request(delivery) => {
                let applied = applied_asker(&delivery).filter(|_| wish.wait);
                let mut effects = vec![Effect::Settle {
                    asker: Asker::Request(delivery),
                    wait: false,
                    result: Ok(unchanged),
                }];
                if let Some(asker) = applied {
                    effects.extend(self.wait(revision, None, change, asker, now));
                }
                effects
            }
            asker if wish.wait => self.wait(revision, None, change, asker, now),
            asker => vec![Effect::Settle {
                asker,
                wait: false,
                result: Ok(unchanged),
            }],
        }
    }

    fn wait(
        &mut self,
        revision: Revision,
        standing: Option<Standing>,
        change: Change,
        asker: Asker,
        now: Instant,
    ) -> Vec<Effect> {
        let patience = if self.applying.len() < MOST_WAITERS && !self.is_draining {
            self.rules.apply_timeout
        } else {
            Duration::ZERO
        };
        self.applying.push(Applying {
            revision,
            standing,
            change,
            deadline: now + patience,
            asker,
            blocked_by: None,
        });
        self.settle_applied(now)
    }

    fn settle_applied(&mut self, now: Instant) -> Vec<Effect> {
        if self.applying.is_empty() {
            return Vec::new();
        }
        let Some(known) = self.known() else { return Vec::new() };
        let mut effects = Vec::new();
        for mut applying in std::mem::take(&mut self.applying) {
            let mut outcome = self.outcome(applying.revision, Some(applying.change.clone()), &known.state, now);
            let made = applying.standing.as_ref();
            if made.is_some_and(|made| known.line.holds(made) == Some(false)) {
                // The log has lost it. Whoever knows it tells the leader; until then nobody has applied it.
                outcome
                    .replicas
                    .values_mut()
                    .for_each(|made| *made = ReplicaOutcome::Pending);
            }
            if outcome.is_settled() || applying.deadline <= now {
                effects.push(Effect::Settle {
                    asker: applying.asker,
                    wait: false,
                    result: Ok(outcome),
                });
            } else {
                let mut made = outcome.replicas.into_iter();
                let blocked_by = made.find(|(_, made)| *made == ReplicaOutcome::Pending);
                applying.blocked_by = blocked_by.map(|(id, _)| id);
                self.applying.push(applying);
            }
        }
        effects
    }

    fn announce(&mut self, now: Instant) -> Vec<Effect> {
        let due = self
            .announced
            .is_none_or(|last| now.saturating_duration_since(last) >= self.rules.announce_interval);
        let Some(reign) = self.reign.as_ref().filter(|reign| reign.is_leading() && due) else {
            return Vec::new();
        };
        let Some(held) = reign.view().held() else {
            return Vec::new();
        };
        self.announced = Some(now);
        vec![Effect::Announce(Announcement {
            schema: SCHEMA,
            owner: reign.owner().clone(),
            standing: held.standing.clone(),
            offset: held.offset,
            at: wall(),
        })]
    }

    fn present(&mut self, now: Instant) -> Vec<Effect> {
        let due = self
            .presented
            .is_none_or(|last| now.saturating_duration_since(last) >= self.rules.report_interval);
        if self.reign.is_none() || !due {
            return Vec::new();
        }
        self.presented = Some(now);
        vec![Effect::Present(CoordinatorReport {
            schema: SCHEMA,
            session: self.rules.session.clone(),
            active: self.is_leading(),
            version: self.rules.version.clone(),
            standing: self.known().map(|known| known.standing),
            at: wall(),
        })]
    }
}

/// The sender of a request as somebody who wants to hear again, if that was asked for.
fn applied_asker(delivery: &RequestDelivery) -> Option<Asker> {
    let reply_to = delivery.message.reply_to.clone()?;
    let correlation_id = delivery.message.correlation_id.clone();
    Some(Asker::Applied {
        reply_to,
        correlation_id,
    })
}

enum Decision {
    /// A request that was carried out before, as this revision.
    Repeated(Revision, Change),
    Write(Box<Proposal>),
    Done(Box<Outcome>),
}

/// Returns whether a replica has stopped what it ran of an older generation of a flock.
fn has_given_up(report: &Report, flock: &FlockName, generation: Revision) -> bool {
    match report.flocks.get(flock) {
        Some(runs) => runs.generation >= generation && matches!(runs.phase, FlockPhase::Running | FlockPhase::Ended),
        // It has yet to learn of the flock, or it ends and has stopped everything.
        None => true,
    }
}

fn change_kind(change: &Change) -> &'static str {
    match change {
        Change::Start { .. } => "start",
        Change::Stop { .. } => "stop",
        Change::Refresh { .. } => "refresh",
        Change::Autostart { .. } => "autostart",
        Change::Begin => "begin",
        Change::Takeover => "takeover",
        Change::Recover => "recover",
    }
}

/// Says of the flocks that start which of their options do what nobody means: once for the whole fleet.
fn remark(change: &Change, state: &DesiredState) {
    let started = match change {
        Change::Start { flock } => std::slice::from_ref(flock),
        Change::Autostart { started, .. } => started.as_slice(),
        _ => &[],
    };
    for name in started {
        let business = state.flocks.get(name).map(|flock| &flock.config.business);
        for oddity in business.map(BusinessConfig::oddities).unwrap_or_default() {
            warn!(flock.name = %name, "flock `{name}`: {oddity}");
        }
    }
}
