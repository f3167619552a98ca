//! What the tests of the ring share: a fleet that finds the services, and what its flocks have done.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use fleet_tests::broker::{shared_broker, unique_fleet};
use fleet_tests::fleet::ProcessFleet;
use fleet_tests::platform::Platform;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// How long a flock may take to do what it is watched for.
const PATIENCE: Duration = Duration::from_secs(400);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A fleet of one real coordinator and one real worker, which gets tokens and discovery from a stand-in for the platform.
pub(crate) struct Ring {
    pub(crate) fleet: ProcessFleet,
    pub(crate) platform: Platform,
    /// Where the worker's temporary files are.
    temporary: PathBuf,
}

/// What the monkeys of a flock have done so far, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    /// Successes of the monkey that has the fewest.
    pub(crate) fewest: u64,
}

impl Ring {
    /// Starts a fleet on a platform. `options` is more of its configuration, as YAML.
    pub(crate) async fn start(platform: Platform, options: &str) -> Result<Self> {
        Self::start_with(platform, options, &[]).await
    }

    /// Starts one whose processes see these variables too.
    pub(crate) async fn start_with(
        platform: Platform,
        options: &str,
        variables: &[(&'static str, String)],
    ) -> Result<Self> {
        let mut fleet = ProcessFleet::prepare(shared_broker(), unique_fleet(), 1, options)?;
        let temporary = fleet.folder.path().join("tmp");
        std::fs::create_dir(&temporary)?;
        fleet.variables = platform.variables();
        fleet.variables.extend_from_slice(variables);
        fleet.variables.push(("TMPDIR", temporary.display().to_string()));
        fleet.start_coordinator(0).await?;
        fleet.start_worker(0)?;
        fleet.wait_converged().await?;
        Ok(Self {
            fleet,
            platform,
            temporary,
        })
    }

    /// Starts a flock of so many monkeys called `bot-mobu-FLOCK1` and on, which hardly pause.
    pub(crate) async fn put(&self, flock: &str, count: u32, business: &str, options: &Value) -> Result<()> {
        let mut all = json!({"idle_time": 0.1, "error_idle_time": 0.5});
        for (key, value) in options.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        let flock = json!({
            "name": flock, "count": count, "user_spec": {"username_prefix": format!("bot-mobu-{flock}")},
            "scopes": ["exec:notebook", "read:image"],
            "business": {"type": business, "options": all, "restart": true},
        });
        self.fleet.put_flock(&flock).await?;
        Ok(())
    }

    /// What a flock's monkeys have done.
    pub(crate) async fn counts(&self, flock: &str) -> Result<Counts> {
        let data = self.fleet.get(&format!("/flocks/{flock}")).await?;
        let number = |monkey: &Value, key: &str| monkey["business"][key].as_u64().unwrap_or_default();
        let monkeys = data["monkeys"].as_array().cloned().unwrap_or_default();
        let successes = monkeys.iter().map(|monkey| number(monkey, "success_count"));
        Ok(Counts {
            successes: successes.clone().sum(),
            failures: monkeys.iter().map(|monkey| number(monkey, "failure_count")).sum(),
            fewest: successes.min().unwrap_or_default(),
        })
    }

    /// Waits until a flock's counts are as they should.
    pub(crate) async fn until(&self, flock: &str, what: &str, condition: impl Fn(Counts) -> bool) -> Result<Counts> {
        self.until_for(PATIENCE, flock, what, condition).await
    }

    /// The same with a patience of its own.
    pub(crate) async fn until_for(
        &self,
        patience: Duration,
        flock: &str,
        what: &str,
        condition: impl Fn(Counts) -> bool,
    ) -> Result<Counts> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let counts = self.counts(flock).await?;
            if condition(counts) {
                return Ok(counts);
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "waited for {what} in {flock}, last seen {counts:?}\n{}\n{}",
                    self.log(flock, 1).await?,
                    self.fleet.logs()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until each monkey has succeeded so often, and nobody has failed.
    pub(crate) async fn succeed(&self, flock: &str, times: u64) -> Result<()> {
        let done = |counts: Counts| counts.fewest >= times || counts.failures > 0;
        let counts = self.until(flock, "successes", done).await?;
        if counts.failures > 0 {
            bail!("{flock} has failed: {counts:?}\n{}", self.log(flock, 1).await?);
        }
        Ok(())
    }

    /// What a monkey of a flock has logged; the first one has number 1.
    pub(crate) async fn log(&self, flock: &str, monkey: u32) -> Result<String> {
        let path = format!("/flocks/{flock}/monkeys/bot-mobu-{flock}{monkey}/log");
        let answer = self.fleet.call(Method::GET, &path).send().await?;
        Ok(answer.text().await?)
    }

    /// Waits until a monkey's log has a text, and returns the log.
    pub(crate) async fn until_logged(&self, flock: &str, monkey: u32, text: &str) -> Result<String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let log = self.log(flock, monkey).await?;
            if log.contains(text) {
                return Ok(log);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("nobody has logged {text:?}:\n{log}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops a flock and waits until it is gone from the replica.
    pub(crate) async fn stop(&self, flock: &str) -> Result<()> {
        let stopped = self
            .fleet
            .call(Method::DELETE, &format!("/flocks/{flock}"))
            .send()
            .await?;
        // Whether its last lab has gone by then or not.
        if !matches!(stopped.status(), StatusCode::NO_CONTENT | StatusCode::ACCEPTED) {
            bail!("the stop of {flock} was answered with {stopped:?}");
        }
        self.fleet.wait_converged().await?;
        Ok(())
    }

    /// Names of the files that the worker has not removed.
    pub(crate) fn leftovers(&self) -> Result<Vec<String>> {
        let mut folders = vec![self.temporary.clone()];
        let mut left = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                } else {
                    left.push(entry.path().display().to_string());
                }
            }
        }
        Ok(left)
    }

    /// Ends all processes and checks that they end well and leave nothing.
    pub(crate) async fn finish(self) -> Result<()> {
        let left = self.leftovers()?;
        if !left.is_empty() {
            bail!("the worker has left {left:?}");
        }
        self.fleet.finish().await
    }
}

/// Waits until a service says that none of something is left. Meanwhile it may also answer with errors.
pub(crate) async fn until_none<F>(what: &str, service: &str, patience: Duration, count: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<usize>>,
{
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let left = count().await;
        if matches!(left, Ok(0)) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            bail!("{service} does not say that no {what} is left, but {left:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
}
