//! What monkeys did, as it happens: mobu's metric events (`contracts/integrations.md` 5) as typed values.
//!
//! A replica publishes each as an [`Event`] to the topic exchange `{fleet}.events`, by the key of [`Event::key`]: for whoever
//! listens now, without any promise. The counts and durations of all of them, published or not, are in its metrics.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::{FlockName, InstanceId, MonkeyName};

/// Something that a monkey did, and who it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Version of the form: [`SCHEMA`](super::messages::SCHEMA), now 1.
    pub schema: u16,
    /// Names this event.
    #[schemars(with = "String")]
    pub id: Uuid,
    /// When it had happened.
    pub at: Timestamp,
    /// The replica that ran the monkey.
    pub instance_id: InstanceId,
    /// Its flock; absent for a run that belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flock: Option<FlockName>,
    /// Its business by the name that monkeys show: the configured type, but `MusterRunner` and `GitLFSBusiness`.
    pub business: String,
    /// Whom it plays.
    pub username: MonkeyName,
    /// What it did.
    #[serde(flatten)]
    pub act: Act,
}

impl Event {
    /// Returns the routing key of such an event: `flock.business.event`. A dot in a flock's name, which would be two words to a
    /// topic exchange, becomes a colon, which no name has; no flock is `-`.
    pub fn key(flock: Option<&FlockName>, business: &str, act: &Act) -> String {
        let flock = flock.map_or("-", FlockName::as_str).replace('.', ":");
        format!("{flock}.{business}.{}", act.name())
    }
}

/// What a monkey did. Names and fields are mobu's; durations are seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Act {
    /// An iteration of `EmptyLoop`.
    EmptyLoop {
        /// Whether it went well.
        success: bool,
    },
    /// A request of `HTTPRunner`, with its answer. This one mobu does not have.
    HttpRequest {
        /// From sending to the end of the answer, or to the failure.
        duration: f64,
        /// Whether the answer was what was expected.
        success: bool,
        /// HTTP status of the answer, if one came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// An iteration of `Muster`.
    Muster {
        /// How long it took, also when it failed.
        duration: f64,
        /// Whether it went well.
        success: bool,
    },
    /// A TAP query.
    TapQuery {
        /// Whether it went well.
        success: bool,
        /// How long it took; absent if it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<f64>,
        /// Whether it was run at once, and not as a job.
        sync: bool,
    },
    /// An SIA query.
    SiaQuery {
        /// Whether it went well.
        success: bool,
        /// How long it took; absent if it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<f64>,
    },
    /// A check of Git LFS.
    GitLfsCheck {
        /// Whether it went well.
        success: bool,
        /// How long it took; absent if it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<f64>,
    },
    /// A notebook was run.
    NotebookExecution {
        /// Which one, and from where.
        #[serde(flatten)]
        notebook: NotebookSource,
        /// How long it took; absent if that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<f64>,
        /// Whether all of it went well.
        success: bool,
    },
    /// A cell of a notebook was run.
    NotebookCellExecution {
        /// Of which notebook.
        #[serde(flatten)]
        notebook: NotebookSource,
        /// How long it took; absent if that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<f64>,
        /// The cell.
        cell_id: String,
        /// Whether it went well.
        success: bool,
    },
    /// Code was run in a lab (`NubladoPythonLoop`).
    NubladoPythonExecution {
        /// How long it took; absent if it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration: Option<f64>,
        /// Whether it went well.
        success: bool,
        /// What was run.
        code: String,
    },
    /// A lab was spawned. One that was interrupted by a stop counts as a success.
    NubladoSpawnLab {
        /// How long it took, also when it failed.
        duration: f64,
        /// Whether it went well.
        success: bool,
    },
    /// A lab was deleted, and that was waited for, or it failed. The underscore at the end of its name is mobu's.
    #[serde(rename = "nublado_delete_")]
    NubladoDeleteLab {
        /// How long it took, also when it failed.
        duration: f64,
        /// Whether it went well.
        success: bool,
    },
}

