//! What a repository says about its own notebooks.

use std::collections::BTreeSet;

use serde_json::Value;

use super::CollectionRule;
use crate::domain::validation::{Extra, FromInput, Input, Parsed, ValidationErrors, posix_path};

/// The file `mobu.yaml` at the root of a repository (`contracts/config.md` 7.1). Without the file, every default holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepositoryConfig {
    /// Directories below which no notebook is run, as Python writes paths; none unless given.
    pub exclude_dirs: BTreeSet<String>,
    /// Rules that narrow the notebooks that are run, in order; none unless given.
    pub collection_rules: Vec<CollectionRule>,
}

impl RepositoryConfig {
    /// Reads the file's content. Unlike a rule, it may have no key that is unknown; an empty file is a mistake.
    ///
    /// # Errors
    ///
    /// All mistakes at once.
    pub fn parse(value: &Value) -> Result<Self, ValidationErrors> {
        Input::read(value, &[], Self::from_input).map(|parsed| parsed.value)
    }
}

impl FromInput for RepositoryConfig {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.document()?;
        let config = Self {
            exclude_dirs: fields.or_by("exclude_dirs", BTreeSet::new(), |input| input.set(posix_path)),
            collection_rules: fields.or("collection_rules", Vec::new()),
        };
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(config, echo))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::CollectionRuleKind;
    use super::*;

    #[test]
    fn a_repository_may_have_rules_and_nothing_else() {
        let config = RepositoryConfig::parse(&json!({
            "exclude_dirs": ["a//b/", "."],
            "collection_rules": [{"type": "intersect_union_of", "patterns": ["x/**", "x/**"], "why": "ignored"}],
        }))
        .unwrap();
        assert_eq!(config.exclude_dirs, ["a/b", "."].map(str::to_owned).into());
        assert_eq!(config.collection_rules[0].kind, CollectionRuleKind::IntersectUnionOf);
        assert_eq!(config.collection_rules[0].patterns.len(), 1);
        assert_eq!(RepositoryConfig::parse(&json!({})), Ok(RepositoryConfig::default()));
        for wrong in [
            json!(null),
            json!([]),
            json!({"exclude_dirs": null}),
            json!({"exclude_dirs": "a"}),
            json!({"exclude_dir": []}),
            json!({"collection_rules": [{"type": "union_of", "patterns": []}]}),
            json!({"collection_rules": [{"type": "exclude_union_of"}]}),
        ] {
            assert!(RepositoryConfig::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
