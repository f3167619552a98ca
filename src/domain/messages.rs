//! All that crosses the wire between coordinators, replicas and clients, as types with a `schema`.
//!
//! Readers ignore fields that they do not know and refuse kinds that they do not know by name, so that
//! versions can be mixed while a fleet is upgraded.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::desired::{Change, DesiredState};
use super::events::Event;
use super::flock::FlockConfig;
use super::fold::Known;
use super::ids::{Epoch, FlockName, InstanceId, MonkeyName, Owner, RequestId, Revision, SessionId};
use super::line::Line;
use super::monkey::{MonkeyData, MonkeyState};

/// Version of everything in this module. A change that an older reader would get wrong raises it.
pub const SCHEMA: u16 = 1;

/// How many request IDs an entry carries.
pub const REQUEST_IDS_KEPT: usize = 256;

/// Longest reason that is given for not reading a message, in characters.
const REASON: usize = 300;

/// A type that travels, and the AMQP `type` that names it.
pub trait Wire: Serialize + DeserializeOwned {
    /// For example `fleet.report.v1`.
    const KIND: &'static str;

    /// Returns the version of its form that it was written in: at most [`SCHEMA`] in what [`Wire::decode`] returns.
    fn schema(&self) -> u16;

    /// Returns the JSON form.
    ///
    /// # Panics
    ///
    /// Never: no such type has keys other than texts.
    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("what travels serializes")
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    ///
    /// [`WireError`] if it is another kind, another schema, or not what the kind asks for.
    fn decode(kind: &str, payload: &[u8]) -> Result<Self, WireError> {
        if !kind.is_empty() && kind != Self::KIND {
            return Err(WireError::Kind {
                theirs: kind.chars().take(80).collect(),
                ours: Self::KIND,
            });
        }
        let read: Result<Self, _> = serde_json::from_slice(payload);
        let schema = match &read {
            Ok(message) => message.schema(),
            Err(_) => serde_json::from_slice(payload).map_or(SCHEMA, |SchemaOnly { schema }| schema),
        };
        // First, because a newer schema may well parse, and mean something else.
        if schema > SCHEMA {
            return Err(WireError::Schema { theirs: schema });
        }
        read.map_err(|error| {
            // Of what is not even JSON that alone is said: no rule tells where in it secrets may be.
            let broken = serde_json::from_slice::<IgnoredAny>(payload).err();
            WireError::malformed(Self::KIND, broken.as_ref().unwrap_or(&error))
        })
    }
}

impl WireError {
    /// Says what is wrong, without the texts of the message, which may be secrets and as long as the message.
    pub(super) fn malformed(kind: &'static str, error: &serde_json::Error) -> Self {
        let mut reason = error.to_string();
        for (begins, ends) in [
            ("invalid type: string \"", "\", expected"),
            ("invalid value: string \"", "\", expected"),
            ("unknown variant `", "`, expected"),
            ("unparsed input \"", "\" remains"),
        ] {
            if let (Some(at), Some(end)) = (reason.find(begins), reason.rfind(ends)) {
                let begin = at + begins.len();
                reason.replace_range(begin..end.max(begin), "…");
            }
        }
        if let Some((end, _)) = reason.char_indices().nth(REASON) {
            reason.replace_range(end.., "…");
        }
        Self::Malformed { kind, reason }
    }
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u16,
}

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It is of another kind, perhaps of a newer version.
    #[error("a message of type `{theirs}` came where `{ours}` is expected")]
    Kind {
        /// Its `type`, cut to 80 characters.
        theirs: String,
        /// The one that belongs here.
        ours: &'static str,
    },
    /// It is of a schema that we do not know.
    #[error("cannot read schema {theirs} (ours is {SCHEMA})")]
    Schema {
        /// Its schema.
        theirs: u16,
    },
    /// It is not JSON, or not of the kind's form.
    #[error("not a `{kind}`: {reason}")]
    Malformed {
        /// The kind that was expected.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

macro_rules! wire {
    ($type:ty, $kind:literal) => {
        impl Wire for $type {
            const KIND: &'static str = $kind;

            fn schema(&self) -> u16 {
                self.schema
            }
        }
    };
}

wire!(LogEntry, "fleet.state.v1");
wire!(Announcement, "fleet.announcement.v1");
wire!(Query, "fleet.query.v1");
wire!(Answer, "fleet.answer.v1");
wire!(Report, "fleet.report.v1");
wire!(CoordinatorReport, "fleet.coordinator.v1");
wire!(RequestAnswer, "fleet.request-answer.v1");
wire!(Event, "fleet.event.v1");

/// AMQP `type` of a request; a request without a `type` is taken for one too.
pub const REQUEST_KIND: &str = "fleet.request.v1";

/// How far somebody's knowledge of the desired state goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Standing {
    /// Epoch of the entry that the state was read from.
    pub epoch: Epoch,
    /// Revision of the state.
    pub revision: Revision,
    /// Digest of the state: two standings of one revision and two digests mean that the log lost entries.
    pub digest: String,
    /// Coordinator session that wrote the entry; absent if a version says so that does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

impl Standing {
    /// Returns whether the one who stands here knows something that one at `other` may not know: a higher revision, a
    /// higher epoch, another state of the same revision, or one that the other's `line` does not hold. Among readers of an
    /// intact log that happens only to the slower one.
    pub fn knows_more_than(&self, other: Option<&Self>, line: Option<&Line>) -> bool {
        other.is_none_or(|other| {
            self.revision > other.revision
                || self.epoch > other.epoch
                || (self.revision == other.revision && self.digest != other.digest)
                || line.is_some_and(|line| line.holds(self) == Some(false))
        })
    }
}

/// What an entry of the state log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A coordinator claims the log; carries no state.
    Claim,
    /// The whole desired state.
    State,
}

