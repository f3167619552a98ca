//! The three notebook runners, with real git on real repositories, against the stand-in for a hub.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mobu_fleet::domain::desired::Command;
use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::domain::events::{Act, NotebookSource};
use mobu_fleet::domain::monkey::{MonkeyData, MonkeyState};
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::config::ServiceDiscovery;
use mobu_worker::WorkerConfig;
use serde_json::{Value, json};
use stand_ins::hub::{Hub, Knobs};
use tempfile::TempDir;

use crate::leader::{Leader, Listener, PATIENCE, Process, flock, name};

/// A repository, a hub, and a worker whose clones go where a test can see them.
struct Bench {
    directory: TempDir,
    hub: Hub,
    leader: Leader,
    process: Process,
    listener: Listener,
}

/// Runs git; returns what it says.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let settings = [
        "-c",
        "user.name=n",
        "-c",
        "user.email=e",
        "-c",
        "init.defaultBranch=main",
    ];
    let mut git = std::process::Command::new("git");
    let ran = git
        .args(settings)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&ran.stderr)
    );
    String::from_utf8(ran.stdout).unwrap()
}

/// A notebook with a title, and these cells with their IDs; no ID if it is empty.
fn notebook(cells: &[(&str, &str)]) -> String {
    let code = cells.iter().map(|(id, source)| {
        let lines: Vec<&str> = source.split_inclusive('\n').collect();
        let mut cell = json!({"cell_type": "code", "metadata": {}, "outputs": [], "source": lines});
        if !id.is_empty() {
            cell["id"] = json!(id);
        }
        cell
    });
    let title = json!({"cell_type": "markdown", "metadata": {}, "source": "# Title"});
    let cells: Vec<Value> = [title].into_iter().chain(code).collect();
    json!({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).to_string()
}

impl Bench {
    async fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for path in ["work", "clones"] {
            fs::create_dir(directory.path().join(path)).unwrap();
        }
        git(directory.path(), &["init", "--quiet", "--bare", "origin.git"]);
        git(&directory.path().join("work"), &["init", "--quiet"]);
        let hub = Hub::start(Knobs::default()).await;
        let mut discovery = hub.discovery();
        discovery["applications"] = json!(["nublado", "tap"]);
        let mut config = WorkerConfig::for_tests("0", 1);
        let discovery = Discovery::parse_at(&discovery, &[]).unwrap();
        config.discovery = Some(ServiceDiscovery::Static(discovery.into()));
        config.clone_directory = Some(directory.path().join("clones"));
        config.event_rate = 1000;
        let leader = Leader::new().await;
        let listener = Listener::on(&leader.hub, "#").await;
        let process = Process::start(&leader.hub, config);
        let bench = Self {
            directory,
            hub,
            leader,
            process,
            listener,
        };
        bench.push(files);
        bench
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn url(&self) -> String {
        format!("file://{}", self.path("origin.git").display())
    }

    /// Makes these files the content of the branch `main`, beside what was there.
    fn push(&self, files: &[(&str, &str)]) {
        let work = self.path("work");
        for (path, text) in files {
            let path = work.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--allow-empty", "-m", "a change"]);
        git(&work, &["push", "--quiet", &self.url(), "HEAD:main"]);
    }

    /// Starts monkeys that lose no time.
    async fn start(&mut self, flock_name: &str, count: u32, business: &str, options: &Value) {
        let mut all = json!({
            "idle_time": 0.01, "error_idle_time": 3600, "spawn_settle_time": 0, "execution_idle_time": 0.01,
            "get_node": false, "repo_url": self.url(), "repo_ref": "main",
        });
        for (key, value) in options.as_object().unwrap() {
            all[key] = value.clone();
        }
        self.leader.start(&flock(flock_name, count, business, &all)).await;
        self.leader.until(|report| report.flocks.contains_key(flock_name)).await;
    }

    fn monkeys(&self, flock: &str) -> Vec<MonkeyData> {
        self.process.handle.monkeys(&name(flock))
    }

    async fn log(&mut self, flock: &str) -> String {
        if self.monkeys(flock).is_empty() {
            return String::new();
        }
        self.leader.log("0", flock, &format!("bot-mobu-{flock}1")).await
    }

    /// Waits until the log of a flock's first monkey says something; returns the log.
    async fn until_said(&mut self, flock: &str, text: &str) -> String {
        let deadline = clock::now() + PATIENCE;
        loop {
            let log = self.log(flock).await;
            if log.contains(text) {
                return log;
            }
            assert!(
                clock::now() < deadline,
                "no `{text}` in {log}\n{:#?}",
                self.hub.complaints()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all monkeys of a flock are as wanted, none of which may fail.
    async fn until_all(&mut self, flock: &str, wanted: impl Fn(&MonkeyData) -> bool) {
        let deadline = clock::now() + PATIENCE;
        loop {
            let monkeys = self.monkeys(flock);
            if !monkeys.is_empty() && monkeys.iter().all(&wanted) {
                return;
            }
            let is_well = monkeys.iter().all(|monkey| monkey.business.failure_count == 0);
            let may_go_on = is_well && clock::now() < deadline;
            let log = if may_go_on {
                String::new()
            } else {
                self.log(flock).await
            };
            assert!(may_go_on, "{monkeys:#?}\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many clones there are.
    fn clones(&self) -> usize {
        let roots = fs::read_dir(self.path("clones")).unwrap();
        let entries = roots.flat_map(|root| fs::read_dir(root.unwrap().path()).into_iter().flatten());
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("clone-"))
            .count()
    }

    async fn until_clones(&self, count: usize) {
        let deadline = clock::now() + PATIENCE;
        while self.clones() != count {
            assert!(clock::now() < deadline, "{} clones instead of {count}", self.clones());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops flocks, after which there is no lab and no clone, nor the directory for them.
    async fn end(mut self, flocks: &[&str]) -> Hub {
        for flock in flocks {
            self.leader.stop(flock).await;
            self.leader.until_gone(flock).await;
        }
        assert_eq!(self.hub.labs(), Vec::<String>::new());
        assert_eq!(self.hub.complaints(), Vec::<String>::new());
        let deadline = clock::now() + PATIENCE;
        while fs::read_dir(self.path("clones")).unwrap().next().is_some() {
            assert!(clock::now() < deadline, "{} clones are left", self.clones());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.process.drain().await;
        self.hub
    }
}

/// The code that kernels got, without what prepares a session.
fn cells(hub: &Hub) -> Vec<String> {
    let code = hub.code().into_iter();
    code.filter(|code| !code.starts_with("import os")).collect()
}

#[tokio::test]
async fn cells_run_in_order_and_what_they_print_is_in_the_log() {
    let files = [(
        "a/x.ipynb",
        &*notebook(&[("first", "print(1)\nprint(2)"), ("", "print(3)")]),
    )];
    let mut bench = Bench::new(&files).await;
    bench
        .start("n", 1, "NotebookRunnerCounting", &json!({"max_executions": 2}))
        .await;
    let log = bench.until_said("n", "Idling...").await;
    let mut rest = log.as_str();
    for event in [
        "Starting up...",
        "Repository cloned and ready",
        "Logging in to hub",
        "Starting next iteration",
        "Creating lab session",
        "Notebook x.ipynb iteration 1/2",
        r"Executing cell first:\nprint(1)\nprint(2)\n",
        r"Result:\n12\n",
        r"Executing cell 2:\nprint(3)\n",
        r"Result:\n3\n",
        "Success running notebook x.ipynb",
        "Done with this cycle of notebooks",
        "Notebook x.ipynb iteration 2/2",
        "Deleting lab session",
        "Idling...",
    ] {
        let at = rest.find(&format!("\"event\": \"{event}"));
        rest = &rest[at.unwrap_or_else(|| panic!("{event} in {rest}")) + 1..];
    }
    assert!(!log.contains("empty notebook"), "{log}");
    assert_eq!(bench.monkeys("n")[0].business.notebook.as_deref(), Some("x.ipynb"));
    let hub = bench.end(&["n"]).await;
    assert_eq!(
        cells(&hub)[..4],
        ["print(1)\nprint(2)", "print(3)", "print(1)\nprint(2)", "print(3)"]
    );
}

#[tokio::test]
async fn a_cell_that_fails_names_its_notebook_and_leaves_neither_lab_nor_clone() {
    let files = [(
        "a/x.ipynb",
        &*notebook(&[("fine", "print(1)"), ("bad", "raise Oops"), ("", "print(3)")]),
    )];
    let mut bench = Bench::new(&files).await;
    bench.start("n", 1, "NotebookRunnerInfinite", &json!({})).await;
    let log = bench.until_said("n", "Restarting failed monkey").await;
    assert!(!log.contains("Printed before"), "it has printed nothing: {log}");
    assert!(log.contains("execute: a/x.ipynb: Error executing cell"), "{log}");
    assert!(log.contains("caused by: ") && log.contains("raise Oops"), "{log}");
    for fact in [
        r#""phase": "execute_cell""#,
        r#""notebook": "a/x.ipynb""#,
        r#""cell": "bad""#,
    ] {
        assert!(log.contains(fact), "{fact} in {log}");
    }
    let monkey = &bench.monkeys("n")[0];
    assert_eq!((monkey.state, monkey.business.failure_count), (MonkeyState::Error, 1));
    let shown = (
        monkey.business.notebook.as_deref(),
        monkey.business.running_code.as_deref(),
    );
    assert_eq!(
        shown,
        (Some("x.ipynb"), Some("raise Oops")),
        "they stay after a failure"
    );
    let hub = bench.end(&["n"]).await;
    assert_eq!(cells(&hub), ["print(1)", "raise Oops"]);
}

#[tokio::test]
async fn a_cell_whose_kernel_dies_is_named_with_what_it_printed() {
    let files = [("a/x.ipynb", &*notebook(&[("deadly", "print(last words)\ndie")]))];
    let mut bench = Bench::new(&files).await;
    bench.start("n", 1, "NotebookRunnerInfinite", &json!({})).await;
    let log = bench.until_said("n", "Restarting failed monkey").await;
    for text in [
        r"Printed before it ended:\nlast words\n",
        "kernel: a/x.ipynb: Error executing cell",
        "caused by: the kernel died; its lab calls it `restarting`",
        r#""notebook": "a/x.ipynb""#,
        r#""cell": "deadly""#,
    ] {
        assert!(log.contains(text), "{text} in {log}");
    }
    bench.end(&["n"]).await;
}

#[tokio::test]
async fn a_list_runs_each_notebook_once_per_session_and_infinite_goes_on() {
    let all = ["a", "b", "c"].map(|name| (format!("{name}.ipynb"), notebook(&[("", &format!("print({name})"))])));
    let files: Vec<_> = all.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let mut bench = Bench::new(&files).await;
    bench
        .start("list", 1, "NotebookRunnerList", &json!({"idle_time": 3600}))
        .await;
    let log = bench.until_said("list", "Idling...").await;
    let mut run = cells(&bench.hub);
    run.sort();
    assert_eq!(run, ["print(a)", "print(b)", "print(c)"]);
    assert!(
        log.contains("iteration 3/3") && log.contains("Done with this cycle"),
        "{log}"
    );
    bench.start("on", 1, "NotebookRunnerInfinite", &json!({})).await;
    let log = bench.until_said("on", "iteration 7/infinite").await;
    assert_eq!(log.matches("Creating lab session").count(), 1, "{log}");
    assert_eq!(bench.clones(), 1, "both run from one clone");
    bench.end(&["list", "on"]).await;
}

#[tokio::test]
async fn a_refresh_of_many_monkeys_on_an_old_and_on_a_new_commit_takes_nothing_from_anybody() {
    let text = |word: &str| notebook(&[("", &format!("print({word})")), ("", "print(more)"), ("", "print(end)")]);
    let files = [("a.ipynb", &*text("old")), ("b.ipynb", &*text("old"))];
    let mut bench = Bench::new(&files).await;
    let options = json!({"max_executions": 1000});
    bench.start("one", 4, "NotebookRunnerCounting", &options).await;
    bench.start("two", 2, "NotebookRunnerInfinite", &json!({})).await;
    let runs = |monkey: &MonkeyData| monkey.business.notebook.is_some();
    bench.until_all("one", runs).await;
    bench.until_all("two", runs).await;
    assert_eq!(bench.clones(), 1);
    for round in 1..=3 {
        if round == 2 {
            bench.push(&[("a.ipynb", &*text("new")), ("b.ipynb", &*text("new"))]);
        }
        let refresh = Command::RefreshRepository {
            repo_url: bench.url(),
            repo_ref: "main".to_owned(),
        };
        bench.leader.command(refresh).await;
        for flock in ["one", "two"] {
            // An iteration that a refresh ends counts.
            let is_done = |monkey: &MonkeyData| {
                !monkey.business.refreshing && monkey.business.success_count >= round && runs(monkey)
            };
            bench.until_all(flock, is_done).await;
        }
    }
    bench.until_clones(1).await;
    let before = cells(&bench.hub).len();
    let deadline = clock::now() + PATIENCE;
    // All may go on from the same cell at once, so their number says little.
    while !cells(&bench.hub)[before..].iter().any(|code| code == "print(new)") {
        assert!(clock::now() < deadline, "nothing new runs");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let late = cells(&bench.hub).split_off(before);
    assert!(late.iter().all(|code| code != "print(old)"), "{late:?}");
    bench.end(&["one", "two"]).await;
}

#[tokio::test]
async fn without_a_notebook_to_run_no_lab_is_spawned_and_a_push_mends_it() {
    let needy = |application: &str, code: &str| {
        let mut text: Value = serde_json::from_str(&notebook(&[("", code)])).unwrap();
        text["metadata"]["mobu"] = json!({"required_applications": [application]});
        text.to_string()
    };
    let files = [
        ("skip/a.ipynb", &*notebook(&[("", "print(a)")])),
        ("b.ipynb", &*needy("sia", "print(b)")),
        ("mobu.yaml", "exclude_dirs: [skip]\n"),
    ];
    let mut bench = Bench::new(&files).await;
    let options = json!({"max_executions": 1, "error_idle_time": 0.1});
    bench.start("n", 1, "NotebookRunnerCounting", &options).await;
    let log = bench.until_said("n", "Restarting failed monkey").await;
    assert!(log.contains("No notebooks to run after filtering!"), "{log}");
    assert!(
        log.contains("the rules leave none of the 2 in `main` of file://"),
        "{log}"
    );
    assert_eq!(bench.hub.most_labs(), 0);
    bench.push(&[("b.ipynb", &*needy("tap", "print(b)"))]);
    bench.until_said("n", "Success running notebook b.ipynb").await;
    bench
        .start(
            "none",
            1,
            "NotebookRunnerList",
            &json!({"collection_rules": [{"type": "intersect_union_of", "patterns": []}]}),
        )
        .await;
    bench
        .until_all("none", |monkey| monkey.business.success_count > 0)
        .await;
    let hub = bench.end(&["n", "none"]).await;
    assert!(cells(&hub).iter().all(|code| code == "print(b)"));
}

#[tokio::test]
async fn a_monkey_without_a_notebook_to_run_keeps_no_clone_while_it_waits() {
    let files = [("a.ipynb", &*notebook(&[("", "print(a)")]))];
    let mut bench = Bench::new(&files).await;
    let rules = json!([{"type": "exclude_union_of", "patterns": ["**"]}]);
    let options = json!({"collection_rules": rules, "error_idle_time": 3600});
    bench.start("n", 1, "NotebookRunnerInfinite", &options).await;
    bench.until_said("n", "Restarting failed monkey").await;
    bench.until_clones(0).await;
    // Here the last notebook goes with a refresh, while the monkey holds a clone.
    bench
        .start("m", 1, "NotebookRunnerInfinite", &json!({"error_idle_time": 3600}))
        .await;
    bench.until_said("m", "Success running notebook a.ipynb").await;
    bench.push(&[("mobu.yaml", "exclude_dirs: ['.']\n")]);
    bench.leader.command(Command::Refresh(name("m"))).await;
    bench.until_said("m", "Restarting failed monkey").await;
    bench.until_clones(0).await;
    bench.end(&["n", "m"]).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_repository_fails_the_start_and_says_so() {
    let files = [("mobu.yaml", "exclude: [x]\n"), ("a.ipynb", &*notebook(&[]))];
    let mut bench = Bench::new(&files).await;
    let gone = format!("file://user:pass-word@{}", bench.path("gone.git").display());
    for (flock, options, kind, text) in [
        (
            "config",
            json!({}),
            "find_notebooks",
            "repository: Error parsing config file: mobu.yaml",
        ),
        (
            "gone",
            json!({"repo_url": gone}),
            "clone_repo",
            "clone: cannot clone `main` of file:///",
        ),
        (
            "ref",
            json!({"repo_ref": "none"}),
            "clone_repo",
            "clone: cannot clone `none` of file:///",
        ),
    ] {
        bench.start(flock, 1, "NotebookRunnerList", &options).await;
        let log = bench.until_said(flock, "Restarting failed monkey").await;
        assert!(
            log.contains(text) && log.contains(&format!("\"phase\": \"{kind}\"")),
            "{log}"
        );
        assert!(!log.contains("pass-word"), "{log}");
    }
    bench.push(&[("mobu.yaml", "exclude_dirs: [/x]\n")]);
    bench.start("rule", 1, "NotebookRunnerList", &json!({})).await;
    let log = bench.until_said("rule", "Restarting failed monkey").await;
    assert!(log.contains("Non-relative patterns are unsupported: '/x/**'"), "{log}");
    let hub = bench.end(&["config", "gone", "ref", "rule"]).await;
    assert_eq!(hub.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_stop_ends_a_pause_between_cells_and_a_cell() {
    let files = [("a.ipynb", &*notebook(&[("", "print(a)"), ("", "sleep")]))];
    let mut bench = Bench::new(&files).await;
    bench.start("cell", 1, "NotebookRunnerInfinite", &json!({})).await;
    bench.until_said("cell", r"Executing cell 2:\nsleep").await;
    bench
        .start(
            "pause",
            1,
            "NotebookRunnerInfinite",
            &json!({"execution_idle_time": 3600}),
        )
        .await;
    bench.until_said("pause", r"Result:\na").await;
    let begun = clock::now();
    bench.end(&["cell", "pause"]).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn notebooks_and_cells_are_events_that_say_which_ones() {
    let files = [("a/x.ipynb", &*notebook(&[("fine", "print(1)"), ("bad", "raise Oops")]))];
    let mut bench = Bench::new(&files).await;
    let hash = git(&bench.path("work"), &["rev-parse", "HEAD"]);
    bench.start("n", 1, "NotebookRunnerInfinite", &json!({})).await;
    let is_ours = |act: &Act| matches!(act, Act::NotebookExecution { .. } | Act::NotebookCellExecution { .. });
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(bench.listener.until(is_ours).await);
    }
    let source = NotebookSource {
        notebook: "a/x.ipynb".to_owned(),
        repo: bench.url(),
        repo_ref: "main".to_owned(),
        repo_hash: hash.trim().to_owned(),
    };
    for (act, wanted) in heard
        .iter()
        .zip([(Some("fine"), true), (Some("bad"), false), (None, false)])
    {
        let (notebook, cell) = match act {
            Act::NotebookExecution { notebook, .. } => (notebook, None),
            Act::NotebookCellExecution { notebook, cell_id, .. } => (notebook, Some(cell_id.as_str())),
            _ => panic!("{act:?}"),
        };
        assert_eq!((notebook, (cell, act.is_success())), (&source, wanted));
        assert!(act.duration().is_some_and(|duration| !duration.is_zero()), "{act:?}");
    }
    let (cells, all) = (heard[0].duration().unwrap(), heard[2].duration().unwrap());
    assert!(all > cells, "a notebook lasts as long as its cells and pauses");
    bench.end(&["n"]).await;
}
