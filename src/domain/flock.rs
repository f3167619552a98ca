//! The configuration of a flock, validated as mobu validates it (`contracts/rest-api.md` 3).

mod user;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

pub use self::user::{Group, User, UserSpec, Username};
use super::business::{BusinessConfig, hide_credentials};
use super::duration::HumanDuration;
use super::ids::FlockName;
use super::validation::{Extra, FromInput, Input, Loc, Parsed, ValidationErrors, choices, deserialize_by_reading};

/// Most monkeys that one flock may ask for, on each replica.
pub const MAX_COUNT: u32 = 1_000_000;

choices! {
    /// What the numbers of a flock mean in a fleet of several replicas.
    #[derive(Default)]
    Spread, "enum", any_case = false, {
        /// Every replica runs `count` monkeys of its own, under names of its own: the default.
        #[default]
        PerReplica = "per_replica",
        /// `count` and `start_batch_size` are totals of the fleet; the users are dealt out to the replicas.
        AcrossReplicas = "across_replicas",
    }
}

/// A flock: so many monkeys, running as these users, doing this business.
///
/// Comes only out of [`FlockConfig::parse`] and of `Deserialize`, which is the same, so that whoever holds one holds a
/// valid one. Cheap to clone. Serializes as its [echo](FlockConfig::echo).
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(extend("oneOf" = [
    { "required": ["users"], "properties": { "users": { "type": "array", "minItems": 1 }, "user_spec": { "type": "null" } } },
    { "required": ["user_spec"], "properties": { "user_spec": { "type": "object" }, "count": { "minimum": 1 } } },
]))]
pub struct FlockConfig {
    /// Name of the flock.
    pub name: FlockName,
    /// How many monkeys, 1 to [`MAX_COUNT`]; also 0 with `users`, which means all of them.
    #[schemars(range(max = MAX_COUNT))]
    pub count: u64,
    /// How many monkeys start at a time; all at once unless given, or if 0.
    pub start_batch_size: Option<u64>,
    /// Pause between two batches. Given, and not zero, if there are batches.
    pub start_batch_wait: Option<HumanDuration>,
    /// The users to run as. Never empty; exactly one of `users` and `user_spec` is there.
    pub users: Option<Arc<[User]>>,
    /// How to make the users to run as.
    pub user_spec: Option<UserSpec>,
    /// Scopes of the users' tokens, in the order given.
    pub scopes: Arc<[String]>,
    /// What the monkeys do.
    pub business: BusinessConfig,
    /// What `count` means in a fleet of several replicas.
    #[schemars(default)]
    pub spread: Spread,
    /// The flock stops unless contact with the coordinator was renewed within this time; ours.
    pub lease: Option<HumanDuration>,
    /// The flock stops by itself after this time; ours.
    pub duration: Option<HumanDuration>,
    #[schemars(skip)]
    echo: Arc<Value>,
}

impl FlockConfig {
    /// Reads a flock from the body of a request.
    ///
    /// # Errors
    ///
    /// All mistakes at once, placed below `body`.
    pub fn parse(value: &Value) -> Result<Self, ValidationErrors> {
        Self::parse_at(value, &["body".into()])
    }

    /// Reads a flock from any document, such as `autostart` of the configuration.
    ///
    /// # Errors
    ///
    /// All mistakes at once, placed below `loc`.
    pub fn parse_at(value: &Value, loc: &[Loc]) -> Result<Self, ValidationErrors> {
        Input::read(value, loc, Self::from_input).map(|parsed| parsed.value)
    }

    /// Returns the configuration as mobu shows it: only what the caller set, at any depth, normalized, without nulls.
    pub fn echo(&self) -> &Value {
        &self.echo
    }

    /// Returns the [echo](Self::echo) for whoever only looks: without what opens the repositories and services that it names.
    /// Of the headers, parameters and bodies of an `HTTPRunner` that which lets somebody in is hidden, unless it is made of what each monkey has.
    ///
    /// The echo itself goes to the replicas, which need it.
    pub fn shown(&self) -> Value {
        let mut shown = (*self.echo).clone();
        if let Some(options) = shown.pointer_mut("/business/options") {
            hide_credentials(options);
        }
        shown
    }

    /// Makes the checks that concern several fields, and reports the first that fails, as mobu does.
    fn check(&self, count: i64, input: &Input<'_>) -> Option<()> {
        let of_all = |text: &str| input.value_error(text);
        match (&self.users, &self.user_spec) {
            (None, None) => return of_all("one of users or user_spec must be provided"),
            (Some(_), Some(_)) => return of_all("both users and user_spec provided"),
            (Some(users), None) if count != 0 && i64::try_from(users.len()) != Ok(count) => {
                return input.value_error(format_args!("users list must contain {count} elements"));
            }
            // Mended: mobu accepts the flock and fails with a 500 when it makes the users.
            (None, Some(_)) if count < 1 => {
                let given = input.value().get("count").unwrap_or(&Value::Null);
                let msg = "Input should be greater than or equal to 1";
                return input
                    .at_key("count", given)
                    .fail_with("greater_than_equal", msg, json!({ "ge": 1 }));
            }
            _ => {}
        }
        if self.start_batch_size.is_some() && self.start_batch_wait.is_none_or(HumanDuration::is_zero) {
            return of_all("start_batch_wait must be given if start_batch_size is given");
        }
        Some(())
    }
}

impl FromInput for FlockConfig {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let max_count = i64::from(MAX_COUNT);
        let mut fields = input.document()?;
        let name = fields.required_by("name", flock_name);
        let count = fields.required_by("count", |input| input.integer(i64::MIN, max_count));
        let start_batch_size = fields.nullable_by("start_batch_size", |input| input.integer(0, i64::MAX));
        let start_batch_wait = fields.nullable("start_batch_wait");
        let users = fields.nullable_by("users", |input| input.list(MAX_COUNT as usize, User::from_input));
        let user_spec = fields.nullable("user_spec");
        let scopes = fields.required::<Vec<String>>("scopes");
        let business = fields.required("business");
        let spread = fields.or("spread", Spread::default());
        let lease = fields.nullable_by("lease", HumanDuration::positive);
        let duration = fields.nullable_by("duration", HumanDuration::positive);
        let echo = fields.close(Extra::Ignored)?;
        let count = count?;
        let config = Self {
            name: name?,
            count: u64::try_from(count).unwrap_or(0),
            start_batch_size: start_batch_size.map(i64::unsigned_abs).filter(|size| *size > 0),
            start_batch_wait,
            users: users.filter(|users| !users.is_empty()).map(Arc::from),
            user_spec,
            scopes: scopes?.into(),
            business: business?,
            spread,
            lease,
            duration,
            echo: Arc::new(echo.clone()),
        };
        config.check(count, input)?;
        Some(Parsed::new(config, echo))
    }
}

pub(super) fn flock_name(input: &Input<'_>) -> Option<Parsed<FlockName>> {
    let text = String::from_input(input)?;
    match FlockName::try_from(text.value) {
        Ok(name) => Some(Parsed::new(name.clone(), name.as_str())),
        Err(_) => input.fail_with(
            "string_pattern_mismatch",
            format!("String should match pattern '{}'", FlockName::PATTERN),
            json!({ "pattern": FlockName::PATTERN }),
        ),
    }
}

impl Serialize for FlockConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.echo.serialize(serializer)
    }
}

deserialize_by_reading!(FlockConfig, "body");

#[cfg(test)]
mod tests;
