//! Every path that exists, for redirects, `Allow` and metrics: mobu's router knows these before it knows the method.

use super::Api;

/// A path that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    /// Its pattern, without the prefix.
    pub(super) pattern: &'static str,
    /// The method that `Allow` names: that of its first route.
    pub(super) allow: &'static str,
}

const fn route(pattern: &'static str, allow: &'static str) -> Route {
    Route { pattern, allow }
}

const ROOT: [Route; 4] = [
    route("/", "GET"),
    route("/healthz", "GET"),
    route("/readyz", "GET"),
    route("/metrics", "GET"),
];

const PREFIXED: [Route; 20] = [
    route("/", "GET"),
    route("/openapi.json", "GET"),
    route("/docs", "GET"),
    route("/redoc", "GET"),
    route("/flocks", "GET"),
    route("/flocks/{flock}", "GET"),
    route("/flocks/{flock}/refresh", "POST"),
    route("/flocks/{flock}/monkeys", "GET"),
    route("/flocks/{flock}/monkeys/{monkey}", "GET"),
    route("/flocks/{flock}/monkeys/{monkey}/log", "GET"),
    route("/flocks/{flock}/summary", "GET"),
    route("/summary", "GET"),
    route("/stop", "POST"),
    route("/refresh", "POST"),
    route("/fleet", "GET"),
    route("/replicas", "GET"),
    route("/replicas/{instance_id}", "GET"),
    route("/revisions", "GET"),
    route("/revisions/{revision}", "GET"),
    route("/events", "GET"),
];

const WEBHOOK: Route = route("/github/refresh/webhook", "POST");

/// Returns the route of a path as it was sent, if it exists.
pub(super) fn find(api: &Api, path: &str) -> Option<Route> {
    if let Some(found) = ROOT.iter().find(|route| matches(route.pattern, path)) {
        return Some(*found);
    }
    let path = path.strip_prefix(&*api.prefix)?;
    let found = PREFIXED.iter().find(|route| matches(route.pattern, path)).copied();
    found.or_else(|| (api.config.github_refresh.is_some() && matches(WEBHOOK.pattern, path)).then_some(WEBHOOK))
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut expected, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), given.next()) {
            (None, None) => return true,
            (Some(step), Some(part)) if step == part || (step.starts_with('{') && !part.is_empty()) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_one_part_that_is_not_empty() {
        assert!(matches("/flocks/{flock}/summary", "/flocks/a%2Fb/summary"));
        for path in [
            "/flocks//summary",
            "/flocks/a/summary/",
            "/flocks/a/b/summary",
            "flocks/a/summary",
            "/flocks/a",
        ] {
            assert!(!matches("/flocks/{flock}/summary", path), "{path}");
        }
    }
}
