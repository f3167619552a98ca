//! The states of a monkey, and the one function that moves between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::flock::Group;
use super::ids::{InstanceId, MonkeyName};

/// State of a monkey, by mobu's names (`contracts/businesses.md` 1.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MonkeyState {
    /// Made, not started.
    #[default]
    Idle,
    /// Does its business.
    Running,
    /// Was told to stop, or failed for good.
    Stopping,
    /// Has stopped in an orderly way.
    Finished,
    /// Failed, and waits before it starts again.
    Error,
}

/// What happens to a monkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonkeyEvent {
    /// A run begins.
    Start,
    /// The run failed, and the business is to be restarted.
    Fail,
    /// The run failed, and the business is not to be restarted.
    FailForGood,
    /// Somebody wants it to stop.
    Stop,
    /// The run has ended, as asked.
    Finish,
}

impl MonkeyState {
    /// Returns the state after `event`, or `None` if it cannot happen in this state.
    pub const fn next(self, event: MonkeyEvent) -> Option<Self> {
        match (self, event) {
            (Self::Idle | Self::Error, MonkeyEvent::Start) => Some(Self::Running),
            (Self::Running, MonkeyEvent::Fail) => Some(Self::Error),
            (Self::Running, MonkeyEvent::FailForGood) | (_, MonkeyEvent::Stop) => match self {
                Self::Finished => Some(Self::Finished),
                _ => Some(Self::Stopping),
            },
            (Self::Stopping, MonkeyEvent::Fail | MonkeyEvent::FailForGood) => Some(Self::Stopping),
            (Self::Stopping | Self::Finished, MonkeyEvent::Finish) => Some(Self::Finished),
            _ => None,
        }
    }
}

/// Data of a monkey as mobu shows it (`contracts/rest-api.md` 4.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MonkeyData {
    /// The user's name.
    pub name: MonkeyName,
    /// Where it stands.
    pub state: MonkeyState,
    /// Whom it plays.
    pub user: UserData,
    /// What it does.
    pub business: BusinessData,
    /// The replica that runs it; left out in a fleet of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<InstanceId>,
}

/// The user of a monkey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UserData {
    /// Name as Gafaelfawr returned it.
    pub username: String,
    /// Scopes of its token.
    pub scopes: Vec<String>,
    /// Public half of its token, `gt-{key}.***`: unlike mobu, which shows the whole.
    pub token: String,
    /// Numeric user ID, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uidnumber: Option<i64>,
    /// Numeric primary group ID, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gidnumber: Option<i64>,
    /// Groups that it is in.
    pub groups: Vec<Group>,
}

/// What a monkey does, and how it went so far. Optional parts appear only while they mean something.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BusinessData {
    /// mobu's class name: `GitLFSBusiness` and `MusterRunner`, else the business type.
    pub name: String,
    /// Iterations, and start-ups, that failed.
    pub failure_count: u64,
    /// Iterations that ended well.
    pub success_count: u64,
    /// Whether a refresh is asked for and not done yet.
    pub refreshing: bool,
    /// Image of its lab: `description` and `reference`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Value>,
    /// File name of its current or last notebook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notebook: Option<String>,
    /// Code of its running cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_code: Option<String>,
    /// Its running query: a text, or an object of SIA parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_query: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::MonkeyEvent::{Fail, FailForGood, Finish, Start, Stop};
    use super::MonkeyState::{Error, Finished, Idle, Running, Stopping};

    #[test]
    fn the_life_of_a_monkey_is_that_of_the_contract() {
        for (state, event, next) in [
            (Idle, Start, Some(Running)),
            (Running, Fail, Some(Error)),
            (Error, Start, Some(Running)),
            (Running, FailForGood, Some(Stopping)),
            (Running, Stop, Some(Stopping)),
            (Error, Stop, Some(Stopping)),
            (Idle, Stop, Some(Stopping)),
            (Stopping, Fail, Some(Stopping)),
            (Stopping, Finish, Some(Finished)),
            (Finished, Stop, Some(Finished)),
            (Stopping, Start, None),
            (Finished, Start, None),
            (Running, Start, None),
            (Idle, Fail, None),
            (Running, Finish, None),
        ] {
            assert_eq!(state.next(event), next, "{state:?} {event:?}");
        }
    }
}
