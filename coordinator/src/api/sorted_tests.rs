//! Everything is written as the slow way would write it.

use std::collections::BTreeMap;
use std::io;

use proptest::prelude::*;
use serde::Serialize;
use serde_json::json;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::*;

#[derive(Serialize)]
enum Kind {
    Unit,
    New(u8),
    Tuple(u8, f32),
    Struct { b: Option<i64>, a: char },
}

#[derive(Serialize)]
struct All {
    z: Vec<Kind>,
    #[serde(flatten)]
    inner: Inner,
    numbers: BTreeMap<u8, f64>,
    pair: (bool, ()),
}

#[derive(Serialize)]
struct Inner {
    text: &'static str,
    empty: BTreeMap<String, u8>,
    none: [u8; 0],
}

#[test]
fn everything_that_serializes_is_written_as_its_sorted_tree_would_be() {
    let all = All {
        z: vec![
            Kind::Unit,
            Kind::New(1),
            Kind::Tuple(2, 0.5),
            Kind::Struct { b: None, a: '"' },
        ],
        inner: Inner {
            text: "é\n",
            empty: BTreeMap::new(),
            none: [],
        },
        numbers: BTreeMap::from([(10, f64::NAN), (9, 1e-5)]),
        pair: (true, ()),
    };
    assert_eq!(to_vec(&all).unwrap(), by_tree(&serde_json::to_value(&all).unwrap()));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_tree_is_written_sorted(value in values()) {
        prop_assert_eq!(to_vec(&value).unwrap(), by_tree(&value));
    }
}

/// serde's own indentation, and Python's floats.
struct Pretty(PrettyFormatter<'static>);

impl Default for Pretty {
    fn default() -> Self {
        Self(PrettyFormatter::with_indent(INDENT))
    }
}

impl Formatter for Pretty {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(python_float(value).as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

/// The slow way: sorted first, then written.
fn by_tree(value: &Value) -> Vec<u8> {
    let mut value = value.clone();
    value.sort_all_objects();
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, Pretty::default()))
        .unwrap();
    bytes
}

#[test]
fn a_key_that_is_no_text_is_refused() {
    assert!(to_vec(&BTreeMap::from([(vec![1], 2)])).is_err());
    assert_eq!(to_vec(&json!({})).unwrap(), b"{}");
}
