//! Broken inputs, made from real ones.

use fastrand::Rng;
use serde_json::{Map, Number, Value, json};

use super::{Form, Target};

/// Longest input, in bytes; one in a few hundred is made this long on purpose.
const LONGEST: usize = 128 * 1024;

/// Texts that are more than they seem.
const TEXTS: &[&str] = &[
    "",
    " ",
    "\0",
    "\u{feff}",
    "\u{2028}",
    "é",
    "💩",
    "\u{202e}",
    "١٢",
    "0",
    "-0",
    "1e400",
    "-1",
    "NaN",
    "inf",
    "null",
    "true",
    "yes",
    "1h30m",
    "99999999999999999999999 weeks",
    "../..",
    "/",
    "//",
    "%2e%2e",
    "%00",
    "%zz",
    "{{",
    "}}",
    "{{token}}",
    "\\u0000",
    "\u{1b}[31m",
    "\r\n",
    "'",
    "\"",
    "\\",
    "*",
    "[",
    "(?",
    "^(a+)+$",
    "http://[::1",
    "https://u:p@h/?q=1#f",
    "bot-mobu",
    "bot-mobu--x",
];

/// Numbers at the edges of their types.
const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 53,
    (1 << 53) + 1,
    i64::MAX,
    i64::MIN,
    86_399_999_913_600,
    1_000_000,
    1_000_001,
];

/// Numbers that only a text can have.
const RAW_NUMBERS: &[&str] = &[
    "1e400",
    "-1e400",
    "-0",
    "-0.0",
    "0.1",
    "1e-400",
    "18446744073709551616",
    "1E+2",
    "0x10",
    "1_000",
    "+1",
    ".5",
    "5.",
    "01",
    "NaN",
    "-Infinity",
];

/// What inputs are made of.
#[derive(Debug)]
pub(super) struct Kitchen {
    form: Form,
    words: Vec<Vec<u8>>,
    seeds: Vec<Vec<u8>>,
    values: Vec<Value>,
    keys: Vec<String>,
}

impl Kitchen {
    pub(super) fn of(target: &Target) -> Self {
        let mut seeds = (target.seeds)();
        seeds.extend(target.corpus().into_iter().map(|(_, bytes)| bytes));
        let values: Vec<Value> = match target.form {
            Form::Json => seeds
                .iter()
                .filter_map(|seed| serde_json::from_slice(seed).ok())
                .collect(),
            _ => Vec::new(),
        };
        let mut keys = Vec::new();
        for value in &values {
            collect_keys(value, &mut keys);
        }
        keys.sort();
        keys.dedup();
        let words = target.words.iter().chain(TEXTS).chain(RAW_NUMBERS);
        Self {
            form: target.form,
            words: words.map(|word| word.as_bytes().to_vec()).collect(),
            seeds,
            values,
            keys,
        }
    }

    /// Makes the input of a number: always the same for one seed.
    pub(super) fn input(&self, seed: u64, number: u64) -> Vec<u8> {
        let mut random =
            Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        // Neighbouring seeds of this generator resemble each other in the first number that they give.
        random.u64(..);
        let mut input = match self.form {
            Form::Json if !self.values.is_empty() && random.u8(..) < 200 => self.broken_value(&mut random),
            Form::Lines if random.u8(..) < 150 => self.broken_lines(&mut random),
            _ => self.seed(&mut random).to_vec(),
        };
        let turns = match random.u8(..) {
            0..100 if self.form == Form::Json || self.form == Form::Lines => 0,
            0..200 => random.usize(1..4),
            _ => random.usize(4..16),
        };
        for _ in 0..turns {
            self.break_bytes(&mut input, &mut random);
        }
        if random.u16(..600) == 0 {
            grow(&mut input, &mut random);
        }
        input.truncate(LONGEST);
        input
    }

    fn seed(&self, random: &mut Rng) -> &[u8] {
        random.choice(&self.seeds).map_or(&[], Vec::as_slice)
    }

    fn word(&self, random: &mut Rng) -> &[u8] {
        random.choice(&self.words).map_or(&[], Vec::as_slice)
    }

