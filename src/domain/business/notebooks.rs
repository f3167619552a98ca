//! Businesses that run the notebooks of a repository.

use std::collections::BTreeSet;

use schemars::JsonSchema;

use super::nublado::{MAX_EXECUTIONS, default_max_executions, max_executions};
use super::{CommonOptions, NubladoOptions};
use crate::domain::duration::HumanDuration;
use crate::domain::validation::{Extra, Fields, FromInput, Input, Parsed, choices, posix_path};

choices! {
    /// What a rule does with the notebooks that its patterns match.
    CollectionRuleKind, "literal_error", any_case = false, {
        /// Keeps only those that at least one pattern matches.
        IntersectUnionOf = "intersect_union_of",
        /// Drops those that any pattern matches.
        ExcludeUnionOf = "exclude_union_of",
    }
}

/// A rule that narrows the notebooks that are run (`contracts/config.md` 7.2).
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub struct CollectionRule {
    /// What it does.
    #[schemars(rename = "type")]
    pub kind: CollectionRuleKind,
    /// Globs of Python's `pathlib`, relative to the repository. Without any, an intersection is empty.
    pub patterns: BTreeSet<String>,
}

impl FromInput for CollectionRule {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("CollectionRule")?;
        let kind = fields.required("type");
        let patterns = fields.required_by("patterns", |input| input.set(String::from_input));
        let echo = fields.close(Extra::Ignored)?;
        let rule = Self {
            kind: kind?,
            patterns: patterns?,
        };
        Some(Parsed::new(rule, echo))
    }
}

/// Options of the three notebook runners (`contracts/config.md` 6.4).
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub struct NotebookOptions {
    /// Repository, anything that git clones; mobu's demonstration unless given.
    #[schemars(default = "NotebookOptions::demo")]
    pub repo_url: String,
    /// Branch, tag or commit; `prod` unless given.
    #[schemars(default = "NotebookOptions::prod")]
    pub repo_ref: String,
    /// Directories below which no notebook is run, as Python writes paths. Deprecated in mobu.
    #[schemars(default)]
    pub exclude_dirs: BTreeSet<String>,
    /// Rules that narrow the notebooks that are run, in order.
    #[schemars(default)]
    pub collection_rules: Vec<CollectionRule>,
    /// Pause after each notebook; none unless given.
    #[schemars(default)]
    pub notebook_idle_time: HumanDuration,
}

impl NotebookOptions {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            repo_url: fields.or("repo_url", Self::demo()),
            repo_ref: fields.or("repo_ref", Self::prod()),
            exclude_dirs: fields.or_by("exclude_dirs", BTreeSet::new(), |input| input.set(posix_path)),
            collection_rules: fields.or("collection_rules", Vec::new()),
            notebook_idle_time: fields.or("notebook_idle_time", HumanDuration::ZERO),
        }
    }

    fn demo() -> String {
        "https://github.com/lsst-sqre/notebook-demo.git".to_owned()
    }

    fn prod() -> String {
        "prod".to_owned()
    }
}

/// Returns the place of a repository without what opens it: for whoever only looks.
///
/// Anything that git clones is welcome. Of a URL with `http` or `https` user and password become `***`, as a name may be a token by
/// itself; of other URLs the password only, for `git@` is none; and so do the values of a query. Nothing is left of a URL whose query holds an
/// `@` that may as well end a password.
pub fn shown_repo_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (written, rest) = split_user_info(rest);
    if written.is_some_and(may_hold_the_host) {
        return format!("{scheme}://***");
    }
    let (place, query) = rest
        .split_once('?')
        .map_or((rest, None), |(place, query)| (place, Some(query)));
    let mut shown = format!("{scheme}://");
    if let Some(written) = written {
        match written.split_once(':') {
            _ if scheme.to_ascii_lowercase().starts_with("http") => shown.push_str("***@"),
            Some((user, _)) => shown.extend([user, ":***@"]),
            None => shown.extend([written, "@"]),
        }
    }
    shown.push_str(place);
    if let Some(query) = query {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key, _)) => format!("{key}=***"),
            None => pair.to_owned(),
        });
        shown.push('?');
        shown.push_str(&pairs.collect::<Vec<_>>().join("&"));
    }
    shown
}

