//! Reads a spec file: one flock, as YAML or JSON.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use crate::failure::Failure;

/// The option that names a spec file.
#[derive(Debug, Args)]
pub(crate) struct SpecFile {
    /// YAML or JSON file with one flock; `-` reads stdin
    #[arg(
        short = 'f',
        long = "spec-file",
        env = "MONKEYFLOCKER_SPEC_FILE",
        value_name = "FILE"
    )]
    path: PathBuf,
}

impl SpecFile {
    /// Reads the flock. Whether it is a right one is the fleet's to say.
    pub(crate) fn read(&self) -> Result<Value, Failure> {
        let text = if self.path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(&self.path)
        };
        let text = text.map_err(|error| Failure::Usage(format!("cannot read {}: {error}", self.path.display())))?;
        parse(&text, &self.path)
    }
}

fn parse(text: &str, path: &Path) -> Result<Value, Failure> {
    let wrong = |reason: String| Failure::Usage(format!("{}: {reason}", path.display()));
    let value: Value = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?
    } else {
        serde_saphyr::from_str(text).map_err(|error| wrong(error.render_with_formatter(&UserMessageFormatter)))?
    };
    match value {
        Value::Object(_) => Ok(value),
        Value::Null => Err(wrong("the file is empty; it must hold one flock".to_owned())),
        _ => Err(wrong(
            "the file must hold one flock, a mapping with `name`, `count`, `scopes` and `business`".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    fn yaml(text: &str) -> Result<Value, String> {
        parse(text, Path::new("lambs.yaml")).map_err(|failure| failure.to_string())
    }

    #[test]
    fn yaml_becomes_the_json_that_mobu_expects() {
        let flock = yaml(
            "name: lambs\ncount: 4\nuser_spec: {username_prefix: bot-mobu-lamb}\nscopes: []\n\
             # a comment\nbusiness:\n  type: EmptyLoop\n  options: {idle_time: 1m30s, log_level: null}\n  restart: true\n",
        );
        let expected = json!({
            "name": "lambs", "count": 4, "user_spec": {"username_prefix": "bot-mobu-lamb"}, "scopes": [],
            "business": {"type": "EmptyLoop", "options": {"idle_time": "1m30s", "log_level": null}, "restart": true},
        });
        assert_eq!(flock, Ok(expected));
    }

    #[test]
    fn json_is_read_too_whatever_the_file_is_called() {
        let text = "{\"name\": \"lambs\",\n\t\"count\": 2.5}";
        let expected = json!({"name": "lambs", "count": 2.5});
        assert_eq!(yaml(text), Ok(expected.clone()));
        assert_eq!(parse(text, Path::new("lambs.json")).unwrap(), expected);
    }

    #[test]
    fn a_mistake_is_shown_with_its_place() {
        assert_snapshot!(yaml("name: lambs\nscopes: [a, b\nbusiness: {}\n").unwrap_err(), @r"
        lambs.yaml: error: line 3 column 9: illegal placement of ':' indicator
         --> <input>:3:9
          |
        1 | name: lambs
        2 | scopes: [a, b
        3 | business: {}
          |         ^ illegal placement of ':' indicator
        ");
        assert_snapshot!(yaml("name: lambs\ncount: 1\nname: goats\n").unwrap_err(), @r"
        lambs.yaml: error: line 3 column 1: duplicate mapping key `name` is not allowed here
         --> <input>:3:1
          |
        1 | name: lambs
        2 | count: 1
        3 | name: goats
          | ^ duplicate mapping key `name` is not allowed here
        ");
        assert_snapshot!(parse("{\"name\": }", Path::new("lambs.json")).unwrap_err().to_string(), @"lambs.json: expected value at line 1 column 10");
    }

    #[test]
    fn what_is_not_one_flock_is_refused() {
        assert_snapshot!(yaml("").unwrap_err(), @"lambs.yaml: the file is empty; it must hold one flock");
        assert_snapshot!(yaml("- name: lambs\n- name: goats\n").unwrap_err(), @"lambs.yaml: the file must hold one flock, a mapping with `name`, `count`, `scopes` and `business`");
        assert!(yaml("name: a\n---\nname: b\n").is_err());
    }
}
