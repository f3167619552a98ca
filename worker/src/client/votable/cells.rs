//! What may be in a cell, and in a stream of base64.

/// What the cells of a column hold, as far as it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Whole numbers, of the type that is named.
    Integers(&'static str),
    /// Numbers, of the type that is named.
    Floats(&'static str),
    /// Anything.
    Other,
}

impl Column {
    pub(super) fn of(datatype: &str) -> Self {
        match datatype {
            "unsignedByte" => Self::Integers("unsignedByte"),
            "short" => Self::Integers("short"),
            "int" => Self::Integers("int"),
            "long" => Self::Integers("long"),
            "float" => Self::Floats("float"),
            "double" => Self::Floats("double"),
            _ => Self::Other,
        }
    }

    /// Looks at the text of a cell; an empty one stands for no value.
    pub(super) fn check(self, cell: &str) -> Result<(), String> {
        let (is_right, datatype): (fn(&str) -> bool, _) = match self {
            Self::Integers(datatype) => (is_integer, datatype),
            Self::Floats(datatype) => (is_float, datatype),
            Self::Other => return Ok(()),
        };
        match cell.split_ascii_whitespace().find(|value| !is_right(value)) {
            None => Ok(()),
            Some(wrong) => {
                let wrong: String = wrong.chars().take(40).collect();
                Err(format!("`{}` is no {datatype}", wrong.escape_debug()))
            }
        }
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    match digits.strip_prefix("0x") {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_float(text: &str) -> bool {
    // Rust reads NaN and infinities in any case, as VOTable writes them.
    text.parse::<f64>().is_ok() || is_integer(text)
}

/// Reads base64 that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    digits: u64,
    padding: u8,
    /// The bits of the group of four digits that is being read.
    bits: u32,
}

impl Base64 {
    /// Takes a piece and adds the bytes that it completes to `bytes`. Returns whether it may still be base64.
    pub(super) fn take(&mut self, piece: &str, bytes: &mut Vec<u8>) -> bool {
        piece.bytes().all(|byte| {
            let value = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => return true,
                b'=' => {
                    self.padding += 1;
                    return self.padding <= 2;
                }
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return false,
            };
            self.digits += 1;
            self.bits = (self.bits << 6) | u32::from(value);
            if self.digits.is_multiple_of(4) {
                bytes.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                self.bits = 0;
            }
            self.padding == 0
        })
    }

    /// Adds the last bytes, of a group that is filled up. Returns whether all of it was base64.
    pub(super) fn finish(&self, bytes: &mut Vec<u8>) -> bool {
        let last = match (self.digits % 4, self.padding) {
            (0, 0) => return true,
            (2, 2) => 1,
            (3, 1) => 2,
            _ => return false,
        };
        let bits = self.bits << (6 * self.padding);
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=last]);
        true
    }
}
