use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use futures_lite::future::poll_once;
use tempfile::TempDir;

use super::*;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A repository that others clone, and where the clones go.
struct Bench {
    directory: TempDir,
    clones: Clones,
}

fn git(directory: &Path, arguments: &[&str]) {
    let settings = [
        "-c",
        "user.name=n",
        "-c",
        "user.email=e",
        "-c",
        "init.defaultBranch=main",
    ];
    let ran = std::process::Command::new("git")
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
}

impl Bench {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["work", "clones"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let path = std::env::var_os("PATH").unwrap();
        let environment = [("PATH", path), ("GIT_ALLOW_PROTOCOL", "file:ext".into())];
        let git_surroundings = GitSurroundings {
            environment: environment.map(|(name, value)| (name.into(), value)).into(),
        };
        let parent = Some(directory.path().join("clones"));
        let bench = Self {
            clones: Clones::with_limits(Tasks::new(), parent, git_surroundings, limits),
            directory,
        };
        git(&bench.path("work"), &["init", "--quiet"]);
        git(&bench.path(""), &["init", "--quiet", "--bare", "bare.git"]);
        bench.push("one");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a commit in which the file `file` has this text.
    fn push(&self, text: &str) {
        let (work, bare) = (self.path("work"), self.path("bare.git"));
        fs::write(work.join("file"), text).unwrap();
        git(&work, &["add", "file"]);
        git(&work, &["commit", "--quiet", "-m", text]);
        git(&work, &["push", "--quiet", &bare.to_string_lossy(), "HEAD:main"]);
    }

    fn repository(&self) -> Repository {
        Repository {
            url: format!("file://{}", self.path("bare.git").display()),
            reference: "main".to_owned(),
        }
    }

    /// A repository on a server that is slow: it writes down its number, and waits for a file `go`.
    fn slow(&self, name: &str) -> Repository {
        let script = self.path(name);
        let (base, origin) = (self.directory.path().display(), self.path("bare.git"));
        let wait = format!("until [ -e {base}/go ]; do sleep 0.02; done");
        let text = format!(
            "#!/bin/sh\necho $$ >> {base}/pids\n{wait}\nexec git upload-pack {}\n",
            origin.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Repository {
            url: format!("ext::{}", script.display()),
            reference: "main".to_owned(),
        }
    }

    fn pids(&self) -> Vec<String> {
        let pids = fs::read_to_string(self.path("pids")).unwrap_or_default();
        pids.lines().map(str::to_owned).collect()
    }

    /// How many directories of clones there are.
    fn count(&self) -> usize {
        let roots = fs::read_dir(self.path("clones")).unwrap();
        let entries = roots.flat_map(|root| fs::read_dir(root.unwrap().path()).into_iter().flatten());
        entries
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() != "lock"))
            .count()
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = clock::now() + PATIENCE;
        while !is_so(self) {
            assert!(
                clock::now() < deadline,
                "{what}: {} clones, pids {:?}",
                self.count(),
                self.pids()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_empty(&self) {
        let is_empty = |bench: &Self| fs::read_dir(bench.path("clones")).unwrap().count() == 0;
        self.until("nothing is left", is_empty).await;
    }
}

fn text(copy: &WorkingCopy) -> String {
    fs::read_to_string(copy.path().join("file")).unwrap()
}

fn is_alive(pid: &str) -> bool {
    // A zombie that nobody has waited for yet has no command any more.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty())
}

#[tokio::test]
async fn who_asks_for_the_same_shares_one_clone_and_the_last_one_removes_it() {
    let bench = Bench::new();
    let repository = bench.repository();
    let (one, two) = tokio::join!(bench.clones.get(&repository, None), bench.clones.get(&repository, None));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!((text(&one).as_str(), one.hash().len(), bench.count()), ("one", 40, 1));
    bench.push("two");
    let three = bench.clones.get(&repository, None).await.unwrap();
    assert!(Arc::ptr_eq(&one, &three), "nobody asked for a newer one");
    drop((one, two));
    assert_eq!(text(&three), "one");
    drop(three);
    bench.until_empty().await;
    let anew = bench.clones.get(&repository, None).await.unwrap();
    assert_eq!(text(&anew), "two");
}

#[tokio::test]
async fn a_refresh_makes_one_new_clone_for_all_and_takes_no_old_one_away() {
    let bench = Bench::new();
    let repository = bench.repository();
    let old = bench.clones.get(&repository, None).await.unwrap();
    // The same commit, then another one.
    for expected in ["one", "two"] {
        if expected == "two" {
            bench.push("two");
        }
        let asked = clock::now();
        let first = bench.clones.get(&repository, Some(asked)).await.unwrap();
        let second = bench.clones.get(&repository, Some(asked)).await.unwrap();
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &old));
        assert_eq!(
            (text(&first).as_str(), text(&old).as_str(), bench.count()),
            (expected, "one", 2)
        );
        drop((first, second));
        bench.until("the new one goes", |bench| bench.count() == 1).await;
        assert_eq!(text(&old), "one");
    }
    drop(old);
    bench.until_empty().await;
}

#[tokio::test]
async fn a_refresh_does_not_take_what_was_begun_before_it() {
    let bench = Bench::new();
    let slow = bench.slow("server");
    let old = bench.clones.get(&slow, None);
    let mut old = std::pin::pin!(old);
    assert!(poll_once(old.as_mut()).await.is_none());
    bench.until("git asks", |bench| bench.pids().len() == 1).await;
    let new = bench.clones.get(&slow, Some(clock::now()));
    let mut new = std::pin::pin!(new);
    assert!(poll_once(new.as_mut()).await.is_none());
    fs::write(bench.path("go"), "").unwrap();
    let (old, new) = tokio::join!(old, new);
    let (old, new) = (old.unwrap(), new.unwrap());
    assert!(!Arc::ptr_eq(&old, &new) && old.begun() < new.begun());
    assert_eq!(bench.pids().len(), 2);
    let newest = bench.clones.get(&slow, None).await.unwrap();
    assert!(Arc::ptr_eq(&newest, &new));
}

#[tokio::test]
async fn git_is_killed_when_nobody_waits_any_more_and_nothing_is_left() {
    let bench = Bench::new();
    let slow = bench.slow("server");
    {
        let mut waiting = std::pin::pin!(bench.clones.get(&slow, None));
        let mut other = std::pin::pin!(bench.clones.get(&slow, None));
        assert!(poll_once(waiting.as_mut()).await.is_none() && poll_once(other.as_mut()).await.is_none());
        bench.until("git asks", |bench| bench.pids().len() == 1).await;
    }
    bench.until("git is gone", |bench| !is_alive(&bench.pids()[0])).await;
    bench.until_empty().await;
}

#[tokio::test]
async fn one_who_leaves_does_not_take_the_clone_from_those_who_wait() {
    let bench = Bench::new();
    let slow = bench.slow("server");
    let mut staying = std::pin::pin!(bench.clones.get(&slow, None));
    {
        let mut leaving = std::pin::pin!(bench.clones.get(&slow, None));
        assert!(poll_once(leaving.as_mut()).await.is_none());
        assert!(poll_once(staying.as_mut()).await.is_none());
        bench.until("git asks", |bench| bench.pids().len() == 1).await;
    }
    fs::write(bench.path("go"), "").unwrap();
    assert_eq!(text(&staying.await.unwrap()), "one");
    assert_eq!(bench.pids().len(), 1);
}

#[tokio::test]
async fn a_server_that_hangs_delays_nobody_else_and_not_for_ever() {
    let limits = Limits {
        clone: Duration::from_secs(10),
        ..Limits::default()
    };
    let bench = Bench::with_limits(limits);
    let slow = bench.slow("server");
    let repository = bench.repository();
    let mut hanging = std::pin::pin!(bench.clones.get(&slow, None));
    assert!(poll_once(hanging.as_mut()).await.is_none());
    let other = tokio::select! {
        biased;
        _ = hanging.as_mut() => panic!("it answers nothing"),
        other = bench.clones.get(&repository, None) => other.unwrap(),
    };
    let error = hanging.await.unwrap_err();
    let CloneError::Git { source, .. } = &*error else {
        panic!("{error}")
    };
    assert!(source.to_string().contains("did not end within 10s"), "{source}");
    assert_eq!((text(&other).as_str(), bench.count()), ("one", 1));
}

#[tokio::test]
async fn a_clone_that_fails_leaves_nothing_says_no_secret_and_is_tried_again() {
    let bench = Bench::new();
    let mut repository = bench.repository();
    for (reference, said) in [("nosuch", "nosuch"), ("--help", "`--help` is no branch, tag or commit")] {
        repository.reference = reference.to_owned();
        let error = bench.clones.get(&repository, None).await.unwrap_err();
        let chain = mobu_fleet::runtime::process::chain(&*error);
        assert!(chain.contains(said), "{chain}");
    }
    bench.until_empty().await;
    let later = Repository {
        url: format!("file://user:pass%20word@{}/later.git", bench.directory.path().display()),
        reference: "main".to_owned(),
    };
    let error = bench.clones.get(&later, None).await.unwrap_err();
    let chain = mobu_fleet::runtime::process::chain(&*error);
    assert!(
        chain.contains("later.git") && !chain.contains("user") && !chain.contains("word"),
        "{chain}"
    );
    bench.until_empty().await;
    let later = Repository {
        url: format!("file://{}/later.git", bench.directory.path().display()),
        ..later
    };
    assert!(bench.clones.get(&later, None).await.is_err());
    fs::rename(bench.path("bare.git"), bench.path("later.git")).unwrap();
    assert_eq!(text(&bench.clones.get(&later, None).await.unwrap()), "one");
}

#[tokio::test]
async fn branches_with_slashes_tags_and_commits_are_checked_out() {
    let bench = Bench::new();
    let (work, bare) = (bench.path("work"), bench.path("bare.git"));
    git(&work, &["tag", "v1"]);
    bench.push("two");
    let bare = bare.to_string_lossy();
    git(&work, &["push", "--quiet", &bare, "v1", "HEAD:u/me/branch"]);
    let first = bench.repository();
    let commit = {
        let tagged = Repository {
            reference: "v1".to_owned(),
            ..first.clone()
        };
        let copy = bench.clones.get(&tagged, None).await.unwrap();
        assert_eq!(text(&copy), "one");
        copy.hash().to_owned()
    };
    for (reference, expected) in [(commit.as_str(), "one"), ("u/me/branch", "two"), ("main", "two")] {
        let repository = Repository {
            reference: reference.to_owned(),
            ..first.clone()
        };
        assert_eq!(
            text(&bench.clones.get(&repository, None).await.unwrap()),
            expected,
            "{reference}"
        );
    }
}

const NOTEBOOK: &str = r#"{"metadata": {}, "cells": [{"cell_type": "code", "source": "1"}]}"#;

impl Bench {
    /// Makes a commit in which the file `x.ipynb` has this text.
    fn push_notebook(&self, text: &str) {
        fs::write(self.path("work").join("x.ipynb"), text).unwrap();
        git(&self.path("work"), &["add", "x.ipynb"]);
        self.push("with a notebook");
    }
}

#[tokio::test]
async fn a_notebook_is_read_once_for_all_who_run_it_and_goes_with_the_clone() {
    let bench = Bench::new();
    bench.push_notebook(NOTEBOOK);
    let copy = bench.clones.get(&bench.repository(), None).await.unwrap();
    let catalog = copy.catalog().await.unwrap();
    let listed = &catalog.notebooks[0];
    // As if two large ones were being read.
    let readers = bench.clones.workshop.readers.clone();
    let turns = readers.acquire_many(u32::try_from(READERS).unwrap()).await.unwrap();
    let mut asking: Vec<_> = (0..50).map(|_| Box::pin(copy.notebook(listed))).collect();
    for one in &mut asking {
        assert!(poll_once(one.as_mut()).await.is_none(), "it waits for its turn");
    }
    drop(turns);
    // Who read it for the others may be told to stop.
    drop(asking.remove(0));
    let first = asking.remove(0).await.unwrap();
    fs::remove_file(copy.path().join("x.ipynb")).unwrap();
    for one in asking {
        assert!(Arc::ptr_eq(&one.await.unwrap(), &first));
    }
    let content = Arc::downgrade(&first);
    drop((first, catalog, copy));
    bench.until("its content goes", |_| content.strong_count() == 0).await;
    bench.until_empty().await;
}

#[tokio::test]
async fn a_notebook_that_could_not_be_read_is_tried_again() {
    let bench = Bench::new();
    bench.push_notebook(r#"{"metadata": {}}"#);
    let copy = bench.clones.get(&bench.repository(), None).await.unwrap();
    let catalog = copy.catalog().await.unwrap();
    let error = copy.notebook(&catalog.notebooks[0]).await.unwrap_err().to_string();
    assert!(error.starts_with("missing field `cells`"), "{error}");
    fs::write(copy.path().join("x.ipynb"), NOTEBOOK).unwrap();
    assert_eq!(copy.notebook(&catalog.notebooks[0]).await.unwrap().cells.len(), 1);
}

#[tokio::test]
async fn a_server_that_asks_is_told_the_password_and_no_command_line_has_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let into = asked.clone();
    let server = axum::Router::new().fallback(async move |headers: http::HeaderMap| {
        let Some(given) = headers.get("authorization") else {
            let challenge = [("www-authenticate", "Basic realm=\"test\"")];
            return (http::StatusCode::UNAUTHORIZED, challenge);
        };
        into.lock().unwrap().push(given.to_str().unwrap().to_owned());
        (http::StatusCode::NOT_FOUND, [("x-a", "b")])
    });
    let tasks = Tasks::new();
    tasks.spawn(TaskKind::Expendable, "git server", async move {
        axum::serve(listener, server).await.unwrap();
    });
    let environment = vec![("PATH".into(), std::env::var_os("PATH").unwrap())];
    let clones = Clones::with_limits(Tasks::new(), None, GitSurroundings { environment }, Limits::default());
    let repository = Repository {
        url: format!("http://user:pass%20word@{host}/a.git"),
        reference: "main".to_owned(),
    };
    let error = clones.get(&repository, None).await.unwrap_err();
    let chain = mobu_fleet::runtime::process::chain(&*error);
    assert!(chain.contains("a.git") && !chain.contains("word"), "{chain}");
    let asked = asked.lock().unwrap();
    // `user:pass word`
    assert!(
        !asked.is_empty() && asked.iter().all(|given| given == "Basic dXNlcjpwYXNzIHdvcmQ="),
        "{asked:?}"
    );
    tasks.abort_token().cancel();
}
