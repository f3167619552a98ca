//! Which notebooks of a clone are run (`contracts/config.md` 7.2).

use std::collections::BTreeSet;

use mobu_fleet::domain::business::{CollectionRule, CollectionRuleKind, NotebookOptions};

use super::glob::{Glob, GlobError};
use crate::client::repository::{Catalog, Listed};

/// What narrows the notebooks of a repository, in order.
#[derive(Debug)]
pub(super) struct Selection {
    rules: Vec<(CollectionRuleKind, Vec<Glob>)>,
}

impl Selection {
    /// Puts together what the flock and the repository ask for.
    pub(super) fn new(options: &NotebookOptions, catalog: &Catalog) -> Result<Self, GlobError> {
        let below = options.exclude_dirs.iter().chain(&catalog.config.exclude_dirs);
        let excluded = CollectionRule {
            kind: CollectionRuleKind::ExcludeUnionOf,
            patterns: below.map(|directory| format!("{directory}/**")).collect(),
        };
        let rules = options.collection_rules.iter();
        let rules = rules.chain(&catalog.config.collection_rules).chain([&excluded]);
        let parsed = rules.map(|rule| {
            let globs = rule.patterns.iter().map(|pattern| Glob::parse(pattern));
            Ok((rule.kind, globs.collect::<Result<_, _>>()?))
        });
        Ok(Self {
            rules: parsed.collect::<Result<_, GlobError>>()?,
        })
    }

    /// Returns the positions of those notebooks that no rule takes away, and that find every application that they require.
    pub(super) fn of(&self, catalog: &Catalog, applications: &BTreeSet<String>) -> Vec<usize> {
        let listed = catalog.notebooks.iter().enumerate();
        let runnable =
            listed.filter(|(_, listed)| self.keeps(listed) && listed.required_applications.is_subset(applications));
        runnable.map(|(position, _)| position).collect()
    }

    fn keeps(&self, listed: &Listed) -> bool {
        let names: Vec<&str> = listed.path.split('/').collect();
        self.rules.iter().all(|(kind, globs)| {
            let is_found = globs.iter().any(|glob| glob.matches(&names, listed.kind));
            is_found == (*kind == CollectionRuleKind::IntersectUnionOf)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use mobu_fleet::domain::business::RepositoryConfig;

    use super::*;
    use crate::client::repository::EntryKind;

    fn catalog(paths: &[(&str, &[&str])], config: RepositoryConfig) -> Catalog {
        let listed = paths.iter().map(|(path, applications)| {
            let mut listed = Listed::new((*path).to_owned(), PathBuf::from(path), EntryKind::File);
            listed.required_applications = applications.iter().map(|name| (*name).to_owned()).collect();
            listed
        });
        Catalog {
            config,
            notebooks: listed.collect(),
        }
    }

    fn rule(kind: CollectionRuleKind, patterns: &[&str]) -> CollectionRule {
        CollectionRule {
            kind,
            patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        }
    }

    fn selected<'a>(catalog: &'a Catalog, options: &NotebookOptions, applications: &[&str]) -> Vec<&'a str> {
        let applications = applications.iter().map(|name| (*name).to_owned()).collect();
        let selection = Selection::new(options, catalog).unwrap();
        let positions = selection.of(catalog, &applications);
        positions
            .into_iter()
            .map(|position| catalog.notebooks[position].path.as_str())
            .collect()
    }

    #[test]
    fn rules_of_flock_and_repository_narrow_one_after_the_other() {
        use CollectionRuleKind::{ExcludeUnionOf, IntersectUnionOf};
        let config = RepositoryConfig {
            exclude_dirs: ["a/old".to_owned()].into(),
            collection_rules: vec![rule(ExcludeUnionOf, &["**/skip*", "nothing"])],
        };
        let paths = [
            "a/1.ipynb",
            "a/old/2.ipynb",
            "a/skip.ipynb",
            "b/3.ipynb",
            "b/x/4.ipynb",
            "5.ipynb",
        ];
        let catalog = catalog(&paths.map(|path| (path, &[][..])), config);
        let options = NotebookOptions {
            exclude_dirs: ["b/x".to_owned()].into(),
            collection_rules: vec![rule(IntersectUnionOf, &["a/**", "b/**"])],
            ..NotebookOptions::default()
        };
        assert_eq!(selected(&catalog, &options, &[]), ["a/1.ipynb", "b/3.ipynb"]);
        let none = NotebookOptions {
            collection_rules: vec![rule(IntersectUnionOf, &[])],
            ..NotebookOptions::default()
        };
        assert_eq!(
            selected(&catalog, &none, &[]),
            [""; 0],
            "the union of nothing is nothing"
        );
        let all = NotebookOptions {
            exclude_dirs: [".".to_owned()].into(),
            ..NotebookOptions::default()
        };
        assert_eq!(selected(&catalog, &all, &[]), [""; 0], "everything is below the root");
    }

    #[test]
    fn a_notebook_runs_where_all_that_it_requires_is() {
        let paths: [(&str, &[&str]); 3] = [("a.ipynb", &[]), ("b.ipynb", &["tap"]), ("c.ipynb", &["tap", "sia"])];
        let catalog = catalog(&paths, RepositoryConfig::default());
        let options = NotebookOptions::default();
        assert_eq!(selected(&catalog, &options, &[]), ["a.ipynb"]);
        assert_eq!(selected(&catalog, &options, &["tap", "x"]), ["a.ipynb", "b.ipynb"]);
    }

    #[test]
    fn a_pattern_that_is_none_is_an_error_even_without_notebooks() {
        let catalog = catalog(&[], RepositoryConfig::default());
        let options = NotebookOptions {
            exclude_dirs: ["/srv".to_owned()].into(),
            ..NotebookOptions::default()
        };
        let error = Selection::new(&options, &catalog).unwrap_err();
        assert_eq!(error, GlobError::Absolute("/srv/**".to_owned()));
    }
}