/// How a change came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// An HTTP call.
    Http,
    /// A request over AMQP.
    Amqp,
    /// A push to GitHub.
    Github,
    /// The coordinator's configuration.
    Autostart,
    /// A coordinator that began to lead.
    Takeover,
}

/// One entry of the state log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogEntry {
    /// Version of the form: [`SCHEMA`], now 1.
    pub schema: u16,
    /// Reign that it belongs to.
    pub epoch: Epoch,
    /// Coordinator session that appended it.
    pub owner: Owner,
    /// Number of this entry within the owner's reign, from 0.
    pub seq: u64,
    /// Claim or state.
    pub kind: EntryKind,
    /// Revision of the state; in a claim, of the last state its author knew.
    pub revision: Revision,
    /// The whole desired state; absent in a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DesiredState>,
    /// Digest of the state as its author computed it: a reader of another version, which drops fields that it does not
    /// know, must not come to another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What is different from the revision before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// The last requests and the revision that each led to, oldest first: at most [`REQUEST_IDS_KEPT`].
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub request_ids: VecDeque<(RequestId, Revision)>,
    /// The states that this one descends from; absent in a claim, and from versions that do not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Line>,
    /// Who asked for the change.
    pub by: String,
    /// How they asked.
    pub source: Source,
    /// When it was accepted; for display alone.
    pub at: Timestamp,
}

/// What every version can read of an entry: enough to know whether it counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EntryHeader {
    /// Reign that it belongs to.
    pub epoch: Epoch,
    /// Coordinator session that appended it.
    pub owner: Owner,
    /// Claim or state; anything else is taken for a state that cannot be read.
    #[serde(default)]
    pub kind: Option<serde_json::Value>,
    /// Revision of the state.
    #[serde(default)]
    pub revision: Revision,
}

/// An entry as far as this version can read it.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadEntry {
    /// All of it.
    Whole(LogEntry),
    /// Its header alone: it is a newer version's. It still counts as the header says, or readers would disagree.
    Unreadable {
        /// What could be read.
        header: EntryHeader,
        /// Why the rest could not.
        reason: String,
    },
}

impl LogEntry {
    /// Reads an entry as far as possible.
    ///
    /// # Errors
    ///
    /// [`WireError`] if it is no entry of any version.
    pub fn read(payload: &[u8]) -> Result<ReadEntry, WireError> {
        Self::decode("", payload).map(ReadEntry::Whole).or_else(|error| {
            let header = serde_json::from_slice(payload).map_err(|_| error.clone())?;
            let reason = error.to_string();
            Ok(ReadEntry::Unreadable { header, reason })
        })
    }
}

