//! Which business a configuration asks for: the one place where a business is added.

use std::sync::Arc;

use mobu_fleet::domain::business::BusinessOptions;
use tokio::task::JoinSet;

use super::Business;
use super::empty_loop::EmptyLoop;
use super::git_lfs::GitLfs;
use super::http_runner::HttpRunner;
use super::muster::Muster;
use super::notebook_runner::{NotebookRunner, Options as Notebooks};
use super::nublado::InLab;
use super::nublado_python_loop::{NubladoPythonLoop, PythonLoop};
use super::sia_query_set_runner::SiaQuerySetRunner;
use super::tap_query_runner::TapQueryRunner;
use super::tap_query_set_runner::TapQuerySetRunner;
use crate::monkey::{Monkey, task};

/// Starts a monkey in a task of its own. Each business has a life of its own type, so that none pays for the size of another.
pub(crate) fn start(monkey: &Arc<Monkey>, tasks: &mut JoinSet<()>) {
    match &monkey.flock().business.options {
        BusinessOptions::EmptyLoop(_) => live(monkey, tasks, |_| EmptyLoop),
        BusinessOptions::HttpRunner(options) => {
            let options = options.clone();
            live(monkey, tasks, move |monkey| HttpRunner::new(options.clone(), monkey));
        }
        BusinessOptions::Muster(_) => live(monkey, tasks, |_| Muster::default()),
        BusinessOptions::GitLfs(options) => {
            let options = options.clone();
            live(monkey, tasks, move |monkey| GitLfs::new(options.clone(), monkey));
        }
        BusinessOptions::TapQueryRunner(options) => {
            let options = options.clone();
            live(monkey, tasks, move |monkey| {
                TapQueryRunner::new(options.clone(), monkey)
            });
        }
        BusinessOptions::TapQuerySetRunner(options) => {
            let options = options.clone();
            live(monkey, tasks, move |monkey| {
                TapQuerySetRunner::new(options.clone(), monkey)
            });
        }
        BusinessOptions::SiaQuerySetRunner(options) => {
            let options = options.clone();
            live(monkey, tasks, move |monkey| {
                SiaQuerySetRunner::new(options.clone(), monkey)
            });
        }
        BusinessOptions::NubladoPythonLoop(options) => {
            let options = options.clone();
            live(monkey, tasks, move |monkey| {
                NubladoPythonLoop::new(PythonLoop::new(options.clone()), monkey)
            });
        }
        BusinessOptions::NotebookRunnerCounting(options) => {
            notebooks(monkey, tasks, Notebooks::Counting(options.clone()));
        }
        BusinessOptions::NotebookRunnerList(options) => notebooks(monkey, tasks, Notebooks::List(options.clone())),
        BusinessOptions::NotebookRunnerInfinite(options) => {
            notebooks(monkey, tasks, Notebooks::Infinite(options.clone()));
        }
    }
}

fn notebooks(monkey: &Arc<Monkey>, tasks: &mut JoinSet<()>, options: Notebooks) {
    live(monkey, tasks, move |monkey| {
        InLab::new(NotebookRunner::new(options.clone(), monkey), monkey)
    });
}

fn live<B, F>(monkey: &Arc<Monkey>, tasks: &mut JoinSet<()>, make: F)
where
    B: Business + 'static,
    F: Fn(&Monkey) -> B + Send + Sync + 'static,
{
    tasks.spawn(task::live(monkey.clone(), make));
}
