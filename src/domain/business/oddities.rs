//! Options that mobu accepts, and so do we, although whoever wrote them cannot have meant what they do.

use super::{BusinessConfig, BusinessOptions, NotebookOptions, NubladoOptions, TapOptions};
use crate::domain::duration::HumanDuration;

impl BusinessConfig {
    /// Returns what is odd about the options, one remark each: what an option does instead of what it seems to say.
    pub fn oddities(&self) -> Vec<String> {
        let common = self.common();
        let mut odd = Oddities::default();
        odd.negative("error_idle_time", common.error_idle_time);
        odd.negative("idle_time", common.idle_time);
        match &self.options {
            BusinessOptions::EmptyLoop(options) => {
                let is_busy = !options.common.idle_time.is_positive();
                odd.if_so(
                    is_busy,
                    "`idle_time` leaves no pause: the monkeys do nothing without rest",
                );
            }
            BusinessOptions::TapQueryRunner(options) => {
                odd.tap(&options.tap);
                odd.if_so(
                    options.queries.is_empty(),
                    "there are no `queries`: every iteration fails",
                );
            }
            BusinessOptions::TapQuerySetRunner(options) => odd.tap(&options.tap),
            BusinessOptions::NubladoPythonLoop(options) => odd.nublado(&options.nublado),
            BusinessOptions::NotebookRunnerCounting(options) => odd.notebooks(&options.nublado, &options.notebooks),
            BusinessOptions::NotebookRunnerInfinite(options) | BusinessOptions::NotebookRunnerList(options) => {
                odd.notebooks(&options.nublado, &options.notebooks);
            }
            BusinessOptions::HttpRunner(_)
            | BusinessOptions::Muster(_)
            | BusinessOptions::GitLfs(_)
            | BusinessOptions::SiaQuerySetRunner(_) => {}
        }
        odd.0
    }
}

#[derive(Debug, Default)]
struct Oddities(Vec<String>);

impl Oddities {
    fn if_so(&mut self, is_so: bool, remark: &str) {
        if is_so {
            self.0.push(remark.to_owned());
        }
    }

    fn negative(&mut self, option: &str, given: HumanDuration) {
        let is_negative = !given.is_positive() && !given.is_zero();
        self.if_so(is_negative, &format!("`{option}` is negative, and counts as 0"));
    }

    fn tap(&mut self, options: &TapOptions) {
        let is_over = options.query_timeout.is_some_and(|seconds| seconds <= 0.0);
        self.if_so(is_over, "`query_timeout` leaves no time: every query fails at once");
    }

    fn notebooks(&mut self, nublado: &NubladoOptions, notebooks: &NotebookOptions) {
        self.nublado(nublado);
        self.negative("notebook_idle_time", notebooks.notebook_idle_time);
    }

    fn nublado(&mut self, options: &NubladoOptions) {
        self.negative("delete_timeout", options.delete_timeout);
        self.negative("execution_idle_time", options.execution_idle_time);
        self.negative("jitter", options.jitter);
        self.negative("spawn_settle_time", options.spawn_settle_time);
        self.if_so(
            options.spawn_settle_time >= options.spawn_timeout,
            "`spawn_settle_time` is not shorter than `spawn_timeout`: no spawn has time to end",
        );
        self.if_so(
            !options.jupyter_timeout.is_positive(),
            "`jupyter_timeout` leaves no time: every request to hub and lab fails",
        );
        self.if_so(
            options.cell_execution_timeout.is_some_and(|limit| !limit.is_positive()),
            "`cell_execution_timeout` leaves no time: all code fails at once",
        );
        self.if_so(
            options.url_prefix != NubladoOptions::default().url_prefix,
            "`url_prefix` has no effect, as in mobu: service discovery says where the hub is",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::domain::flock::FlockConfig;

    fn oddities(business: &str, options: &Value) -> Vec<String> {
        let flock = json!({
            "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-a"}, "scopes": [],
            "business": {"type": business, "options": options},
        });
        FlockConfig::parse(&flock).unwrap().business.oddities()
    }

    #[test]
    fn options_that_do_what_nobody_means_are_accepted_and_remarked_upon() {
        let none: [&str; 0] = [];
        assert_eq!(oddities("NotebookRunnerCounting", &json!({})), none);
        assert_eq!(oddities("TAPQuerySetRunner", &json!({"query_timeout": 5})), none);
        assert_eq!(
            oddities(
                "HTTPRunner",
                &json!({"requests": [{"url": "http://a.test/"}], "idle_time": 0})
            ),
            none
        );
        let odd = json!({
            "idle_time": "-3", "jitter": -1, "spawn_timeout": 5, "jupyter_timeout": 0, "cell_execution_timeout": -1,
            "url_prefix": "nb", "notebook_idle_time": -0.5,
        });
        assert_eq!(
            oddities("NotebookRunnerList", &odd),
            [
                "`idle_time` is negative, and counts as 0",
                "`jitter` is negative, and counts as 0",
                "`spawn_settle_time` is not shorter than `spawn_timeout`: no spawn has time to end",
                "`jupyter_timeout` leaves no time: every request to hub and lab fails",
                "`cell_execution_timeout` leaves no time: all code fails at once",
                "`url_prefix` has no effect, as in mobu: service discovery says where the hub is",
                "`notebook_idle_time` is negative, and counts as 0",
            ]
        );
        assert_eq!(
            oddities("TAPQueryRunner", &json!({"queries": [], "query_timeout": -1})),
            [
                "`query_timeout` leaves no time: every query fails at once",
                "there are no `queries`: every iteration fails",
            ]
        );
        assert_eq!(oddities("EmptyLoop", &json!({"idle_time": 0})).len(), 1);
    }
}