/// Coordinator to everybody, every 2 s and after each change: what is newest, and where the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Announcement {
    /// Version of the form: [`SCHEMA`], now 1.
    pub schema: u16,
    /// Who leads.
    pub owner: Owner,
    /// What the leader's state is.
    pub standing: Standing,
    /// Offset of a state entry that counted: a reader may begin there.
    pub offset: u64,
    /// When it was sent; for display alone.
    pub at: Timestamp,
}

/// Coordinator to one replica or to everybody: a question that is answered at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Query {
    /// Version of the form: [`SCHEMA`], now 1.
    pub schema: u16,
    /// Who asks.
    pub owner: Owner,
    /// The question.
    pub ask: Ask,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ask {
    /// What desired state do you know? The state itself comes only if it may be newer than what the asker has.
    State {
        /// What the asker has.
        above: Option<Standing>,
        /// The states that what the asker has descends from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<Line>,
    },
    /// What do your monkeys of this flock do?
    Flock {
        /// The flock.
        flock: FlockName,
    },
    /// What are your monkeys of this flock called?
    Monkeys {
        /// The flock.
        flock: FlockName,
    },
    /// What does this monkey do, if it is yours?
    Monkey {
        /// Its flock.
        flock: FlockName,
        /// The monkey.
        monkey: MonkeyName,
    },
    /// A part of this monkey's log, if it is yours.
    Log {
        /// Its flock.
        flock: FlockName,
        /// The monkey.
        monkey: MonkeyName,
        /// First byte wanted, counted from the beginning of the monkey's log.
        offset: u64,
        /// Most bytes wanted.
        limit: u32,
    },
}

/// An answer to a query; a long one comes in several parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// Version of the form: [`SCHEMA`], now 1.
    pub schema: u16,
    /// The replica that answers; absent if a coordinator does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,
    /// Process that answers.
    pub session: SessionId,
    /// Number of this part, from 0.
    pub part: u32,
    /// Whether it is the last part.
    pub last: bool,
    /// The answer.
    pub body: AnswerBody,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AnswerBody {
    /// To [`Ask::State`].
    State {
        /// What the answerer knows, if anything.
        standing: Option<Standing>,
        /// The state, if the asker may not have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<DesiredState>,
        /// The states that it descends from, if it is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<Line>,
        /// The last requests and the revision that each led to, if the state is there: at most [`REQUEST_IDS_KEPT`].
        #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
        request_ids: VecDeque<(RequestId, Revision)>,
    },
    /// To [`Ask::Flock`]: monkeys in the order of their users.
    Flock {
        /// This part's monkeys.
        monkeys: Vec<MonkeyData>,
    },
    /// To [`Ask::Monkeys`].
    Monkeys {
        /// This part's names.
        monkeys: Vec<MonkeyName>,
    },
    /// To [`Ask::Monkey`].
    Monkey {
        /// The monkey.
        monkey: Box<MonkeyData>,
    },
    /// To [`Ask::Log`].
    Log(LogPart),
    /// The replica does not run such a flock or monkey, or has no log of it.
    NotHere,
    /// The answerer does not know this kind of question: it is of another version.
    Unknown,
}

impl AnswerBody {
    /// Answers [`Ask::State`]: where the answerer stands, and `more` if the asker may not have it.
    pub fn state(standing: Option<Standing>, more: Option<&Known>) -> Self {
        Self::State {
            standing,
            state: more.map(|known| (*known.state).clone()),
            line: more.map(|known| (*known.line).clone()),
            request_ids: more.map(|known| (*known.request_ids).clone()).unwrap_or_default(),
        }
    }
}

/// A part of a monkey's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogPart {
    /// Position of `text`'s first byte, counted from the beginning of the monkey's log; later than asked for if that part is not kept any more.
    pub offset: u64,
    /// The text; cut between characters.
    pub text: String,
    /// Position after the last byte that the log has now.
    pub end: u64,
}

/// Whether a replica can be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaPhase {
    /// It reads the log and has not caught up yet.
    Starting,
    /// It runs what the log says.
    Running,
    /// It was told to end and stops its monkeys.
    Draining,
}

/// Where a flock stands on one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlockPhase {
    /// Users and monkeys are being made.
    Starting,
    /// Every monkey was started.
    Running,
    /// It could not start; the replica tries again.
    Failed,
    /// Its monkeys are being stopped.
    Stopping,
    /// It ran as long as its `duration` or `lease` allows.
    Ended,
}

