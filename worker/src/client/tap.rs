//! A client of TAP 1.1: queries at once, and as jobs (`contracts/businesses.md` 7).

use std::time::Duration;

use ::http::Method;
use secrecy::SecretString;
use url::Url;

use super::uws::{Job, Progress};
use super::vo::{QueryError, Request, Session, below};

/// How long a service may take over a job's description.
const DESCRIPTION: Duration = Duration::from_secs(10);
/// How long it may sit on one question for the end of a job.
const POLL: Duration = Duration::from_secs(600);
/// Pause after the first such question; later ones are longer by [`BACKOFF`], up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const BACKOFF: f64 = 1.2;
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How long getting rid of a job may take altogether.
const DISPOSAL: Duration = Duration::from_secs(5);
/// What stands for the reason if a service gives none.
const NO_REASON: &str = "<No useful error from server>";

/// A TAP service, as one monkey sees it.
#[derive(Debug)]
pub(crate) struct Tap {
    session: Session,
    base: Url,
}

impl Tap {
    /// Asks the service at `base` what it can do.
    pub(crate) async fn open(base: Url, token: SecretString) -> Result<Self, QueryError> {
        let session = Session::new(base.clone(), token)?;
        session.capabilities(&base).await?;
        Ok(Self { session, base })
    }

    /// Runs a query at once. Takes as long as the service does.
    pub(crate) async fn run_sync(&self, query: &str) -> Result<(), QueryError> {
        let url = below(&self.base, "sync");
        let response = self.session.send(Request::post(&url, &question(query))).await?;
        self.session.judge(response).await
    }

    /// Makes a job of a query, which does not run yet.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may leave a job at the service that nobody knows of.
    pub(crate) async fn create(&self, query: &str) -> Result<Url, QueryError> {
        let url = below(&self.base, "async");
        let response = self.session.send_once(&Request::post(&url, &question(query))).await?;
        let Some(created) = self.session.redirect(&response)? else {
            // No job. What came instead is either a reason, or no answer to such a question.
            self.session.judge(response).await?;
            return Err(QueryError::Redirect {
                url: self.session.shown(&url),
            });
        };
        Ok(created)
    }

    /// Runs a job that was made, and notes in `job` where it really is. Whoever calls this must [`dispose`](Self::dispose) of the job,
    /// also after a failure or after dropping the future.
    pub(crate) async fn run_job(&self, job: &mut Url) -> Result<(), QueryError> {
        let described = self.session.describe(Request::get(job));
        let (at, _) = self.session.within(DESCRIPTION, job, described).await?;
        job.clone_from(&at);
        self.job(Request::get(&at)).await?;
        let phase = below(&at, "phase");
        let run = Request::post(&phase, &[("PHASE", "RUN")]);
        drop(
            self.session
                .within(DESCRIPTION, &phase, self.session.describe(run))
                .await?,
        );
        self.wait(&at).await?;
        let ended = self.job(Request::get(&at)).await?;
        if matches!(ended.phase.as_str(), "ERROR" | "ABORTED") {
            let reason = ended.message.as_deref().unwrap_or(NO_REASON);
            return Err(QueryError::Job(self.session.clean(reason)));
        }
        let result = ended.result(&at).ok_or(QueryError::NoResult)?;
        let response = self.session.send(Request::get(&result)).await?;
        self.session.judge(response).await
    }

    /// Aborts a job unless it has ended, and deletes it. Takes a few seconds at most; what fails is the service's to tidy up.
    pub(crate) async fn dispose(&self, job: &Url, has_ended: bool) {
        let dispose = async {
            if !has_ended
                && let Ok(known) = self.job(Request::get(job)).await
                && matches!(known.phase.as_str(), "QUEUED" | "EXECUTING")
            {
                let phase = below(job, "phase");
                // The job is deleted in any case, which ends it as well.
                drop(self.session.send(Request::post(&phase, &[("PHASE", "ABORT")])).await);
            }
            let delete = Request {
                method: Method::DELETE,
                ..Request::get(job)
            };
            drop(self.session.send_once(&delete).await);
        };
        drop(tokio::time::timeout(DISPOSAL, dispose).await);
    }

    /// Waits until a job has ended.
    async fn wait(&self, job: &Url) -> Result<(), QueryError> {
        let mut question = job.clone();
        question.query_pairs_mut().append_pair("WAIT", "-1");
        let mut pause = FIRST_PAUSE;
        loop {
            let known = self.session.within(POLL, &question, self.read(Request::get(&question)));
            match known.await?.progress() {
                Progress::Done => return Ok(()),
                Progress::Inactive => return Err(QueryError::Inactive),
                Progress::Active => {}
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(BACKOFF).min(LONGEST_PAUSE);
        }
    }

    async fn job(&self, request: Request<'_>) -> Result<Job, QueryError> {
        let url = request.url;
        self.session.within(DESCRIPTION, url, self.read(request)).await
    }

    async fn read(&self, request: Request<'_>) -> Result<Job, QueryError> {
        let (url, text) = self.session.describe(request).await?;
        Job::parse(&text).map_err(|source| QueryError::NotAJob {
            url: self.session.shown(&url),
            source,
        })
    }
}

fn question(query: &str) -> [(&'static str, &str); 3] {
    [("REQUEST", "doQuery"), ("LANG", "ADQL"), ("QUERY", query)]
}
