//! How a coordinator comes to lead, stays the only one whose entries count, and notices that it does not any more.
//!
//! Pure: events in, effects out. The rules are those of `amqp.md` b.4; the one thing that makes them safe is
//! [`View::fold`]. Nothing here trusts a lock, a clock or a confirmation.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mobu_fleet::domain::desired::{Change, DesiredState};
use mobu_fleet::domain::fold::{Known, Verdict, View};
use mobu_fleet::domain::ids::{Epoch, InstanceId, Owner, RequestId, Revision, SessionId};
use mobu_fleet::domain::line::Line;
use mobu_fleet::domain::messages::{EntryKind, LogEntry, REQUEST_IDS_KEPT, ReadEntry, SCHEMA, Source, Standing, Wire};
use mobu_fleet::link::{MAX_PAYLOAD, MAX_STATE};
use mobu_fleet::runtime::clock::Instant;
use mobu_fleet::simulation::{Bug, has};
use tracing::warn;

/// The times that a reign keeps to.
#[derive(Debug, Clone)]
pub struct ReignRules {
    /// How many replicas should answer before the log is believed.
    pub replica_count: u32,
    /// How long the log must be silent before a reader takes it for read to the end. Not a matter of safety: the claim is
    /// read back behind everything else.
    pub quiet: Duration,
    /// How long to wait between two tries to take the lock.
    pub lock_interval: Duration,
    /// How long nothing must be heard of a leader until somebody claims although the lock is held. Up to a third is added, so that
    /// several do not claim at once.
    pub silence: Duration,
    /// How long an appended entry may take to come back.
    pub operation_timeout: Duration,
    /// How long to wait for replicas and standbys that do not answer, if the log holds a state.
    pub ask_timeout: Duration,
    /// The same if nobody knows any state: after it a fleet begins.
    pub genesis_timeout: Duration,
    /// How often a leader writes the state again, so that the log's retention never drops the last one.
    pub rewrite_interval: Duration,
}

impl Default for ReignRules {
    fn default() -> Self {
        Self {
            replica_count: 1,
            quiet: Duration::from_millis(200),
            lock_interval: Duration::from_millis(250),
            silence: Duration::from_secs(6),
            operation_timeout: Duration::from_secs(5),
            ask_timeout: Duration::from_secs(2),
            genesis_timeout: Duration::from_secs(10),
            rewrite_interval: Duration::from_secs(300),
        }
    }
}

/// How often the question what others know is repeated while answers are missing.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How often a leader asks for a lock that it has not.
const LOCK_AGAIN: Duration = Duration::from_secs(5);

/// What a coordinator remembers from one session to the next.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The highest epoch that it has seen anywhere.
    pub floor: Epoch,
    /// The newest state that it has seen to count.
    pub known: Option<Known>,
}

/// What happens to a reign.
#[derive(Debug)]
pub enum ReignEvent {
    /// The log has a further entry.
    Record {
        /// Where.
        offset: u64,
        /// Which, as far as it can be read.
        entry: Box<ReadEntry>,
    },
    /// Somebody has said what they know, in words of a newer version.
    ToldUnreadable,
    /// The lock was asked for.
    Lock {
        /// Whether this session holds it.
        held: bool,
    },
    /// The broker has confirmed the last entry.
    Confirmed,
    /// Somebody has said what they know.
    Told {
        /// The replica that said it; `None` for a coordinator.
        replica: Option<InstanceId>,
        /// Its process.
        session: SessionId,
        /// Where it stands.
        standing: Option<Standing>,
        /// What it knows, if it may be more than we do.
        known: Option<Known>,
    },
    /// A report shows where a replica or coordinator stands.
    Heard {
        /// Where.
        standing: Standing,
    },
    /// Somebody says that they lead.
    HeardLeader,
    /// What this coordinator said itself has come back: messages arrive, so silence means something.
    HeardSelf,
    /// Time has passed.
    Tick,
}

/// What must be done now.
#[derive(Debug)]
pub enum ReignEffect {
    /// Ask for the lock.
    TryLock,
    /// Append this to the log.
    Append(Box<LogEntry>),
    /// Ask everybody what they know beyond this.
    Ask(Option<Known>),
    /// This coordinator leads now.
    Led,
    /// The proposed change counts.
    Committed,
    /// End the session; this is why.
    End(String),
}

