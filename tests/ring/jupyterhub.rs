//! The businesses in labs against a real `JupyterHub` with `JupyterLab`, behind a stand-in for the platform's ingress.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleet_tests::ingress::Ingress;
use fleet_tests::platform::Platform;
use fleet_tests::service::{Facts, Kind, Service, shared};
use serde_json::{Value, json};

use crate::support::{Ring, until_none};

/// How long the hub may take to end what nobody waits for.
const END_OF_LABS: Duration = Duration::from_secs(180);

/// A fleet that finds the hub, by this host, behind an ingress that knows the fleet's users.
async fn ring(facts: &Facts, ingress: &Ingress, host: &str) -> Result<Ring> {
    let url = format!("http://{host}:{}/nb", ingress.address.port());
    let platform = Platform::start(&json!({"services": {"ui": {"nublado": {"url": url}}}})).await?;
    ingress.stand_before(facts.get("port").parse()?, platform.users.clone());
    Ring::start(platform, "").await
}

fn python(code: &str, more: &Value) -> Value {
    let mut options = json!({
        "code": code, "max_executions": 2, "execution_idle_time": 0.1, "spawn_settle_time": 0.1, "get_node": false,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        options[key] = value.clone();
    }
    options
}

/// How many labs of a flock the hub knows, in whatever state.
async fn labs(facts: &Facts, flock: &str) -> Result<usize> {
    let url = format!("http://127.0.0.1:{}/nb/hub/api/users", facts.get("port"));
    let request = reqwest::Client::new().get(url);
    let request = request.header("Host", facts.get("host"));
    let request = request.header("Authorization", format!("token {}", facts.get("token")));
    let users: Value = request.send().await?.error_for_status()?.json().await?;
    let users = users.as_array().context("a list of users")?;
    let ours = users.iter().filter(|user| {
        let name = user["name"].as_str().unwrap_or_default();
        name.starts_with(&format!("bot-mobu-{flock}"))
    });
    Ok(ours
        .filter(|user| user["servers"].as_object().is_some_and(|servers| !servers.is_empty()))
        .count())
}

async fn until_no_labs(facts: &Facts, flock: &str) -> Result<()> {
    until_none(&format!("lab of {flock}"), "the hub", END_OF_LABS, || {
        labs(facts, flock)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn python_runs_in_labs_that_are_gone_after_each_iteration_and_after_a_stop() -> Result<()> {
    let (facts, _service) = shared(Kind::JupyterHub).await?;
    let ingress = Ingress::start().await?;
    let ring = ring(&facts, &ingress, "127.0.0.1").await?;
    ring.put("fresh", 1, "NubladoPythonLoop", &python("print(6 * 7)", &json!({})))
        .await?;
    ring.succeed("fresh", 2).await?;
    let log = ring.log("fresh", 1).await?;
    for said in [
        "print(6 * 7) -> 42",
        "Running on image ring/sciplat-lab:w_2026_40 (Weekly 2026_40)",
        "Lab successfully deleted",
    ] {
        ensure!(log.contains(said), "no `{said}` in {log}");
    }
    ring.stop("fresh").await?;
    until_no_labs(&facts, "fresh").await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lab_that_is_kept_serves_many_iterations_and_a_failing_cell_is_told() -> Result<()> {
    let (facts, _service) = shared(Kind::JupyterHub).await?;
    let ingress = Ingress::start().await?;
    let ring = ring(&facts, &ingress, "127.0.0.1").await?;
    let kept = python("print('kept')", &json!({"delete_lab": false}));
    ring.put("kept", 1, "NubladoPythonLoop", &kept).await?;
    ring.succeed("kept", 3).await?;
    ensure!(labs(&facts, "kept").await? == 1, "the lab lives on");
    let log = ring.log("kept", 1).await?;
    ensure!(log.matches("Spawn complete").count() == 1, "one lab for all: {log}");
    ring.stop("kept").await?;
    until_no_labs(&facts, "kept").await?;
    ring.put("broken", 1, "NubladoPythonLoop", &python("1 / 0", &json!({})))
        .await?;
    ring.until("broken", "a failure", |counts| counts.failures > 0).await?;
    ring.until_logged("broken", 1, "ZeroDivisionError").await?;
    ring.stop("broken").await?;
    until_no_labs(&facts, "broken").await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_killed_in_the_middle_is_a_clear_failure_and_all_go_on_when_it_is_back() -> Result<()> {
    let mut service = Service::start(Kind::JupyterHub).await?;
    let facts = service.facts().clone();
    let ingress = Ingress::start().await?;
    let ring = ring(&facts, &ingress, "127.0.0.1").await?;
    let kept = python("print('kept')", &json!({"delete_lab": false}));
    ring.put("hub", 1, "NubladoPythonLoop", &kept).await?;
    ring.succeed("hub", 1).await?;
    let before = ring.counts("hub").await?;
    service.kill().await?;
    ring.until("hub", "a failure", |counts| counts.failures > before.failures)
        .await?;
    ring.until_logged("hub", 1, "502").await?;
    service.restart().await?;
    let now = ring.counts("hub").await?;
    ring.until("hub", "new successes", |counts| counts.fewest > now.fewest)
        .await?;
    ring.stop("hub").await?;
    until_no_labs(&facts, "hub").await?;
    ring.finish().await?;
    service.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_user_may_have_a_domain_of_his_own() -> Result<()> {
    let ingress = Ingress::start().await?;
    let host = format!("http://hub.localhost:{}", ingress.address.port());
    let service = Service::start_with(Kind::JupyterHub, &[("MOBU_TEST_SUBDOMAINS", host)]).await?;
    let facts = service.facts().clone();
    let ring = ring(&facts, &ingress, "hub.localhost").await?;
    ring.put("domain", 1, "NubladoPythonLoop", &python("print(6 * 7)", &json!({})))
        .await?;
    ring.succeed("domain", 1).await?;
    ring.stop("domain").await?;
    until_no_labs(&facts, "domain").await?;
    ring.finish().await?;
    service.finish().await
}

/// A repository of two notebooks, made with real git.
struct Repository(tempfile::TempDir);

impl Repository {
    async fn new() -> Result<Self> {
        let repository = Self(tempfile::Builder::new().prefix("ring-notebooks-").tempdir()?);
        repository.git(&["init", "--quiet", "--initial-branch=main"]).await?;
        repository.commit("before").await?;
        Ok(repository)
    }

    /// Makes both notebooks say something, each with a cell that an older format knows no ID for.
    async fn commit(&self, said: &str) -> Result<()> {
        for name in ["one", "two"] {
            let cell = |source: String| json!({"cell_type": "code", "metadata": {}, "outputs": [], "source": [source]});
            let mut first = cell(format!("word = '{said}'\n"));
            first["id"] = json!("first");
            let text = json!({"cell_type": "markdown", "metadata": {}, "source": "# Words"});
            let second = cell(format!("print('{name} says', word)"));
            let notebook = json!({"cells": [first, text, second], "metadata": {}, "nbformat": 4, "nbformat_minor": 5});
            std::fs::write(self.0.path().join(format!("{name}.ipynb")), notebook.to_string())?;
        }
        self.git(&["add", "."]).await?;
        let me = ["-c", "user.name=ring", "-c", "user.email=ring@example.org"];
        self.git(&[&me[..], &["commit", "--quiet", "--message", said]].concat())
            .await
    }

    /// Makes a notebook whose only cell kills its kernel the first time that it runs.
    async fn commit_deadly(&self) -> Result<()> {
        let mark = self.0.path().join("killed").display().to_string();
        let code = format!(
            "import os, pathlib, time\nmark = pathlib.Path({mark:?})\nif not mark.exists():\n    mark.touch()\n    \
             print('last words', flush=True)\n    time.sleep(1)\n    os.kill(os.getpid(), 9)\nprint('alive again')\n"
        );
        let cell = json!({"cell_type": "code", "id": "deadly", "metadata": {}, "outputs": [], "source": code});
        let notebook = json!({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5});
        self.git(&["rm", "--quiet", "one.ipynb", "two.ipynb"]).await?;
        std::fs::write(self.0.path().join("deadly.ipynb"), notebook.to_string())?;
        self.git(&["add", "."]).await?;
        let me = ["-c", "user.name=ring", "-c", "user.email=ring@example.org"];
        self.git(&[&me[..], &["commit", "--quiet", "--message", "deadly"]].concat())
            .await
    }

    async fn git(&self, arguments: &[&str]) -> Result<()> {
        let mut git = tokio::process::Command::new("git");
        git.args(arguments)
            .current_dir(self.0.path())
            .env("HOME", self.0.path());
        ensure!(git.status().await?.success(), "git {arguments:?}");
        Ok(())
    }

    fn options(&self, more: &Value) -> Value {
        let mut options = json!({
            "repo_url": self.0.path(), "repo_ref": "main", "execution_idle_time": 0.1, "spawn_settle_time": 0.1, "get_node": false,
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            options[key] = value.clone();
        }
        options
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notebooks_of_a_repository_run_and_a_refresh_brings_its_newest_version() -> Result<()> {
    let (facts, _service) = shared(Kind::JupyterHub).await?;
    let repository = Repository::new().await?;
    let ingress = Ingress::start().await?;
    let ring = ring(&facts, &ingress, "127.0.0.1").await?;
    let counting = repository.options(&json!({"max_executions": 2, "delete_lab": false}));
    ring.put("counting", 1, "NotebookRunnerCounting", &counting).await?;
    ring.succeed("counting", 1).await?;
    let log = ring.log("counting", 1).await?;
    for said in [
        "one says before",
        "two says before",
        "Success running notebook one.ipynb",
        "Done with this cycle of notebooks",
    ] {
        ensure!(log.contains(said), "no `{said}` in {log}");
    }
    repository.commit("after").await?;
    let refreshed = ring
        .fleet
        .call(reqwest::Method::POST, "/flocks/counting/refresh")
        .send()
        .await?;
    ensure!(refreshed.status().is_success(), "{refreshed:?}");
    ring.until_logged("counting", 1, "one says after").await?;
    ring.stop("counting").await?;
    until_no_labs(&facts, "counting").await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_notebooks_and_an_endless_run_leave_no_lab_and_no_clone() -> Result<()> {
    let (facts, _service) = shared(Kind::JupyterHub).await?;
    let repository = Repository::new().await?;
    let ingress = Ingress::start().await?;
    let ring = ring(&facts, &ingress, "127.0.0.1").await?;
    ring.put("list", 1, "NotebookRunnerList", &repository.options(&json!({})))
        .await?;
    ring.succeed("list", 1).await?;
    ring.stop("list").await?;
    ring.put("endless", 1, "NotebookRunnerInfinite", &repository.options(&json!({})))
        .await?;
    ring.until_logged("endless", 1, "iteration 3/infinite").await?;
    ring.stop("endless").await?;
    for flock in ["list", "endless"] {
        until_no_labs(&facts, flock).await?;
    }
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_is_killed_in_a_cell_is_a_failure_and_the_next_lab_runs_the_notebook() -> Result<()> {
    let (facts, _service) = shared(Kind::JupyterHub).await?;
    let repository = Repository::new().await?;
    repository.commit_deadly().await?;
    let ingress = Ingress::start().await?;
    let ring = ring(&facts, &ingress, "127.0.0.1").await?;
    let options = repository.options(&json!({"max_executions": 1}));
    ring.put("deadly", 1, "NotebookRunnerCounting", &options).await?;
    ring.until("deadly", "a failure", |counts| counts.failures > 0).await?;
    let log = ring.until_logged("deadly", 1, "Restarting failed monkey").await?;
    for said in [
        "last words",
        "kernel: deadly.ipynb: Error executing cell",
        "the kernel died; its lab calls it `restarting`",
        r#""notebook": "deadly.ipynb""#,
        r#""cell": "deadly""#,
    ] {
        ensure!(log.contains(said), "no `{said}` in {log}");
    }
    ring.until("deadly", "a success", |counts| counts.fewest > 0).await?;
    ring.until_logged("deadly", 1, "alive again").await?;
    ring.stop("deadly").await?;
    until_no_labs(&facts, "deadly").await?;
    ring.finish().await
}
