//! A value that is being read, the way to it, and where its mistakes are collected.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde_json::{Map, Value, json};

use super::mistakes::Mistakes;
use super::{Loc, ValidationErrors, ValidationItem, mistyped, python};

/// What was read, and how it is shown to the one who wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// The value.
    pub value: T,
    /// The value as JSON: only what was given, normalized, without nulls (`contracts/rest-api.md` 4.1).
    pub echo: Value,
}

impl<T> Parsed<T> {
    /// Pairs a value with its echo.
    pub fn new(value: T, echo: impl Into<Value>) -> Self {
        Self {
            value,
            echo: echo.into(),
        }
    }

    /// Changes the value and leaves the echo.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Parsed<U> {
        Parsed {
            value: change(self.value),
            echo: self.echo,
        }
    }
}

/// What can be read from JSON with pydantic's lenience.
pub trait FromInput: Sized {
    /// Reads the value, or reports what is wrong with it and returns `None`.
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>>;
}

/// A function that reads one kind of value.
type Reading<T> = fn(&Input<'_>) -> Option<Parsed<T>>;

/// The way to a value, as a list on the stack.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Root(&'a [Loc]),
    Key(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl Place<'_> {
    fn loc(&self) -> Vec<Loc> {
        match *self {
            Self::Root(loc) => loc.to_vec(),
            Self::Key(parent, key) => {
                let mut loc = parent.loc();
                loc.push(Loc::Key(Cow::Owned(key.to_owned())));
                loc
            }
            Self::Index(parent, index) => {
                let mut loc = parent.loc();
                loc.push(Loc::Index(index));
                loc
            }
        }
    }
}

/// One value on its way from JSON to a type.
///
/// Every method that cannot return what it promises has reported why, at the value's place, so that callers only
/// pass the `None` on, after they have read the value's neighbours.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    value: &'a Value,
    place: Place<'a>,
    errors: &'a RefCell<Mistakes>,
}

