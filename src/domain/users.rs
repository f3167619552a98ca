//! The users that one replica makes for a flock: a pure function of configuration and instance ID, so that names are
//! the same after every restart (`contracts/rest-api.md` 3.1, and the seed's rule for fleets).

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::desired::DesiredFlock;
use super::flock::{FlockConfig, Spread, User, UserSpec, Username};
use super::ids::InstanceId;
use super::validation::{Loc, ValidationErrors, ValidationItem};

/// What Gafaelfawr asks of a user's name.
const GAFAELFAWR: &str = "^[a-z0-9](?:[a-z0-9]|-[a-z0-9])*[a-z](?:[a-z0-9]|-[a-z0-9])*$";
/// Longest name that Gafaelfawr takes.
const MAX_NAME: usize = 64;

static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(GAFAELFAWR).expect("the tests compile this constant"));

/// Which replica of how many makes the users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaIdentity {
    /// The replica's name for life; needed when there are several.
    pub instance_id: Option<InstanceId>,
    /// How many replicas the fleet is meant to have; 0 counts as 1.
    pub replica_count: u32,
}

impl ReplicaIdentity {
    /// Returns who the replica is for a flock of the desired state, which knows among how many replicas its users are dealt out, or
    /// `None` if the replica has no part in it.
    #[must_use]
    pub fn in_flock(&self, flock: &DesiredFlock) -> Option<Self> {
        let Some(among) = flock.among.filter(|_| flock.config.spread == Spread::AcrossReplicas) else {
            return Some(self.clone());
        };
        let index = self.instance_id.as_ref().and_then(number_of);
        let has_part = among > 0 && index.is_none_or(|index| index < among);
        has_part.then(|| Self {
            replica_count: among,
            ..self.clone()
        })
    }
}

/// Why a replica cannot make the users of a flock.
///
/// The coordinator refuses such flocks with [`check_fleet_rules`]; a worker that meets one all the same says this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserRuleError {
    /// Every replica would run as the same users.
    #[error("Only user_spec users are allowed if replica_count > 1")]
    Users,
    /// Users of different replicas would get the same numbers.
    #[error("{field} is not allowed if replica_count > 1")]
    Numbers {
        /// `uid_start` or `gid_start`.
        field: &'static str,
    },
    /// There are several replicas, and this one has no name.
    #[error("an instance ID is needed if replica_count > 1")]
    NoInstanceId,
    /// The users cannot be dealt out to a replica that is not one of 0 to n - 1.
    #[error("spread across_replicas needs the instance IDs 0 to {last}, and `{instance_id}` is none of them")]
    NotAnIndex {
        /// The replica's name.
        instance_id: InstanceId,
        /// The last of the names that would do.
        last: u32,
    },
    /// Gafaelfawr would refuse the name.
    #[error(
        "the user name `{name}` would be refused: it must match {GAFAELFAWR}, begin with {} and have at most {MAX_NAME} characters",
        Username::PREFIX
    )]
    Name {
        /// The first name that would be made.
        name: String,
    },
}

/// Which of a flock's users one replica makes, and how it names them.
struct Share {
    /// What stands between the prefix and the number.
    infix: String,
    /// Position of its first user, from 0.
    first: u32,
    /// How far the next one is.
    step: u32,
}

impl Share {
    fn of(spread: Spread, replica: &ReplicaIdentity) -> Result<Self, UserRuleError> {
        let (mut infix, mut first, mut step) = (String::new(), 0, 1);
        if replica.replica_count > 1 {
            let instance_id = replica.instance_id.as_ref().ok_or(UserRuleError::NoInstanceId)?;
            match spread {
                Spread::PerReplica => infix = format!("-instance-{instance_id}-"),
                Spread::AcrossReplicas => {
                    first = replica_index(instance_id, replica.replica_count)?;
                    step = replica.replica_count;
                }
            }
        }
        Ok(Self { infix, first, step })
    }

    /// Returns the positions, from 0, of its users among `count`.
    fn positions(&self, count: u64) -> impl Iterator<Item = u64> + use<> {
        let step = usize::try_from(self.step).expect("a u32 fits a usize wherever a fleet runs");
        (u64::from(self.first)..count).step_by(step)
    }

    /// Returns the name of the user at a position, padded to the digits of `count`.
    fn name(&self, spec: &UserSpec, position: u64, count: u64) -> String {
        let width = count.to_string().len();
        format!("{}{}{:0width$}", spec.username_prefix, self.infix, position + 1)
    }
}

/// Returns the number that an instance ID is, written without leading zeros.
fn number_of(instance_id: &InstanceId) -> Option<u32> {
    let number = instance_id.as_str().parse::<u32>().ok();
    number.filter(|number| number.to_string() == instance_id.as_str())
}

