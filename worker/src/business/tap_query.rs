//! What both TAP businesses do: one query at a time, at once or as a job.

use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::business::TapOptions;
use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::domain::events::Act;
use mobu_fleet::runtime::clock::{self, Instant};
use serde_json::Value;

use super::{IterationError, Phase};
use crate::client::repertoire::DiscoveryError;
use crate::client::tap::Tap;
use crate::client::vo::QueryError;
use crate::monkey::{Monkey, Stopped};

/// How long to wait, after a stop or at the end of its time, for the answer that says where a new job is.
const LATE_CREATION: Duration = Duration::from_secs(5);

/// The service of one run.
#[derive(Debug)]
pub(super) struct TapQueries {
    /// `None` before start-up and after the end.
    tap: Option<Tap>,
}

/// The service does not answer as TAP services do.
#[derive(Debug, thiserror::Error)]
#[error("Unable to create TAP client: {source}")]
struct NoClient {
    #[source]
    source: QueryError,
}

/// `execute` was called without `startup`.
#[derive(Debug, thiserror::Error)]
#[error("the run has not been started up")]
pub(super) struct NotStarted;

impl TapQueries {
    pub(super) const fn new() -> Self {
        Self { tap: None }
    }

    /// Finds the service, and asks what it can do.
    pub(super) async fn open(&mut self, options: &TapOptions, monkey: &Monkey) -> Result<(), IterationError> {
        monkey.enter(Phase::Discovery);
        let discovery = discover(monkey).await?;
        let base = discovery.tap(&options.dataset);
        let base = base.map_err(not_found)?.clone();
        let token = monkey.user().token.clone();
        monkey.enter(Phase::MakeClient);
        let opened = monkey.unless_stopped(Box::pin(Tap::open(base, token))).await?;
        self.tap = Some(opened.map_err(|source| {
            let (kind, status, url) = (source.kind(), source.status(), shown(&source));
            let error = IterationError::retry(kind, NoClient { source });
            error.at_shown(&url).status(status)
        })?);
        monkey.leave();
        Ok(())
    }

    /// Runs a query to its end, or until the monkey shall stop.
    pub(super) async fn run(&self, options: &TapOptions, query: &str, monkey: &Monkey) -> Result<(), IterationError> {
        let tap = self.tap.as_ref();
        let tap = tap.ok_or_else(|| IterationError::retry("client", NotStarted))?;
        let form = if options.sync { "sync" } else { "async" };
        monkey.info(&format!("Running ({form}): {query}"));
        let limit = Limit::new(options.query_timeout);
        let shown = Value::from(query);
        monkey.enter(Phase::TapQuery);
        let act = |success, duration| Act::TapQuery {
            success,
            duration,
            sync: options.sync,
        };
        measured(monkey, shown, act, async {
            let outcome = if options.sync {
                monkey.unless_stopped(Box::pin(limit.hold(tap.run_sync(query)))).await
            } else {
                Box::pin(run_as_job(tap, query, &limit, monkey)).await
            };
            outcome?.map_err(failed)
        })
        .await
    }

    pub(super) fn close(&mut self) {
        self.tap = None;
    }
}

/// Runs a query, shows it while it runs, and says how long it took. It stays shown after a failure. `act` makes the event of its
/// end, from whether it went well and how long it took in that case; a stop is none.
pub(super) async fn measured(
    monkey: &Monkey,
    query: Value,
    act: impl FnOnce(bool, Option<f64>) -> Act,
    run: impl Future<Output = Result<(), IterationError>>,
) -> Result<(), IterationError> {
    monkey.show(|activity| activity.running_query = Some(query));
    let begun = clock::now();
    let outcome = run.await;
    if matches!(outcome, Ok(()) | Err(IterationError::Stopped(_))) {
        monkey.show(|activity| activity.running_query = None);
    }
    let seconds = begun.elapsed().as_secs_f64();
    match &outcome {
        Ok(()) => {
            monkey.info(&format!("Query finished after {seconds:?} seconds"));
            monkey.emit(act(true, Some(seconds)));
        }
        Err(IterationError::Failed(_)) => monkey.emit(act(false, None)),
        Err(IterationError::Stopped(_)) => {}
    }
    outcome
}

/// Runs a query as a job, of which nothing is left behind.
async fn run_as_job(tap: &Tap, query: &str, limit: &Limit, monkey: &Monkey) -> Result<Result<(), QueryError>, Stopped> {
    let mut creation = Box::pin(tap.create(query));
    let created = monkey.unless_stopped(limit.hold(&mut creation)).await;
    let mut job = match created {
        Ok(Ok(job)) => job,
        Ok(Err(error)) if !matches!(error, QueryError::QueryTimeout(_)) => return Ok(Err(error)),
        cut_short => {
            // The service may just be making the job: only its answer says where that is.
            if let Ok(Ok(job)) = tokio::time::timeout(LATE_CREATION, creation).await {
                tap.dispose(&job, false).await;
            }
            return cut_short.map(|created| created.map(drop));
        }
    };
    let outcome = monkey.unless_stopped(Box::pin(limit.hold(tap.run_job(&mut job)))).await;
    let has_ended = matches!(outcome, Ok(Ok(())));
    Box::pin(tap.dispose(&job, has_ended)).await;
    outcome
}

/// How long one query may take, from its begin on.
struct Limit {
    begun: Instant,
    whole: Option<Duration>,
}

impl Limit {
    fn new(seconds: Option<f64>) -> Self {
        let whole = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        Self {
            begun: clock::now(),
            whole: seconds.map(whole),
        }
    }

    /// Gives up on a part of the query when the whole takes too long.
    async fn hold<T>(&self, part: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
        let Some(whole) = self.whole else { return part.await };
        let left = whole.saturating_sub(self.begun.elapsed());
        let ended = tokio::time::timeout(left, part).await;
        ended.unwrap_or(Err(QueryError::QueryTimeout(whole)))
    }
}

pub(super) fn failed(error: QueryError) -> IterationError {
    let (kind, status, url) = (error.kind(), error.status(), shown(&error));
    IterationError::retry(kind, error).at_shown(&url).status(status)
}

/// Returns who was asked, or nothing.
fn shown(error: &QueryError) -> String {
    error.url().unwrap_or_default().to_owned()
}

/// Returns where services are. Where nothing says so, nothing is found, which gives the error of a service that is not listed.
pub(super) async fn discover(monkey: &Monkey) -> Result<Arc<Discovery>, IterationError> {
    let Some(locator) = &monkey.surroundings().locator else {
        return Ok(Arc::default());
    };
    let discovered = monkey.unless_stopped(Box::pin(locator.discover())).await?;
    discovered.map_err(not_found)
}

pub(super) fn not_found(error: impl Into<DiscoveryError>) -> IterationError {
    IterationError::retry("discovery", error.into())
}