/// Replica to every coordinator, every second and after each change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of the form: [`SCHEMA`], now 1.
    pub schema: u16,
    /// Who reports.
    pub instance_id: InstanceId,
    /// Which run of its process.
    pub session: SessionId,
    /// Number of this report within the session, from 0.
    pub seq: u64,
    /// Its release.
    pub version: String,
    /// When the process started.
    pub started_at: Timestamp,
    /// Whether it can be counted on.
    pub phase: ReplicaPhase,
    /// How many replicas it thinks the fleet has: a disagreement is a mistake in the configuration.
    pub replica_count: u32,
    /// The newest state that it acts on; absent before it knows any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// Every flock that it runs, starts or stops.
    pub flocks: BTreeMap<FlockName, FlockReport>,
    /// What the process uses.
    pub process: ProcessFigures,
}

/// One flock on one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlockReport {
    /// Generation that it runs, or is starting.
    pub generation: Revision,
    /// The last refresh that its monkeys were told of.
    pub refresh_generation: Revision,
    /// Where it stands.
    pub phase: FlockPhase,
    /// Configured business type.
    pub business: String,
    /// Monkeys by state.
    pub monkeys: BTreeMap<MonkeyState, u64>,
    /// Sum over its monkeys.
    pub success_count: u64,
    /// Sum over its monkeys.
    pub failure_count: u64,
    /// When the last monkey of the last batch was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// Why it failed or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why its monkeys failed; absent if that is as in an earlier report of this session and generation, or never happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Failures>,
}

/// Failures of a flock's monkeys on one replica, by cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failures {
    /// At most 16, the one with the latest failure first.
    pub causes: Vec<FailureCause>,
    /// How many failures there were of causes that had to make room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
}

impl Failures {
    /// How many causes are told apart.
    pub const CAUSES: usize = 16;

    /// Adds up what several replicas tell of one flock.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for failures in all {
            sum.others += failures.others;
            for cause in &failures.causes {
                match sum.causes.iter_mut().find(|known| known.is_like(cause)) {
                    None => sum.causes.push(cause.clone()),
                    Some(known) => {
                        let count = known.count + cause.count;
                        if cause.last_at > known.last_at {
                            known.clone_from(cause);
                        }
                        known.count = count;
                    }
                }
            }
        }
        sum.causes.sort_by_key(|cause| std::cmp::Reverse(cause.last_at));
        let forgotten = sum.causes.drain(Self::CAUSES.min(sum.causes.len())..);
        sum.others += forgotten.map(|cause| cause.count).sum::<u64>();
        sum
    }

    /// Returns whether there were none.
    pub fn is_empty(&self) -> bool {
        self.causes.is_empty() && self.others == 0
    }
}

/// Failures that have one cause: everything is the same but count, time and example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailureCause {
    /// What failed, in a word: for example `status` or `timeout`.
    pub kind: String,
    /// What the monkey was at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Whom it asked: without user, password, query and fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Which notebook it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notebook: Option<String>,
    /// Which cell of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    /// How many such failures there were.
    pub count: u64,
    /// When the latest was.
    pub last_at: Timestamp,
    /// What the latest said, cut to 256 bytes; the whole is in the monkey's log.
    pub example: String,
}

impl FailureCause {
    /// Returns whether both are the same but for count, time and example.
    pub fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.phase == other.phase
            && self.url == other.url
            && self.status == other.status
            && self.notebook == other.notebook
            && self.cell == other.cell
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl FlockReport {
    /// Returns how many monkeys there are, in whatever state.
    pub fn monkey_count(&self) -> u64 {
        self.monkeys.values().sum()
    }

    /// Returns how many monkeys have ended for good although the flock runs: they failed, and are not to be restarted.
    pub fn ended_count(&self) -> u64 {
        if self.phase != FlockPhase::Running {
            return 0;
        }
        let over = [MonkeyState::Stopping, MonkeyState::Finished];
        over.iter().filter_map(|state| self.monkeys.get(state)).sum()
    }
}

/// What a process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessFigures {
    /// Processor time since its start, in seconds, over all cores.
    pub cpu_seconds: f64,
    /// Share of one core over the last report interval: 1.0 is one core.
    pub cpu: f64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// How late timers were over the last report interval, in milliseconds, at worst.
    pub lag_ms: f64,
    /// Open sockets of the process, if known: connections to the services under test, and a handful of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// How late those that paused were woken over the last ten seconds; absent if nobody paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<Lateness>,
    /// Whether it has been too late for a while, by its own `maxLateness`: what its monkeys measure may be its own slowness.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overloaded: bool,
}