/// Splits what follows `://` in a URL into user and password, if they are there, and the rest, which begins with the host.
///
/// A `/`, `?` or `#` that somebody forgot to encode in a password ends the authority too early (RFC 3986, 3.2): what then follows the
/// last `:` is no port, or an `@` follows in the first part of the path. All up to the last `@` is taken for the password then, which may
/// hide too much, and never too little.
pub fn split_user_info(rest: &str) -> (Option<&str>, &str) {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let at = authority.rfind('@');
    let host = at.map_or(authority, |at| &authority[at + 1..]);
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_port = host.starts_with('[') || host.rsplit_once(':').is_none_or(|(_, port)| is_port(port));
    let first_part = rest[end..].get(1..).unwrap_or_default();
    let first_part = first_part.split('/').next().unwrap_or_default();
    let goes_on = !has_port || (at.is_some() && first_part.contains('@'));
    let at = if goes_on { rest.rfind('@') } else { at };
    at.map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]))
}

/// Returns whether what [`split_user_info`] took for user and password may go on behind them, to somewhere in a query or fragment: what
/// is said to begin with the host then may be part of a secret too.
pub fn may_hold_the_host(user_info: &str) -> bool {
    let at = user_info.find('@');
    at.is_some_and(|at| user_info[at..].contains(['?', '#']))
}

impl Default for NotebookOptions {
    fn default() -> Self {
        Self {
            repo_url: Self::demo(),
            repo_ref: Self::prod(),
            exclude_dirs: BTreeSet::new(),
            collection_rules: Vec::new(),
            notebook_idle_time: HumanDuration::ZERO,
        }
    }
}

/// Options of `NotebookRunnerInfinite` and of `NotebookRunnerList`.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NotebookRunnerOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
    /// Options of every business that runs code in a lab.
    #[schemars(flatten)]
    pub nublado: NubladoOptions,
    /// Options of the three notebook runners.
    #[schemars(flatten)]
    pub notebooks: NotebookOptions,
}

impl NotebookRunnerOptions {
    pub(super) fn from_list(input: &Input<'_>) -> Option<Parsed<Self>> {
        Self::from_model(input, "NotebookRunnerListOptions")
    }

    fn from_model(input: &Input<'_>, model: &str) -> Option<Parsed<Self>> {
        let mut fields = input.model(model)?;
        let options = Self {
            common: CommonOptions::read(&mut fields),
            nublado: NubladoOptions::read(&mut fields),
            notebooks: NotebookOptions::read(&mut fields),
        };
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(options, echo))
    }
}

impl FromInput for NotebookRunnerOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        Self::from_model(input, "NotebookRunnerOptions")
    }
}

/// Options of `NotebookRunnerCounting`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NotebookRunnerCountingOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
    /// Options of every business that runs code in a lab.
    #[schemars(flatten)]
    pub nublado: NubladoOptions,
    /// Options of the three notebook runners.
    #[schemars(flatten)]
    pub notebooks: NotebookOptions,
    /// How many notebooks run in one session, 1 or more; 25 unless given.
    #[schemars(default = "default_max_executions", range(min = 1))]
    pub max_executions: u64,
}

impl Default for NotebookRunnerCountingOptions {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            nublado: NubladoOptions::default(),
            notebooks: NotebookOptions::default(),
            max_executions: MAX_EXECUTIONS,
        }
    }
}

impl FromInput for NotebookRunnerCountingOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("NotebookRunnerCountingOptions")?;
        let options = Self {
            common: CommonOptions::read(&mut fields),
            nublado: NubladoOptions::read(&mut fields),
            notebooks: NotebookOptions::read(&mut fields),
            max_executions: max_executions(&mut fields),
        };
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(options, echo))
    }
}
