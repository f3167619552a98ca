//! Writes JSON with the keys of every object sorted, indented by four, without building a tree of it first.
//!
//! An answer with the monkeys of a whole fleet is large, and its caller waits for it. Each field is written where it comes; at the end of
//! an object its fields are put in order.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write as _;
use std::ops::Range;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::{Error, Value};

use super::json::python_float;

const INDENT: &[u8] = b"    ";

/// Returns a value's JSON.
///
/// # Errors
///
/// If a key is no text, number or truth value, or a part of the value refuses.
pub(super) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut writer = Writer {
        out: Vec::with_capacity(1024),
        depth: 0,
    };
    value.serialize(&mut writer)?;
    Ok(writer.out)
}

struct Writer {
    out: Vec<u8>,
    depth: usize,
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn display(&mut self, value: impl Display) -> Result<(), Error> {
        write!(self.out, "{value}").map_err(Error::custom)
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        serde_json::to_writer(&mut self.out, text)
    }

    fn line(&mut self) {
        self.out.push(b'\n');
        for _ in 0..self.depth {
            self.out.extend_from_slice(INDENT);
        }
    }

    /// Opens the object of one key that stands for a variant with something in it.
    fn open_variant(&mut self, name: &str) -> Result<(), Error> {
        self.raw("{");
        self.depth += 1;
        self.line();
        self.text(name)?;
        self.raw(": ");
        Ok(())
    }

    fn close_variant(&mut self) {
        self.depth -= 1;
        self.line();
        self.raw("}");
    }

    fn list(&mut self, is_variant: bool) -> List<'_> {
        self.raw("[");
        self.depth += 1;
        List {
            writer: self,
            is_empty: true,
            is_variant,
        }
    }

    fn object(&mut self, is_variant: bool) -> Object<'_> {
        self.raw("{");
        self.depth += 1;
        Object {
            start: self.out.len(),
            writer: self,
            fields: Vec::with_capacity(8),
            is_variant,
        }
    }
}

/// An array that is being written.
struct List<'a> {
    writer: &'a mut Writer,
    is_empty: bool,
    /// Whether it is what a variant holds.
    is_variant: bool,
}

impl List<'_> {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if !self.is_empty {
            self.writer.raw(",");
        }
        self.is_empty = false;
        self.writer.line();
        value.serialize(&mut *self.writer)
    }

    fn close(self) {
        self.writer.depth -= 1;
        if !self.is_empty {
            self.writer.line();
        }
        self.writer.raw("]");
        if self.is_variant {
            self.writer.close_variant();
        }
    }
}

/// An object that is being written: its values one after the other, which are put in order when it is closed.
struct Object<'a> {
    writer: &'a mut Writer,
    /// Where the first value begins.
    start: usize,
    /// Each key, and where its value is after `start`.
    fields: Vec<(Cow<'static, str>, Range<usize>)>,
    /// Whether it is what a variant holds.
    is_variant: bool,
}

impl Object<'_> {
    fn add<T: Serialize + ?Sized>(&mut self, key: Cow<'static, str>, value: &T) -> Result<(), Error> {
        let start = self.writer.out.len() - self.start;
        value.serialize(&mut *self.writer)?;
        self.fields.push((key, start..self.writer.out.len() - self.start));
        Ok(())
    }

    fn close(self) -> Result<(), Error> {
        let Self {
            writer,
            start,
            mut fields,
            is_variant,
        } = self;
        let values = writer.out.split_off(start);
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut is_empty = true;
        for (key, value) in fields {
            if !is_empty {
                writer.raw(",");
            }
            is_empty = false;
            writer.line();
            writer.text(&key)?;
            writer.raw(": ");
            writer.out.extend_from_slice(&values[value]);
        }
        writer.depth -= 1;
        if !is_empty {
            writer.line();
        }
        writer.raw("}");
        if is_variant {
            writer.close_variant();
        }
        Ok(())
    }
}

/// Methods for values that are written as they show themselves.
macro_rules! shown {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result<(), Error> {
            self.display(value)
        })*
    };
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Object<'a>;
    type SerializeStructVariant = Object<'a>;

    shown! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        if value.is_finite() {
            self.raw(&python_float(value));
            Ok(())
        } else {
            self.serialize_unit()
        }
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.text(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.text(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.collect_seq(value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.raw("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.text(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.open_variant(variant)?;
        value.serialize(&mut *self)?;
        self.close_variant();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, Error> {
        Ok(self.list(false))
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'a>, Error> {
        Ok(self.list(false))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List<'a>, Error> {
        Ok(self.list(false))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<List<'a>, Error> {
        self.open_variant(variant)?;
        Ok(self.list(true))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, Error> {
        Ok(Entries {
            object: self.object(false),
            key: None,
        })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object<'a>, Error> {
        Ok(self.object(false))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Object<'a>, Error> {
        self.open_variant(variant)?;
        Ok(self.object(true))
    }
}

/// The parts of an array, in four guises.
macro_rules! lists {
    ($($trait:ident, $method:ident);*) => {
        $(impl $trait for List<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.add(value)
            }

            fn end(self) -> Result<(), Error> {
                self.close();
                Ok(())
            }
        })*
    };
}

lists! {
    SerializeSeq, serialize_element; SerializeTuple, serialize_element; SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field
}

/// The fields of an object, in two guises.
macro_rules! objects {
    ($($trait:ident),*) => {
        $(impl $trait for Object<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
                self.add(Cow::Borrowed(key), value)
            }

            fn end(self) -> Result<(), Error> {
                self.close()
            }
        })*
    };
}

objects! { SerializeStruct, SerializeStructVariant }

/// An object whose keys come as values.
struct Entries<'a> {
    object: Object<'a>,
    key: Option<String>,
}

impl SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key = Some(key_text(key)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a value without a key"))?;
        self.object.add(Cow::Owned(key), value)
    }

    fn end(self) -> Result<(), Error> {
        self.object.close()
    }
}

/// A key is a text, or is written as one.
fn key_text<T: Serialize + ?Sized>(key: &T) -> Result<String, Error> {
    match serde_json::to_value(key)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(is) => Ok(is.to_string()),
        _ => Err(Error::custom("a key must be a text")),
    }
}

#[cfg(test)]
#[path = "sorted_tests.rs"]
mod tests;