/// How much later than they asked for timers woke those that paused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lateness {
    /// What half of them did not exceed, in milliseconds.
    pub p50_ms: f64,
    /// What 99 of a hundred did not exceed, in milliseconds.
    pub p99_ms: f64,
    /// The worst, in milliseconds.
    pub max_ms: f64,
}

/// Coordinator to every coordinator, every second: who is there, and what they know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CoordinatorReport {
    /// Version of the form: [`SCHEMA`], now 1.
    pub schema: u16,
    /// Who reports.
    pub session: SessionId,
    /// Whether it leads.
    pub active: bool,
    /// Its release.
    pub version: String,
    /// The newest state that it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// When it was sent; for display alone.
    pub at: Timestamp,
}

/// Something that anybody with access to the broker may ask of a fleet.
///
/// Read by [`super::request::parse`], which gives the same errors as the HTTP API.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Request {
    /// Whether a second answer is wanted once every replica has applied the change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wait: bool,
    /// What is asked.
    #[serde(flatten)]
    pub action: RequestAction,
}

/// What a request asks.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RequestAction {
    /// Start a flock, or restart it with this configuration.
    Start {
        /// As in the body of `PUT /flocks`.
        flock: Box<FlockConfig>,
    },
    /// Stop one flock, or with `all` every flock.
    #[schemars(extend("oneOf" = [
        { "required": ["flock"], "properties": { "flock": { "type": "string" }, "all": { "const": false } } },
        { "required": ["all"], "properties": { "flock": { "type": "null" }, "all": { "const": true } } },
    ]))]
    Stop {
        /// Which one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flock: Option<FlockName>,
        /// Every one, in one revision.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
    },
    /// Refresh one flock, or all of a repository and branch.
    #[schemars(extend("oneOf" = [
        {
            "required": ["flock"],
            "properties": { "flock": { "type": "string" }, "repo_url": { "type": "null" }, "repo_ref": { "type": "null" } },
        },
        {
            "required": ["repo_url", "repo_ref"],
            "properties": { "flock": { "type": "null" }, "repo_url": { "type": "string" }, "repo_ref": { "type": "string" } },
        },
    ]))]
    Refresh {
        /// Which one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flock: Option<FlockName>,
        /// Repository as in the flocks' `repo_url`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repo_url: Option<String>,
        /// Branch as in the flocks' `repo_ref`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repo_ref: Option<String>,
    },
}

/// Coordinator to the sender of a request, if it named a `reply_to`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestAnswer {
    /// Version of the form: [`SCHEMA`], now 1.
    pub schema: u16,
    /// What became of the request.
    #[serde(flatten)]
    pub outcome: RequestOutcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum RequestOutcome {
    /// It is durable, and will be carried out whatever fails next.
    Accepted {
        /// The revision that it made; the present one if it changed nothing.
        revision: Revision,
        /// Whether it changed anything: a repeated request, or a refresh of nothing, does not.
        changed: bool,
    },
    /// Every ready replica has applied it.
    Applied {
        /// The revision.
        revision: Revision,
        /// What each replica made of it.
        replicas: BTreeMap<InstanceId, ReplicaOutcome>,
    },
    /// Some replicas have not applied it in time; they will when they can.
    Incomplete {
        /// The revision.
        revision: Revision,
        /// What each replica made of it so far.
        replicas: BTreeMap<InstanceId, ReplicaOutcome>,
        /// Those that have not.
        missing: Vec<InstanceId>,
    },
    /// It is wrong and was not carried out.
    Rejected {
        /// Status that the HTTP API would give.
        code: u16,
        /// Body that the HTTP API would give: an object with `detail`.
        error: serde_json::Value,
    },
}

