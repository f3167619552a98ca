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

/// Looks at base64 that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    digits: u64,
    padding: u8,
}

impl Base64 {
    /// Takes a piece. Returns whether it may still be base64.
    pub(super) fn take(&mut self, piece: &str) -> bool {
        piece.bytes().all(|byte| match byte {
            b' ' | b'\t' | b'\r' | b'\n' => true,
            b'=' => {
                self.padding += 1;
                self.padding <= 2
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {
                self.digits += 1;
                self.padding == 0
            }
            _ => false,
        })
    }

    /// Returns whether it is complete.
    pub(super) fn is_complete(&self) -> bool {
        (self.digits + u64::from(self.padding)).is_multiple_of(4)
    }
}