/// Returns which of `count` replicas an instance ID names: 0 to n - 1.
fn replica_index(instance_id: &InstanceId, count: u32) -> Result<u32, UserRuleError> {
    number_of(instance_id)
        .filter(|index| *index < count)
        .ok_or_else(|| UserRuleError::NotAnIndex {
            instance_id: instance_id.clone(),
            last: count.saturating_sub(1),
        })
}

/// Returns whether Gafaelfawr would make a token for a bot of this name, and mobu would ask for one.
fn is_accepted(name: &str) -> bool {
    name.len() <= MAX_NAME && name.starts_with(Username::PREFIX) && NAME.is_match(name)
}

/// Checks the names that a replica would make.
///
/// They differ in their digits alone, and rule and length do not tell digits apart, so one stands for all.
fn check_name(spec: &UserSpec, share: &Share, count: u64) -> Result<(), UserRuleError> {
    let name = share.name(spec, 0, count);
    if is_accepted(&name) {
        Ok(())
    } else {
        Err(UserRuleError::Name { name })
    }
}

/// Returns what a fleet of several replicas cannot do with users that are the same on all of them.
fn forbidden(config: &FlockConfig, replica_count: u32) -> Vec<UserRuleError> {
    if replica_count <= 1 || config.spread == Spread::AcrossReplicas {
        return Vec::new();
    }
    let spec = config.user_spec.as_ref();
    let number = |given: Option<i64>, field| given.map(|_| UserRuleError::Numbers { field });
    [
        config.users.as_ref().map(|_| UserRuleError::Users),
        number(spec.and_then(|spec| spec.uid_start), "uid_start"),
        number(spec.and_then(|spec| spec.gid_start), "gid_start"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Returns the users that a replica runs a flock's monkeys as, in their order.
///
/// # Errors
///
/// What [`check_fleet_rules`] refuses: a worker checks again, because it trusts no message.
///
/// # Panics
///
/// Never: positions fit every number that they are turned into, because of [`MAX_COUNT`](super::flock::MAX_COUNT).
pub fn users_of(config: &FlockConfig, replica: &ReplicaIdentity) -> Result<Vec<User>, UserRuleError> {
    if let Some(error) = forbidden(config, replica.replica_count).into_iter().next() {
        return Err(error);
    }
    let share = Share::of(config.spread, replica)?;
    if let Some(users) = &config.users {
        let users = distinct(users);
        let count = u64::try_from(users.len()).expect("a list's length fits u64");
        let position = |position| usize::try_from(position).expect("the position of an element fits usize");
        return Ok(share.positions(count).map(|p| users[position(p)].clone()).collect());
    }
    let Some(spec) = &config.user_spec else {
        return Ok(Vec::new());
    };
    check_name(spec, &share, config.count)?;
    let number = |start: Option<i64>, position: u64| {
        let offset = i64::try_from(position).expect("a position is below MAX_COUNT");
        // Parsing left room above the first number, so that nothing saturates.
        start.map(|start| start.saturating_add(offset))
    };
    let user = |position| User {
        username: Username::new(share.name(spec, position, config.count)),
        uidnumber: number(spec.uid_start, position),
        gidnumber: number(spec.gid_start, position),
        groups: spec.groups.clone(),
    };
    Ok(share.positions(config.count).map(user).collect())
}

/// The users that one replica makes, without making them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRange {
    /// How many.
    pub count: u64,
    /// Name of the first; `None` if there are none.
    pub first: Option<String>,
    /// Name of the last; `None` if there are none.
    pub last: Option<String>,
}

/// Returns how many users [`users_of`] would make, and the names of the first and the last: cheap, however many there are.
///
/// # Errors
///
/// As [`users_of`].
///
/// # Panics
///
/// Never: the length of a list fits its count.
pub fn range_of(config: &FlockConfig, replica: &ReplicaIdentity) -> Result<UserRange, UserRuleError> {
    let Some(spec) = config.user_spec.as_ref().filter(|_| config.users.is_none()) else {
        let users = users_of(config, replica)?;
        let name = |user: Option<&User>| user.map(|user| user.username.as_str().to_owned());
        return Ok(UserRange {
            count: u64::try_from(users.len()).expect("a list's length fits u64"),
            first: name(users.first()),
            last: name(users.last()),
        });
    };
    if let Some(error) = forbidden(config, replica.replica_count).into_iter().next() {
        return Err(error);
    }
    let share = Share::of(config.spread, replica)?;
    check_name(spec, &share, config.count)?;
    let (first, step) = (u64::from(share.first), u64::from(share.step));
    let count = config.count.saturating_sub(first).div_ceil(step);
    let name = |position: u64| share.name(spec, position, config.count);
    let last = count.checked_sub(1).map(|last| first + last * step);
    Ok(UserRange {
        count,
        first: last.map(|_| name(first)),
        last: last.map(name),
    })
}

/// Returns the users of a list with each name once: as in mobu, the later of two takes the place of the earlier.
fn distinct(users: &[User]) -> Vec<User> {
    let mut positions: HashMap<&Username, usize> = HashMap::with_capacity(users.len());
    let mut out: Vec<User> = Vec::with_capacity(users.len());
    for user in users {
        if let Some(&position) = positions.get(&user.username) {
            out[position] = user.clone();
        } else {
            positions.insert(&user.username, out.len());
            out.push(user.clone());
        }
    }
    out
}

/// Returns how many monkeys a replica starts at a time, or `None` for all at once.
///
/// With `spread: across_replicas` it is the replica's part of the flock's number, at least 1 (mobu fails at 0).
pub fn batch_size_of(config: &FlockConfig, replica: &ReplicaIdentity) -> Option<u64> {
    let size = config.start_batch_size?;
    Some(match config.spread {
        Spread::PerReplica => size,
        Spread::AcrossReplicas => (size / u64::from(replica.replica_count.max(1))).max(1),
    })
}

/// Checks what a fleet asks of a flock, before the flock enters the desired state.
///
/// `instance_ids` are the replicas that are known or expected. With more than one replica, `users`, `uid_start` and
/// `gid_start` need `spread: across_replicas`, which needs the instance IDs 0 to n - 1. Names that Gafaelfawr would
/// refuse are refused here.
///
/// # Errors
///
/// Items placed below `body`, all at once.
pub fn check_fleet_rules(
    config: &FlockConfig,
    replica_count: u32,
    instance_ids: &[InstanceId],
) -> Result<(), ValidationErrors> {
    check_fleet_rules_at(config, replica_count, instance_ids, &["body".into()])
}

/// As [`check_fleet_rules`], for a flock that was given elsewhere, such as in `autostart`.
///
/// # Errors
///
/// Items placed below `root`, all at once.
pub fn check_fleet_rules_at(
    config: &FlockConfig,
    replica_count: u32,
    instance_ids: &[InstanceId],
    root: &[Loc],
) -> Result<(), ValidationErrors> {
    let refuse = |error: &UserRuleError| {
        let way = place(error);
        let input = way.iter().try_fold(config.echo(), |value, key| value.get(key));
        let loc = root.iter().cloned().chain(way.iter().copied().map(Loc::from)).collect();
        let text = format!("{error}{}", hint(error));
        ValidationItem::value_error(loc, text, input.cloned().unwrap_or_default())
    };
    let mut items: Vec<_> = forbidden(config, replica_count).iter().map(refuse).collect();
    // One wrong name or instance ID says enough; a fleet of hundreds would repeat it hundreds of times.
    items.extend(
        first_wrong_replica(config, replica_count, instance_ids)
            .as_ref()
            .map(refuse),
    );
    if items.is_empty() {
        Ok(())
    } else {
        Err(ValidationErrors(items))
    }
}

fn first_wrong_replica(config: &FlockConfig, replica_count: u32, instance_ids: &[InstanceId]) -> Option<UserRuleError> {
    // With nobody known yet, a made-up replica still shows what is wrong with the prefix.
    let nobody = ["0".parse().expect("a digit is an instance ID")];
    let known = if instance_ids.is_empty() { &nobody } else { instance_ids };
    known.iter().find_map(|instance_id| {
        let replica = ReplicaIdentity {
            instance_id: Some(instance_id.clone()),
            replica_count,
        };
        let share = Share::of(config.spread, &replica);
        let checked = share.and_then(|share| match &config.user_spec {
            Some(spec) => check_name(spec, &share, config.count),
            None => Ok(()),
        });
        checked.err()
    })
}

/// Returns the field that broke the rule.
fn place(error: &UserRuleError) -> &'static [&'static str] {
    match error {
        UserRuleError::Users => &["users"],
        UserRuleError::Numbers { field: "uid_start" } => &["user_spec", "uid_start"],
        UserRuleError::Numbers { .. } => &["user_spec", "gid_start"],
        UserRuleError::NoInstanceId | UserRuleError::NotAnIndex { .. } => &["spread"],
        UserRuleError::Name { .. } => &["user_spec", "username_prefix"],
    }
}

/// Returns the way out, where there is one.
fn hint(error: &UserRuleError) -> &'static str {
    match error {
        UserRuleError::Numbers { .. } => {
            ", because every replica would give out the same numbers (it is with spread: across_replicas)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests;
