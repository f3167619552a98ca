//! Texts with places to fill in: `https://example.org/{{username}}`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use crate::domain::validation::{FromInput, Input, Parsed, choices, mistyped};

choices! {
    /// What a template may name between `{{` and `}}`.
    Variable, "enum", any_case = false, {
        /// Name of the monkey's user.
        Username = "username",
        /// The user's token.
        Token = "token",
        /// Instance ID of the replica, empty if it has none.
        InstanceId = "instance_id",
        /// Number of the iteration, from 1.
        Iteration = "iteration",
        /// A random UUID, made anew for each request.
        Uuid = "uuid",
    }
}

/// What the variables stand for in one request.
///
/// Debug output would show the token, so there is none.
#[expect(missing_debug_implementations, reason = "it holds the token")]
#[derive(Clone, Copy)]
pub struct TemplateValues<'a> {
    /// Name of the monkey's user.
    pub username: &'a str,
    /// The user's token, in clear.
    pub token: &'a str,
    /// Instance ID of the replica, or an empty text.
    pub instance_id: &'a str,
    /// Number of the iteration, from 1.
    pub iteration: u64,
    /// A random UUID.
    pub uuid: &'a str,
}

impl<'a> TemplateValues<'a> {
    fn get(&self, variable: Variable) -> Cow<'a, str> {
        match variable {
            Variable::Username => self.username.into(),
            Variable::Token => self.token.into(),
            Variable::InstanceId => self.instance_id.into(),
            Variable::Iteration => self.iteration.to_string().into(),
            Variable::Uuid => self.uuid.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Variable),
}

/// A text with places to fill in, checked when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The name is not one of [`Variable`].
    #[error(
        "there is no {}, only {{{{username}}}}, {{{{token}}}}, {{{{instance_id}}}}, {{{{iteration}}}} and {{{{uuid}}}}",
        placeholder(name)
    )]
    Unknown {
        /// What stands between the braces. Headers and URLs may hold secrets, so it is said only if it looks like a name.
        name: String,
    },
    /// There is no `}}` behind a `{{`.
    #[error("`{{{{` at character {position} is never closed")]
    Unclosed {
        /// Where it stands, from 0.
        position: usize,
    },
}

fn placeholder(name: &str) -> String {
    if mistyped::is_variable(name) {
        format!("`{{{{{name}}}}}`")
    } else {
        "such place to fill in".to_owned()
    }
}

impl Template {
    /// Finds the places to fill in.
    ///
    /// # Errors
    ///
    /// A name that stands for nothing, or a `{{` without its `}}`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((name, behind)) = after.split_once("}}") else {
                let position = text[..text.len() - after.len() - 2].chars().count();
                return Err(TemplateError::Unclosed { position });
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let known = Variable::ALL.iter().find(|(known, _)| *known == name.trim());
            let (_, variable) = known.ok_or_else(|| TemplateError::Unknown {
                name: name.trim().to_owned(),
            })?;
            parts.push(Part::Variable(*variable));
            rest = behind;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { parts })
    }

    /// Fills in the places.
    pub fn render<'a>(&'a self, values: &TemplateValues<'a>) -> Cow<'a, str> {
        match self.parts.as_slice() {
            [] => Cow::Borrowed(""),
            [Part::Text(text)] => Cow::Borrowed(text),
            [Part::Variable(variable)] => values.get(*variable),
            parts => {
                let mut out = String::new();
                for part in parts {
                    match part {
                        Part::Text(text) => out.push_str(text),
                        Part::Variable(variable) => out.push_str(&values.get(*variable)),
                    }
                }
                Cow::Owned(out)
            }
        }
    }

    /// Returns whether there is nothing to fill in.
    pub fn is_fixed(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Variable(_)))
    }

    /// Returns the text, if there is nothing to fill in.
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns whether it may become another text in each request of one monkey.
    pub fn varies(&self) -> bool {
        let varies = |part: &Part| matches!(part, Part::Variable(Variable::Iteration | Variable::Uuid));
        self.parts.iter().any(varies)
    }

    /// Reads a template of at most `max` characters.
    pub(super) fn read(input: &Input<'_>, max: usize) -> Option<Parsed<Self>> {
        let text = input.text(0, max)?;
        match Self::parse(&text.value) {
            Ok(template) => Some(text.map(|_| template)),
            Err(error) => input.value_error(error),
        }
    }
}

impl JsonSchema for Template {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A text that may hold {{username}}, {{token}}, {{instance_id}}, {{iteration}} and {{uuid}}.",
            "type": "string",
        })
    }
}

/// JSON whose texts, but not its keys, are templates.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonTemplate {
    /// Nothing in it is to be filled in.
    Fixed(Value),
    /// A text with places to fill in.
    Text(Template),
    /// A list with such a text somewhere in it.
    Array(Vec<JsonTemplate>),
    /// An object with such a text somewhere in it, in the order given.
    Object(Vec<(String, JsonTemplate)>),
}