/// What one replica made of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum ReplicaOutcome {
    /// Done.
    Applied,
    /// Still at it.
    Pending,
    /// It cannot, for now, and keeps trying.
    Failed {
        /// Why.
        error: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_ignored_and_newer_schemas_named() {
        let announcement = Announcement {
            schema: SCHEMA,
            owner: Owner::new("a"),
            standing: Standing {
                epoch: Epoch(1),
                revision: Revision(2),
                digest: "d".to_owned(),
                owner: None,
            },
            offset: 3,
            at: Timestamp::UNIX_EPOCH,
        };
        let mut value = serde_json::to_value(&announcement).unwrap();
        value["from_the_future"] = serde_json::json!({"x": 1});
        assert_eq!(
            Announcement::decode("fleet.announcement.v1", value.to_string().as_bytes()),
            Ok(announcement)
        );
        let error = Announcement::decode("", br#"{"schema": 9, "something": "else"}"#).unwrap_err();
        assert_eq!(error.to_string(), "cannot read schema 9 (ours is 1)");
    }

    #[test]
    fn a_kind_that_does_not_belong_is_refused_by_name() {
        let error = Report::decode("fleet.report.v2", b"{}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "a message of type `fleet.report.v2` came where `fleet.report.v1` is expected"
        );
        let error = Report::decode("", b"[1,").unwrap_err();
        assert!(error.to_string().starts_with("not a `fleet.report.v1`: EOF"), "{error}");
    }

    #[test]
    fn no_text_of_a_message_that_cannot_be_read_is_said() {
        let whole = |at: &str, owner: &str| {
            format!(
                r#"{{"schema":1,"owner":{owner},"standing":{{"epoch":1,"revision":2,"digest":"d"}},"offset":3,"at":"{at}"}}"#
            )
        };
        let good = whole("2026-11-22T00:00:00Z", "\"o\"");
        assert!(Announcement::decode("", good.as_bytes()).is_ok());
        for text in [
            whole("Zq7v", "\"o\""),
            whole("2026-11-22T00:00:00Z Zq7v", "\"o\""),
            whole("2026-11-22T00:00:00Z", "[\"Zq7v\"]"),
            good.replace('3', "\"Zq7v\""),
        ] {
            let said = Announcement::decode("", text.as_bytes()).unwrap_err().to_string();
            assert!(!said.contains("Zq7v"), "{said}");
        }
        let unfinished = br#"{"schema":1,"instance_id":"a gt-key/Zq7v","#;
        let said = Report::decode("", unfinished).unwrap_err().to_string();
        assert!(said.contains(": EOF while parsing"), "{said}");
    }

    #[test]
    fn failures_of_one_cause_are_added_up_over_replicas() {
        let cause = |kind: String, second| FailureCause {
            kind,
            phase: None,
            url: None,
            status: None,
            notebook: None,
            cell: None,
            count: 2,
            last_at: Timestamp::from_second(second).unwrap(),
            example: second.to_string(),
        };
        let told = |seconds: std::ops::Range<i64>| Failures {
            causes: seconds.map(|second| cause((second % 20).to_string(), second)).collect(),
            others: 1,
        };
        let sum = Failures::sum(&[told(0..10), told(20..40)]);
        assert_eq!(sum.causes.len(), Failures::CAUSES);
        assert_eq!((sum.causes[0].kind.as_str(), sum.causes[0].count), ("19", 2));
        let seen: Vec<_> = sum.causes.iter().map(|cause| cause.last_at.as_second()).collect();
        assert_eq!(seen, (24..40).rev().collect::<Vec<_>>());
        let again = sum.causes.iter().find(|cause| cause.kind == "5").unwrap();
        assert_eq!((again.count, again.example.as_str()), (4, "25"));
        let counted: u64 = sum.causes.iter().map(|cause| cause.count).sum();
        assert_eq!(counted + sum.others, 62);
        assert!(Failures::sum([]).is_empty());
    }

    #[test]
    fn another_state_of_the_same_revision_is_something_to_tell() {
        let at = |revision, digest: &str| Standing {
            epoch: Epoch(1),
            revision: Revision(revision),
            digest: digest.to_owned(),
            owner: Some(Owner::new("o")),
        };
        assert!(at(1, "a").knows_more_than(None, None));
        assert!(at(2, "a").knows_more_than(Some(&at(1, "b")), None));
        assert!(at(1, "a").knows_more_than(Some(&at(1, "b")), None));
        assert!(!at(1, "a").knows_more_than(Some(&at(1, "a")), None));
        assert!(!at(1, "a").knows_more_than(Some(&at(2, "b")), None));
        let other_line = Line::unknown_before(Epoch(0));
        assert!(at(1, "a").knows_more_than(Some(&at(2, "b")), Some(&other_line)));
    }
}