/// Where a reign stands.
#[derive(Debug)]
enum Phase {
    /// Reads along; a standby for as long as somebody else has the lock.
    Reading { asked: Option<Instant>, waiting: bool },
    /// Has appended a claim and waits for it to come back.
    Claiming { deadline: Instant },
    /// Asks what others know before it believes the log.
    Asking {
        asked: Instant,
        until: Instant,
        replicas: BTreeSet<InstanceId>,
        others: BTreeSet<SessionId>,
        told: Vec<Known>,
    },
    /// Has appended something under its own epoch and waits for it to come back.
    Writing {
        seq: u64,
        deadline: Instant,
        confirmed: bool,
        echoed: bool,
        first: bool,
    },
    /// May accept a change.
    Leading { written: Instant },
}

/// A change that is ready to be appended.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The state under its new revision.
    pub state: DesiredState,
    /// What is different.
    pub change: Change,
    /// Who asked.
    pub by: String,
    /// How.
    pub source: Source,
    /// Names the request over redeliveries.
    pub request_id: Option<RequestId>,
    /// When it was accepted; for display.
    pub at: Timestamp,
}

/// One session of a coordinator with the log.
#[derive(Debug)]
pub struct Reign {
    rules: ReignRules,
    owner: Owner,
    memory: Memory,
    /// Other coordinators that were heard of lately: they are asked too.
    others: BTreeSet<SessionId>,
    view: View,
    last_record: Instant,
    /// Whether this session was given the lock.
    has_lock: bool,
    /// When it asked for the lock while it led without.
    asked_as_leader: Option<Instant>,
    /// Until when somebody may lead although nothing is heard of them.
    silent_until: Instant,
    /// When this coordinator last heard itself.
    heard_self: Option<Instant>,
    epoch: Epoch,
    seq: u64,
    phase: Phase,
}

impl Reign {
    /// Begins to read the log from its first entry. `owner` must be new for every session.
    pub fn new(rules: ReignRules, owner: Owner, memory: Memory, now: Instant) -> Self {
        let mut reign = Self {
            rules,
            owner,
            memory,
            others: BTreeSet::new(),
            view: View::default(),
            last_record: now,
            has_lock: false,
            asked_as_leader: None,
            silent_until: now,
            heard_self: None,
            epoch: Epoch(0),
            seq: 0,
            phase: Phase::Reading {
                asked: None,
                waiting: false,
            },
        };
        reign.somebody_may_lead(Duration::ZERO, now);
        reign
    }