    fn break_bytes(&self, input: &mut Vec<u8>, random: &mut Rng) {
        let at = random.usize(..=input.len());
        let end = (at + length(random)).min(input.len());
        match random.u8(..11) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            1 if at < input.len() => input[at] = random.u8(..),
            2 => drop(input.drain(at..end)),
            3 => drop(input.splice(
                at..at,
                std::iter::repeat_with(|| random.u8(..)).take(3).collect::<Vec<_>>(),
            )),
            4 | 5 => drop(input.splice(at..end, self.word(random).iter().copied())),
            6 => drop(input.splice(at..at, self.word(random).iter().copied())),
            7 => {
                let piece = input[at..end].to_vec();
                let to = random.usize(..=input.len());
                input.splice(to..to, piece);
            }
            8 => {
                let other = self.seed(random);
                let from = random.usize(..=other.len());
                let to = (from + length(random)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            9 => input.truncate(at),
            _ => {
                // A number of eight bytes, as tables of offsets have.
                let number = random.choice(NUMBERS).copied().unwrap_or_default();
                let end = (at + 8).min(input.len());
                input.splice(at..end, number.to_le_bytes());
            }
        }
    }

    fn broken_lines(&self, random: &mut Rng) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = self
            .seed(random)
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..lines.len().max(1));
            let Some(line) = lines.get(at).cloned() else { break };
            match random.u8(..8) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(random.usize(..=lines.len()), line),
                2 => {
                    let other = random.usize(..lines.len());
                    lines.swap(at, other);
                }
                3 => {
                    let spaces = vec![b' '; random.usize(..9)];
                    lines[at] = [&spaces[..], line.trim_ascii_start()].concat();
                }
                4 | 5 => {
                    // Another value behind the key.
                    let key = line.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
                    lines[at] = [&line[..key], b" ", self.word(random)].concat();
                }
                6 => {
                    let other = self.seed(random).split(|byte| *byte == b'\n').nth(random.usize(..40));
                    lines.insert(at, other.unwrap_or_default().to_vec());
                }
                _ => {
                    let anchors: [&[u8]; 6] = [b" &a [*a, *a]", b" &b *b", b" !!binary x", b" |", b" ? {", b" <<: *a"];
                    lines[at].extend_from_slice(anchors[random.usize(..anchors.len())]);
                }
            }
        }
        lines.join(&b"\n"[..])
    }

    fn broken_value(&self, random: &mut Rng) -> Vec<u8> {
        let mut value = random.choice(&self.values).cloned().unwrap_or_default();
        for _ in 0..random.usize(1..5) {
            let at = random.usize(..size(&value));
            self.break_node(node(&mut value, at), random);
        }
        let text = if random.u8(..) < 230 {
            serde_json::to_vec(&value)
        } else {
            serde_json::to_vec_pretty(&value)
        };
        let mut text = text.unwrap_or_default();
        if random.u8(..) < 20 {
            raw_number(&mut text, random);
        }
        text
    }

    fn break_node(&self, node: &mut Value, random: &mut Rng) {
        match (random.u8(..14), &mut *node) {
            (0 | 1, Value::Object(map)) if !map.is_empty() => {
                let key = nth_key(map, random);
                map.shift_remove(&key);
            }
            (2, Value::Object(map)) if !map.is_empty() => {
                let key = nth_key(map, random);
                let value = map.shift_remove(&key).unwrap_or_default();
                map.insert(self.key(random), value);
            }
            (3 | 4, Value::Object(map)) => {
                let value = self.some_value(random);
                map.insert(self.key(random), value);
            }
            (0 | 1, Value::Array(items)) if !items.is_empty() => drop(items.remove(random.usize(..items.len()))),
            (2, Value::Array(items)) if !items.is_empty() => {
                let item = items[random.usize(..items.len())].clone();
                let times = if random.u8(..) < 8 { 500 } else { random.usize(1..4) };
                items.extend(std::iter::repeat_n(item, times));
            }
            (3 | 4, Value::Array(items)) => items.insert(random.usize(..=items.len()), self.some_value(random)),
            (0..=4, Value::String(text)) => self.break_text(text, random),
            (5, _) => {
                let inner = node.take();
                *node = if random.bool() {
                    json!([inner])
                } else {
                    json!({ self.key(random): inner })
                };
            }
            (6, _) if random.u8(..) < 30 => {
                let depth = random.usize(30..140);
                *node = (0..depth).fold(node.take(), |inner, _| json!([inner]));
            }
            _ => *node = self.some_value(random),
        }
    }

    fn break_text(&self, text: &mut String, random: &mut Rng) {
        let mut bytes = std::mem::take(text).into_bytes();
        self.break_bytes(&mut bytes, random);
        if random.u8(..) == 0 {
            bytes = bytes.repeat(200);
        }
        *text = String::from_utf8_lossy(&bytes).into_owned();
    }

    fn key(&self, random: &mut Rng) -> String {
        match random.choice(&self.keys) {
            Some(key) if random.u8(..) < 230 => key.clone(),
            _ => String::from_utf8_lossy(self.word(random)).into_owned(),
        }
    }

    fn some_value(&self, random: &mut Rng) -> Value {
        match random.u8(..10) {
            0 => Value::Null,
            1 => Value::Bool(random.bool()),
            2 | 3 => random.choice(NUMBERS).copied().unwrap_or_default().into(),
            4 => {
                let floats = [
                    0.0,
                    -0.0,
                    7.0,
                    7.5,
                    1e308,
                    -1e308,
                    5e-324,
                    1e18,
                    0.1,
                    86_399_999_999_999.0,
                ];
                Number::from_f64(floats[random.usize(..floats.len())]).map_or(Value::Null, Value::Number)
            }
            5 | 6 => Value::String(String::from_utf8_lossy(self.word(random)).into_owned()),
            7 => [json!([]), json!({}), json!([[]]), json!({"": null})][random.usize(..4)].clone(),
            // A piece of another input, or of this one.
            _ => {
                let mut other = random.choice(&self.values).cloned().unwrap_or_default();
                let at = random.usize(..size(&other));
                node(&mut other, at).take()
            }
        }
    }
}