impl<'a> Input<'a> {
    /// Reads a whole document, whose mistakes are placed below `loc`.
    ///
    /// # Errors
    ///
    /// All mistakes at once.
    pub fn read<T>(
        value: &Value,
        loc: &[Loc],
        read: impl FnOnce(&Input<'_>) -> Option<Parsed<T>>,
    ) -> Result<Parsed<T>, ValidationErrors> {
        let errors = RefCell::default();
        let parsed = read(&Input {
            value,
            place: Place::Root(loc),
            errors: &errors,
        });
        let errors = errors.into_inner();
        match parsed {
            Some(parsed) if errors.count() == 0 => Ok(parsed),
            _ => Err(ValidationErrors(errors.into_items())),
        }
    }

    /// Returns the JSON value.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// Returns the way to the value.
    pub fn loc(&self) -> Vec<Loc> {
        self.place.loc()
    }

    /// Returns a value below this one, at a key or at one of pydantic's own steps.
    pub fn at_key<'b>(&'b self, key: &'b str, value: &'b Value) -> Input<'b> {
        Input {
            value,
            place: Place::Key(&self.place, key),
            errors: self.errors,
        }
    }

    /// Returns an element of this list.
    pub fn at_index<'b>(&'b self, index: usize, value: &'b Value) -> Input<'b> {
        Input {
            value,
            place: Place::Index(&self.place, index),
            errors: self.errors,
        }
    }

    /// Returns another value in the place of this one, such as a list that was written as one text.
    pub fn instead<'b>(&'b self, value: &'b Value) -> Input<'b> {
        Input { value, ..*self }
    }

    /// Reports that this value broke a rule without numbers.
    pub fn fail<T>(&self, kind: &'static str, msg: impl Into<String>) -> Option<T> {
        self.report(|input| ValidationItem::new(kind, self.loc(), msg, input))
    }

    /// Reports that this value broke a rule with numbers or names.
    pub fn fail_with<T>(&self, kind: &'static str, msg: impl Into<String>, ctx: Value) -> Option<T> {
        self.report(|input| ValidationItem::new(kind, self.loc(), msg, input).with_ctx(ctx))
    }

    /// Reports that this value broke a rule of mobu's or of ours.
    pub fn value_error<T>(&self, text: impl fmt::Display) -> Option<T> {
        self.report(|input| ValidationItem::value_error(self.loc(), text, input))
    }

    /// As [`Input::value_error`], for a text that repeats what was given, with another one that holds nothing that may be secret.
    pub(crate) fn value_error_that_repeats<T>(&self, text: impl fmt::Display, quiet: impl fmt::Display) -> Option<T> {
        self.report(|input| {
            ValidationItem::value_error(self.loc(), text, input).said_as(format!("Value error, {quiet}"))
        })
    }

    fn report<T>(&self, item: impl FnOnce(Value) -> ValidationItem) -> Option<T> {
        self.errors.borrow_mut().add(self.value, item);
        None
    }

    /// Opens the object of a model inside the document.
    pub fn model(&'a self, name: &str) -> Option<Fields<'a>> {
        match self.value {
            Value::Object(map) => Some(Fields::new(self, map)),
            _ => self.fail_with(
                "model_type",
                format!("Input should be a valid dictionary or instance of {name}"),
                json!({ "class_name": name }),
            ),
        }
    }

    /// Opens the object that is the document.
    pub fn document(&'a self) -> Option<Fields<'a>> {
        match self.value {
            Value::Object(map) => Some(Fields::new(self, map)),
            _ => self.not_an_object(),
        }
    }

    /// Returns which of the `expected` types the key `type` of this object names.
    pub fn tag<T: Copy>(&self, expected: &[(&'static str, T)]) -> Option<(&'static str, T)> {
        let Value::Object(map) = self.value else {
            return self.not_an_object();
        };
        let Some(tag) = map.get("type") else {
            return self.fail_with(
                "union_tag_not_found",
                "Unable to extract tag using discriminator 'type'",
                json!({ "discriminator": "'type'" }),
            );
        };
        let found = expected.iter().find(|(name, _)| tag.as_str() == Some(name));
        found.copied().or_else(|| {
            let tag = python::str(tag);
            let expected_tags = expected
                .iter()
                .map(|(name, _)| format!("'{name}'"))
                .collect::<Vec<_>>()
                .join(", ");
            let msg = |tag: &str| {
                format!("Input tag {tag}found using 'type' does not match any of the expected tags: {expected_tags}")
            };
            let named = format!("'{tag}' ");
            let quiet = msg(if mistyped::is_type(&tag) { &named } else { "" });
            let msg = msg(&named);
            let ctx = json!({ "discriminator": "'type'", "tag": tag, "expected_tags": expected_tags });
            self.report(|input| {
                ValidationItem::new("union_tag_invalid", self.loc(), msg, input)
                    .with_ctx(ctx)
                    .said_as(quiet)
            })
        })
    }

    /// Returns the first of several readings that succeeds, or reports the mistakes of all, each below its name.
    pub fn first_of<T>(&self, readings: &[(&str, Reading<T>)]) -> Option<Parsed<T>> {
        let mut mistakes = Vec::new();
        for (name, read) in readings {
            let errors = RefCell::default();
            let attempt = Input {
                value: self.value,
                place: Place::Key(&self.place, name),
                errors: &errors,
            };
            match read(&attempt) {
                Some(parsed) if errors.borrow().count() == 0 => return Some(parsed),
                _ => mistakes.push(errors.into_inner()),
            }
        }
        for mistakes in mistakes {
            self.errors.borrow_mut().append(mistakes);
        }
        None
    }

    fn not_an_object<T>(&self) -> Option<T> {
        self.fail(
            "model_attributes_type",
            "Input should be a valid dictionary or object to extract fields from",
        )
    }
}

/// What becomes of keys that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// They are mistakes.
    Forbidden,
    /// They are passed over, and left out of the echo.
    Ignored,
}

/// An object whose keys are asked for one by one, in the order in which mistakes are to be reported.
#[derive(Debug)]
pub struct Fields<'a> {
    input: &'a Input<'a>,
    map: &'a Map<String, Value>,
    asked: Vec<&'static str>,
    echo: Map<String, Value>,
    errors_before: usize,
}

impl<'a> Fields<'a> {
    fn new(input: &'a Input<'a>, map: &'a Map<String, Value>) -> Self {
        Self {
            input,
            map,
            asked: Vec::new(),
            echo: Map::new(),
            errors_before: input.errors.borrow().count(),
        }
    }

    /// Reads a key that must be there.
    pub fn required<T: FromInput>(&mut self, key: &'static str) -> Option<T> {
        self.required_by(key, T::from_input)
    }

    /// As [`Fields::required`], with a rule of its own.
    pub fn required_by<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Input<'_>) -> Option<Parsed<T>>,
    ) -> Option<T> {
        if !self.map.contains_key(key) {
            self.input.report::<()>(|input| {
                let mut loc = self.input.loc();
                loc.push(Loc::from(key));
                ValidationItem::new("missing", loc, "Field required", input)
            });
        }
        self.given(key, key, read)
    }

    /// Reads a key that has a default and may not be null.
    ///
    /// The default also stands in for a mistake, which [`Fields::close`] turns into `None`.
    pub fn or<T: FromInput>(&mut self, key: &'static str, default: T) -> T {
        self.or_by(key, default, T::from_input)
    }

    /// As [`Fields::or`], with a rule of its own.
    pub fn or_by<T>(&mut self, key: &'static str, default: T, read: impl FnOnce(&Input<'_>) -> Option<Parsed<T>>) -> T {
        self.given(key, key, read).unwrap_or(default)
    }

    /// As [`Fields::or_by`], for a key with a second name; giving both is a mistake. The echo has the first name.
    pub fn or_alias_by<T>(
        &mut self,
        key: &'static str,
        alias: &'static str,
        default: T,
        read: impl FnOnce(&Input<'_>) -> Option<Parsed<T>>,
    ) -> T {
        let given = if self.map.contains_key(key) { key } else { alias };
        self.given(given, key, read).unwrap_or(default)
    }

    /// Reads a key that may be null or left out.
    pub fn nullable<T: FromInput>(&mut self, key: &'static str) -> Option<T> {
        self.nullable_by(key, T::from_input)
    }

    /// As [`Fields::nullable`], with a rule of its own.
    pub fn nullable_by<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Input<'_>) -> Option<Parsed<T>>,
    ) -> Option<T> {
        if self.map.get(key).is_some_and(Value::is_null) {
            self.asked.push(key);
            return None;
        }
        self.given(key, key, read)
    }

    /// Ends the object: returns its echo, or `None` if it or anything in it was wrong.
    pub fn close(self, extra: Extra) -> Option<Value> {
        if extra == Extra::Forbidden {
            for (key, value) in self.map {
                if !self.asked.contains(&key.as_str()) {
                    self.input
                        .at_key(key, value)
                        .fail::<()>("extra_forbidden", "Extra inputs are not permitted");
                }
            }
        }
        (self.input.errors.borrow().count() == self.errors_before).then_some(Value::Object(self.echo))
    }

    fn given<T>(
        &mut self,
        key: &'static str,
        echoed: &'static str,
        read: impl FnOnce(&Input<'_>) -> Option<Parsed<T>>,
    ) -> Option<T> {
        self.asked.push(key);
        let parsed = read(&self.input.at_key(key, self.map.get(key)?))?;
        self.echo.insert(echoed.to_owned(), parsed.echo);
        Some(parsed.value)
    }
}