    /// Whether changes are accepted in this session: it leads, perhaps with a change under way.
    pub fn is_leading(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. } | Phase::Writing { first: false, .. })
    }

    /// Whether a change can be proposed right now.
    pub fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// One word for health and people.
    pub fn stage(&self) -> &'static str {
        match self.phase {
            Phase::Reading { waiting: true, .. } => "standby",
            Phase::Reading { .. } => "reading",
            Phase::Claiming { .. } => "claiming",
            Phase::Asking { .. } => "asking",
            Phase::Writing { first: true, .. } => "writing",
            Phase::Writing { .. } | Phase::Leading { .. } => "leading",
        }
    }

    /// What the log says.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Who this session is in the log.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The newest state that this coordinator knows, from the log or from before.
    pub fn known(&self) -> Option<Known> {
        let held = self.held();
        match &self.memory.known {
            Some(remembered) if is_more(&remembered.standing, held) => Some(remembered.clone()),
            _ => held.cloned(),
        }
    }

    /// What the log itself says.
    fn held(&self) -> Option<&Known> {
        self.view.held().map(|held| &held.known)
    }

    /// Returns what the next session must remember of this one.
    pub fn into_memory(self) -> Memory {
        let floor = self.memory.floor.max(self.view.epoch());
        Memory {
            floor,
            known: self.known(),
        }
    }

    /// Names the other coordinators that were heard of lately.
    pub fn set_others(&mut self, others: BTreeSet<SessionId>) {
        self.others = others;
    }

    /// Appends a change. Call it only while [`Self::is_free`].
    ///
    /// # Errors
    ///
    /// The size in bytes, if the entry would exceed [`MAX_STATE`] and the state is not smaller than the present one, which a
    /// recovery may have made larger; nothing was changed then.
    pub fn propose(&mut self, proposal: Proposal, now: Instant) -> Result<Vec<ReignEffect>, usize> {
        debug_assert!(self.is_free(), "one change at a time");
        let (line, request_ids) = self.past();
        let entry = self.state_entry(proposal, line, request_ids);
        let size = entry.encode().len();
        let present = || self.view.held().map_or(0, |held| state_size(&held.state));
        let is_smaller = || entry.state.as_ref().is_some_and(|state| state_size(state) < present());
        if size > MAX_STATE && (size > MAX_PAYLOAD || !is_smaller()) {
            return Err(size);
        }
        Ok(vec![self.write(entry, false, now)])
    }

    /// Takes one event; returns what must now be done, in order.
    pub fn handle(&mut self, event: ReignEvent, now: Instant) -> Vec<ReignEffect> {
        match event {
            ReignEvent::Record { offset, entry } => self.record(offset, *entry, now),
            ReignEvent::ToldUnreadable => self.told_unreadable(),
            ReignEvent::Lock { held } => self.lock(held, now),
            ReignEvent::Confirmed => self.confirmed(now),
            ReignEvent::Told {
                replica,
                session,
                standing,
                known,
            } => self.told(replica, &session, standing.as_ref(), known, now),
            ReignEvent::Heard { standing } => self.heard(&standing),
            ReignEvent::HeardLeader => {
                self.somebody_may_lead(Duration::ZERO, now);
                Vec::new()
            }
            ReignEvent::HeardSelf => {
                self.heard_self = Some(now);
                Vec::new()
            }
            ReignEvent::Tick => self.tick(now),
        }
    }

    fn record(&mut self, offset: u64, entry: ReadEntry, now: Instant) -> Vec<ReignEffect> {
        self.last_record = now;
        let (ours, seq, kind) = match &entry {
            ReadEntry::Whole(entry) => (entry.owner == self.owner, entry.seq, Some(entry.kind)),
            ReadEntry::Unreadable { .. } => (false, 0, None),
        };
        // Whoever has claimed announces nothing before they have asked everybody.
        let until_it_leads = match kind {
            Some(EntryKind::Claim) => self.rules.genesis_timeout + self.rules.operation_timeout,
            _ => Duration::ZERO,
        };
        self.somebody_may_lead(until_it_leads, now);
        if let (Phase::Claiming { deadline }, false) = (&mut self.phase, ours) {
            // A slow reader took a pause of the log for its end. One's own claim comes behind all this.
            *deadline = now + self.rules.operation_timeout;
        }
        let verdict = self.view.fold_read(offset, entry);
        match (&mut self.phase, verdict, ours) {
            (Phase::Claiming { .. }, Verdict::Ignored, true) => {
                // Somebody else claimed first. Read on, and try again once it is quiet.
                self.phase = Phase::Reading {
                    asked: None,
                    waiting: false,
                };
                Vec::new()
            }
            (Phase::Claiming { .. }, _, true) if kind == Some(EntryKind::Claim) => self.ask_first(now),
            (
                Phase::Writing {
                    seq: written, echoed, ..
                },
                Verdict::State,
                true,
            ) if *written == seq => {
                *echoed = true;
                self.written(now)
            }
            (Phase::Asking { .. } | Phase::Writing { .. } | Phase::Leading { .. }, Verdict::Ignored, true)
            | (
                Phase::Asking { .. } | Phase::Writing { .. } | Phase::Leading { .. },
                Verdict::Claimed | Verdict::State,
                false,
            ) => {
                vec![ReignEffect::End(format!(
                    "another coordinator has taken over in epoch {}",
                    self.view.epoch()
                ))]
            }
            _ => Vec::new(),
        }
    }

    fn lock(&mut self, held: bool, now: Instant) -> Vec<ReignEffect> {
        self.has_lock = held;
        let Phase::Reading { waiting, .. } = &mut self.phase else {
            return Vec::new();
        };
        *waiting = !held;
        if held { self.take_over(now) } else { Vec::new() }
    }

    fn take_over(&mut self, now: Instant) -> Vec<ReignEffect> {
        if let Some(revision) = self.view.unreadable() {
            // To lead from an older state would take back what a newer version accepted.
            return vec![ReignEffect::End(format!(
                "revision {revision} was written by a newer version than this one, which cannot lead from it"
            ))];
        }
        vec![self.claim(now)]
    }

    /// Begins to wait for a word of a leader, `longer` than usual.
    fn somebody_may_lead(&mut self, longer: Duration, now: Instant) {
        // A name is random, so it serves to spread those who wait.
        let name = self.owner.as_str().bytes();
        let spread = u32::from(name.fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)));
        let silence = self.rules.silence + self.rules.silence * spread / (3 * 256);
        self.silent_until = self.silent_until.max(now + silence + longer);
    }

    /// Whether the lock is held by somebody who does not lead: on a cluster, the broker may keep a lock whose session is long dead.
    fn is_deserted(&self) -> bool {
        self.heard_self.is_some_and(|heard| heard >= self.silent_until)
    }

    fn claim(&mut self, now: Instant) -> ReignEffect {
        self.epoch = self.view.epoch().max(self.memory.floor).next();
        self.phase = Phase::Claiming {
            deadline: now + self.rules.operation_timeout,
        };
        let entry = LogEntry {
            schema: SCHEMA,
            epoch: self.epoch,
            owner: self.owner.clone(),
            seq: self.take_seq(),
            kind: EntryKind::Claim,
            revision: self.view.held().map_or(Revision(0), |held| held.standing.revision),
            state: None,
            digest: None,
            change: None,
            request_ids: VecDeque::new(),
            line: None,
            by: "coordinator".to_owned(),
            source: Source::Takeover,
            at: mobu_fleet::runtime::clock::wall(),
        };
        ReignEffect::Append(Box::new(entry))
    }

    fn ask_first(&mut self, now: Instant) -> Vec<ReignEffect> {
        let patience = if self.known().is_some() {
            self.rules.ask_timeout
        } else {
            self.rules.genesis_timeout
        };
        self.phase = Phase::Asking {
            asked: now,
            until: now + patience,
            replicas: BTreeSet::new(),
            others: self.others.clone(),
            told: Vec::new(),
        };
        vec![ReignEffect::Ask(self.held().cloned())]
    }

    fn told(
        &mut self,
        replica: Option<InstanceId>,
        session: &SessionId,
        standing: Option<&Standing>,
        known: Option<Known>,
        now: Instant,
    ) -> Vec<ReignEffect> {
        if let Some(standing) = standing {
            self.memory.floor = self.memory.floor.max(standing.epoch);
        }
        let Phase::Asking {
            replicas,
            others,
            told,
            until,
            ..
        } = &mut self.phase
        else {
            return Vec::new();
        };
        if let Some(known) = known {
            told.push(known);
            // Somebody knows something: the fleet does not begin, so there is no need to wait that long.
            *until = (*until).min(now + self.rules.ask_timeout);
        }
        match replica {
            Some(replica) => drop(replicas.insert(replica)),
            None => drop(others.remove(session)),
        }
        let everybody = replicas.len() >= self.rules.replica_count as usize && others.is_empty();
        if everybody { self.believe(now) } else { Vec::new() }
    }

    fn told_unreadable(&mut self) -> Vec<ReignEffect> {
        let Phase::Asking { .. } = self.phase else {
            return Vec::new();
        };
        vec![ReignEffect::End(
            "somebody knows a state of a newer version than this one, which cannot lead without it".to_owned(),
        )]
    }

    /// Everybody who could be asked has answered, or had the time to.
    fn believe(&mut self, now: Instant) -> Vec<ReignEffect> {
        let Phase::Asking { told, .. } = &mut self.phase else {
            return Vec::new();
        };
        let mut told = std::mem::take(told);
        if has(Bug::BelieveEmptyLog) {
            told.clear();
            self.memory.known = None;
        }
        if self.memory.floor >= self.epoch {
            // Somebody has seen a higher epoch than the log has: it was lost and begun anew. Claim above it, ask again.
            return vec![self.claim(now)];
        }
        let held = self.held();
        let (change, knowledge) = match (held, self.brought_together(&told)) {
            (_, None) => (Change::Begin, None),
            (Some(held), Some(all)) if held.standing == all.standing => (Change::Takeover, Some(all)),
            (_, Some(all)) => (Change::Recover, Some(all)),
        };
        if has(Bug::LeadWithoutRewriting) && self.view.held().is_some() {
            self.phase = Phase::Leading { written: now };
            return vec![ReignEffect::Led];
        }
        let proposal = Proposal {
            state: knowledge
                .as_ref()
                .map(|known| (*known.state).clone())
                .unwrap_or_default(),
            change,
            by: "coordinator".to_owned(),
            source: Source::Takeover,
            request_id: None,
            at: mobu_fleet::runtime::clock::wall(),
        };
        let (line, request_ids) = knowledge.map_or_else(Default::default, past);
        let entry = self.state_entry(proposal, line, request_ids);
        let size = entry.encode().len();
        if size > MAX_PAYLOAD {
            // Whatever was left out would be forgotten by the replicas that know it. They run on as they are.
            return vec![ReignEffect::End(format!(
                "what replicas and coordinators know would together take {size} bytes, more than the {MAX_PAYLOAD} that the log \
                 takes; nobody can lead until one that knows another part of it was ended"
            ))];
        }
        vec![self.write(entry, true, now)]
    }

    /// Brings together what the log, this coordinator and others know; `None` if nobody knows anything.
    fn brought_together(&self, told: &[Known]) -> Option<Known> {
        let held = self.held();
        let mut others: Vec<&Known> = self.memory.known.iter().chain(told).collect();
        // What descends from all that is known so far is taken as it is: only two lines must be merged.
        others.sort_by_key(|other| std::cmp::Reverse((other.standing.revision, other.standing.epoch)));
        let mut all = held.cloned();
        for other in others {
            let is_in = all
                .as_ref()
                .is_some_and(|all| all.line.holds(&other.standing) == Some(true));
            if is_in || !is_more(&other.standing, held) {
                continue;
            }
            let Some(ours) = all
                .as_ref()
                .filter(|ours| other.line.holds(&ours.standing) != Some(true))
            else {
                all = Some(other.clone());
                continue;
            };
            let merged = ours.state.merge(&other.state);
            let mut line = (*ours.line).clone();
            line.join(&other.line);
            let mut request_ids = (*ours.request_ids).clone();
            let is_new = |(id, _): &&(RequestId, Revision)| ours.request_ids.iter().all(|(known, _)| known != id);
            request_ids.extend(other.request_ids.iter().filter(is_new).cloned());
            // The newest are kept.
            request_ids.make_contiguous().sort_by_key(|(_, revision)| *revision);
            let standing = Standing {
                epoch: self.epoch,
                revision: merged.revision,
                digest: merged.digest(),
                owner: Some(self.owner.clone()),
            };
            all = Some(Known {
                standing,
                state: Arc::new(merged),
                line: Arc::new(line),
                request_ids: Arc::new(request_ids),
            });
        }
        all
    }

    fn heard(&mut self, standing: &Standing) -> Vec<ReignEffect> {
        self.memory.floor = self.memory.floor.max(standing.epoch);
        let Phase::Leading { .. } = self.phase else {
            return Vec::new();
        };
        if is_more(standing, self.held()) {
            return vec![ReignEffect::End(format!(
                "the log has lost entries, or another coordinator leads: somebody knows revision {} of epoch {}",
                standing.revision, standing.epoch
            ))];
        }
        Vec::new()
    }

    fn confirmed(&mut self, now: Instant) -> Vec<ReignEffect> {
        if let Phase::Writing {
            confirmed,
            echoed,
            first,
            ..
        } = &mut self.phase
        {
            *confirmed = true;
            *echoed |= has(Bug::AnswerOnConfirm) && !*first;
        }
        self.written(now)
    }

    /// Both the confirmation and one's own entry are needed: the first says stored, the second says that it counts.
    fn written(&mut self, now: Instant) -> Vec<ReignEffect> {
        let Phase::Writing {
            confirmed: true,
            echoed: true,
            first,
            ..
        } = self.phase
        else {
            return Vec::new();
        };
        self.phase = Phase::Leading { written: now };
        self.memory.known = self.held().cloned();
        vec![if first {
            ReignEffect::Led
        } else {
            ReignEffect::Committed
        }]
    }

    fn tick(&mut self, now: Instant) -> Vec<ReignEffect> {
        let is_deserted = self.is_deserted();
        match &mut self.phase {
            Phase::Reading { waiting: true, .. } if is_deserted => {
                // The fold decides, not the lock: a leader that lives after all sees the claim and steps down.
                warn!("somebody holds the lock and nobody leads: this coordinator takes over without the lock");
                self.take_over(now)
            }
            Phase::Reading { asked, .. } => {
                let quiet = now.saturating_duration_since(self.last_record) >= self.rules.quiet;
                let due = asked.is_none_or(|asked| now.saturating_duration_since(asked) >= self.rules.lock_interval);
                if quiet && due {
                    *asked = Some(now);
                    return vec![ReignEffect::TryLock];
                }
                Vec::new()
            }
            Phase::Claiming { deadline } | Phase::Writing { deadline, .. } if *deadline <= now => {
                vec![ReignEffect::End(
                    "an entry did not come back from the log in time".to_owned(),
                )]
            }
            Phase::Asking { until, .. } if *until <= now => self.believe(now),
            Phase::Asking { asked, .. } if now.saturating_duration_since(*asked) >= ASK_AGAIN => {
                *asked = now;
                vec![ReignEffect::Ask(self.held().cloned())]
            }
            Phase::Leading { written } if now.saturating_duration_since(*written) >= self.rules.rewrite_interval => {
                self.rewrite(now)
            }
            Phase::Leading { .. }
                if !self.has_lock
                    && self
                        .asked_as_leader
                        .is_none_or(|asked| now.saturating_duration_since(asked) >= LOCK_AGAIN) =>
            {
                // Whoever else got it would take over at once.
                self.asked_as_leader = Some(now);
                vec![ReignEffect::TryLock]
            }
            Phase::Claiming { .. } | Phase::Writing { .. } | Phase::Asking { .. } | Phase::Leading { .. } => Vec::new(),
        }
    }

    fn rewrite(&mut self, now: Instant) -> Vec<ReignEffect> {
        let Some(held) = self.view.held() else {
            return Vec::new();
        };
        let proposal = Proposal {
            state: (*held.state).clone(),
            change: Change::Takeover,
            by: "coordinator".to_owned(),
            source: Source::Takeover,
            request_id: None,
            at: mobu_fleet::runtime::clock::wall(),
        };
        let (line, request_ids) = self.past();
        let entry = self.state_entry(proposal, line, request_ids);
        vec![self.write(entry, false, now)]
    }

    fn write(&mut self, entry: LogEntry, first: bool, now: Instant) -> ReignEffect {
        let deadline = now + self.rules.operation_timeout;
        self.phase = Phase::Writing {
            seq: entry.seq,
            deadline,
            confirmed: false,
            echoed: false,
            first,
        };
        ReignEffect::Append(Box::new(entry))
    }

    /// What an entry carries on of the one before.
    fn past(&self) -> (Line, VecDeque<(RequestId, Revision)>) {
        self.held().cloned().map_or_else(Default::default, past)
    }

    fn state_entry(
        &mut self,
        proposal: Proposal,
        mut line: Line,
        mut request_ids: VecDeque<(RequestId, Revision)>,
    ) -> LogEntry {
        if has(Bug::ForgetRequestIds) {
            request_ids.clear();
        }
        if let Some(request_id) = proposal.request_id {
            request_ids.push_back((request_id, proposal.state.revision));
        }
        while request_ids.len() > REQUEST_IDS_KEPT {
            request_ids.pop_front();
        }
        let standing = Standing {
            epoch: self.epoch,
            revision: proposal.state.revision,
            digest: proposal.state.digest(),
            owner: Some(self.owner.clone()),
        };
        line.add(&standing);
        LogEntry {
            schema: SCHEMA,
            epoch: self.epoch,
            owner: self.owner.clone(),
            seq: self.take_seq(),
            kind: EntryKind::State,
            revision: proposal.state.revision,
            digest: Some(standing.digest),
            state: Some(proposal.state),
            change: Some(proposal.change),
            request_ids,
            line: Some(line),
            by: proposal.by,
            source: proposal.source,
            at: proposal.at,
        }
    }

    fn take_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq - 1
    }
}

/// Returns whether whoever stands there knows more than one does who holds that.
fn is_more(standing: &Standing, held: Option<&Known>) -> bool {
    standing.knows_more_than(held.map(|held| &held.standing), held.map(|held| &*held.line))
}

fn state_size(state: &DesiredState) -> usize {
    serde_json::to_vec(state).map_or(0, |json| json.len())
}

fn past(known: Known) -> (Line, VecDeque<(RequestId, Revision)>) {
    (
        Arc::unwrap_or_clone(known.line),
        Arc::unwrap_or_clone(known.request_ids),
    )
}

#[cfg(test)]
#[path = "reign_tests.rs"]
mod tests;