fn length(random: &mut Rng) -> usize {
    if random.u8(..) < 200 {
        random.usize(..9)
    } else {
        random.usize(..200)
    }
}

/// Repeats a piece of the input until it is long: what costs more than its length shows.
fn grow(input: &mut Vec<u8>, random: &mut Rng) {
    if input.is_empty() {
        input.push(b'[');
    }
    let from = random.usize(..input.len());
    let to = (from + random.usize(1..64)).min(input.len());
    let piece = input[from..to].to_vec();
    let times = LONGEST.saturating_sub(input.len()) / piece.len();
    input.splice(to..to, piece.repeat(random.usize(..=times)));
}

fn raw_number(text: &mut Vec<u8>, random: &mut Rng) {
    let starts: Vec<usize> = (1..text.len())
        .filter(|at| text[*at].is_ascii_digit() && matches!(text[at - 1], b':' | b',' | b'['))
        .collect();
    let Some(&start) = random.choice(&starts) else { return };
    let end = (start..text.len())
        .find(|at| matches!(text[*at], b',' | b'}' | b']'))
        .unwrap_or(text.len());
    let number = RAW_NUMBERS[random.usize(..RAW_NUMBERS.len())];
    text.splice(start..end, number.bytes());
}

fn collect_keys(value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                keys.push(key.clone());
                collect_keys(value, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

fn nth_key(map: &Map<String, Value>, random: &mut Rng) -> String {
    map.keys().nth(random.usize(..map.len())).cloned().unwrap_or_default()
}

/// Returns how many values a value is made of, itself included.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// Returns one of these values, by its number from 0.
fn node(value: &mut Value, number: usize) -> &mut Value {
    if number == 0 {
        return value;
    }
    let mut left = number - 1;
    let children: Box<dyn Iterator<Item = &mut Value>> = match value {
        Value::Object(map) => Box::new(map.values_mut()),
        Value::Array(items) => Box::new(items.iter_mut()),
        _ => unreachable!("a number is below the size"),
    };
    for child in children {
        let size = size(child);
        if left < size {
            return node(child, left);
        }
        left -= size;
    }
    unreachable!("a number is below the size")
}