impl JsonTemplate {
    /// Fills in the places.
    pub fn render(&self, values: &TemplateValues<'_>) -> Value {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(template) => Value::String(template.render(values).into_owned()),
            Self::Array(items) => items.iter().map(|item| item.render(values)).collect(),
            Self::Object(entries) => {
                let rendered = entries.iter().map(|(key, value)| (key.clone(), value.render(values)));
                Value::Object(rendered.collect::<Map<_, _>>())
            }
        }
    }

    fn compile(input: &Input<'_>) -> Option<Self> {
        match input.value() {
            Value::String(text) => match Template::parse(text) {
                Ok(template) if template.is_fixed() => Some(Self::Fixed(input.value().clone())),
                Ok(template) => Some(Self::Text(template)),
                Err(error) => input.value_error(error),
            },
            Value::Array(items) => {
                let all: Vec<_> = (items.iter().enumerate())
                    .map(|(index, item)| Self::compile(&input.at_index(index, item)))
                    .collect();
                let all = all.into_iter().collect::<Option<Vec<_>>>()?;
                let is_fixed = all.iter().all(|item| matches!(item, Self::Fixed(_)));
                Some(if is_fixed {
                    Self::Fixed(input.value().clone())
                } else {
                    Self::Array(all)
                })
            }
            Value::Object(map) => {
                let all: Vec<_> = (map.iter())
                    .map(|(key, value)| Some((key.clone(), Self::compile(&input.at_key(key, value))?)))
                    .collect();
                let all = all.into_iter().collect::<Option<Vec<_>>>()?;
                let is_fixed = all.iter().all(|(_, value)| matches!(value, Self::Fixed(_)));
                Some(if is_fixed {
                    Self::Fixed(input.value().clone())
                } else {
                    Self::Object(all)
                })
            }
            other => Some(Self::Fixed(other.clone())),
        }
    }
}

impl FromInput for JsonTemplate {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        Some(Parsed::new(Self::compile(input)?, input.value().clone()))
    }
}

impl JsonSchema for JsonTemplate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "JsonTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Any JSON; texts in it may hold {{username}}, {{token}}, {{instance_id}}, {{iteration}} and {{uuid}}.",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VALUES: TemplateValues<'_> = TemplateValues {
        username: "bot-mobu-a1",
        token: "gt-x.y",
        instance_id: "2",
        iteration: 7,
        uuid: "u",
    };

    #[test]
    fn every_variable_is_filled_in() {
        let template = Template::parse("{{username}}/{{ token }}/{{instance_id}}/{{iteration}}/{{uuid}}!").unwrap();
        assert_eq!(template.render(&VALUES), "bot-mobu-a1/gt-x.y/2/7/u!");
        assert_eq!(Template::parse("plain } {").unwrap().render(&VALUES), "plain } {");
        assert_eq!(Template::parse("").unwrap().render(&VALUES), "");
    }

    #[test]
    fn what_is_filled_in_is_not_looked_through_again() {
        let values = TemplateValues {
            username: "{{token}}",
            ..VALUES
        };
        assert_eq!(Template::parse("{{username}}").unwrap().render(&values), "{{token}}");
    }

    #[test]
    fn a_wrong_template_says_where_and_why() {
        let error = Template::parse("é {{user").unwrap_err();
        assert_eq!(error.to_string(), "`{{` at character 2 is never closed");
        let error = Template::parse("{{nope}}").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("there is no `{{nope}}`, only {{username}},"),
            "{error}"
        );
        for secret in [
            "Bearer x",
            "u:Pass@host",
            "0123456789abcdef",
            "a_name_that_nobody_would_choose",
        ] {
            let error = Template::parse(&format!("{{{{{secret}}}}}")).unwrap_err().to_string();
            assert!(
                error.starts_with("there is no such place to fill in, only {{username}},"),
                "{error}"
            );
        }
    }

    #[test]
    fn texts_inside_json_are_filled_in_and_keys_are_not() {
        let given = json!({"{{x}}": ["{{iteration}}", 1, null], "b": {"c": "d"}});
        let read = Input::read(&given, &[], JsonTemplate::from_input).unwrap();
        assert_eq!(
            read.value.render(&VALUES),
            json!({"{{x}}": ["7", 1, null], "b": {"c": "d"}})
        );
        assert_eq!(read.echo, given);
        let wrong = Input::read(&json!({"a": ["{{no}}"]}), &["body".into()], JsonTemplate::from_input).unwrap_err();
        assert!(
            wrong.to_string().starts_with("body.a.0: Value error, there is no"),
            "{wrong}"
        );
    }
}