/// Where a notebook comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotebookSource {
    /// Its path in the repository.
    pub notebook: String,
    /// The repository's URL as it is configured.
    pub repo: String,
    /// The branch, tag or commit as it is configured.
    pub repo_ref: String,
    /// The commit that was checked out; `unknown` without a clone.
    pub repo_hash: String,
}

impl Act {
    /// How many kinds of acts there are.
    pub const KINDS: usize = 11;
    /// The names of all kinds, each at the position of its number.
    pub const NAMES: [&'static str; Self::KINDS] = [
        "empty_loop",
        "http_request",
        "muster",
        "tap_query",
        "sia_query",
        "git_lfs_check",
        "notebook_execution",
        "notebook_cell_execution",
        "nublado_python_execution",
        "nublado_spawn_lab",
        "nublado_delete_",
    ];

    /// Returns the number of its kind, below [`Act::KINDS`].
    pub const fn number(&self) -> usize {
        match self {
            Self::EmptyLoop { .. } => 0,
            Self::HttpRequest { .. } => 1,
            Self::Muster { .. } => 2,
            Self::TapQuery { .. } => 3,
            Self::SiaQuery { .. } => 4,
            Self::GitLfsCheck { .. } => 5,
            Self::NotebookExecution { .. } => 6,
            Self::NotebookCellExecution { .. } => 7,
            Self::NubladoPythonExecution { .. } => 8,
            Self::NubladoSpawnLab { .. } => 9,
            Self::NubladoDeleteLab { .. } => 10,
        }
    }

    /// Returns the name of its kind, as mobu's topics have it.
    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.number()]
    }

    /// Returns whether it went well.
    pub const fn is_success(&self) -> bool {
        match self {
            Self::EmptyLoop { success }
            | Self::HttpRequest { success, .. }
            | Self::Muster { success, .. }
            | Self::TapQuery { success, .. }
            | Self::SiaQuery { success, .. }
            | Self::GitLfsCheck { success, .. }
            | Self::NotebookExecution { success, .. }
            | Self::NotebookCellExecution { success, .. }
            | Self::NubladoPythonExecution { success, .. }
            | Self::NubladoSpawnLab { success, .. }
            | Self::NubladoDeleteLab { success, .. } => *success,
        }
    }

    /// Returns how long it took, if that is known.
    pub fn duration(&self) -> Option<Duration> {
        let seconds = match self {
            Self::EmptyLoop { .. } => None,
            Self::HttpRequest { duration, .. }
            | Self::Muster { duration, .. }
            | Self::NubladoSpawnLab { duration, .. }
            | Self::NubladoDeleteLab { duration, .. } => Some(*duration),
            Self::TapQuery { duration, .. }
            | Self::SiaQuery { duration, .. }
            | Self::GitLfsCheck { duration, .. }
            | Self::NotebookExecution { duration, .. }
            | Self::NotebookCellExecution { duration, .. }
            | Self::NubladoPythonExecution { duration, .. } => *duration,
        };
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_act_is_called_the_same_everywhere() {
        for (number, name) in Act::NAMES.into_iter().enumerate() {
            let act: Act = serde_json::from_value(json!({
                "event": name, "success": true, "duration": 0.5, "sync": false, "notebook": "n", "repo": "r", "repo_ref": "main",
                "repo_hash": "unknown", "cell_id": "1", "code": "2 + 2",
            }))
            .unwrap();
            assert_eq!((act.number(), act.name(), act.is_success()), (number, name, true));
            assert_eq!(serde_json::to_value(&act).unwrap()["event"], name);
            let seconds = (name != "empty_loop").then_some(Duration::from_millis(500));
            assert_eq!(act.duration(), seconds, "{name}");
        }
    }

    #[test]
    fn a_key_has_three_words_whatever_the_flock_is_called() {
        let act = Act::EmptyLoop { success: true };
        let flock = "a.b".parse().unwrap();
        assert_eq!(Event::key(Some(&flock), "EmptyLoop", &act), "a:b.EmptyLoop.empty_loop");
        assert_eq!(Event::key(None, "EmptyLoop", &act), "-.EmptyLoop.empty_loop");
    }
}
