//! Rows in the serializations `BINARY` and `BINARY2` of VOTable 1.4 (5.3, 5.4), read as they come in: their values are not kept, but
//! every row must end where its columns say, and the last one at the end of the stream.

/// What one column has in every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// So many bytes.
    Fixed(u64),
    /// A number of items, as four bytes, and then these.
    Counted(Items),
}

/// Size of the items of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Items {
    /// In bytes.
    Bytes(u64),
    /// Eight to the byte.
    Bits,
}

impl Items {
    fn of(datatype: &str) -> Option<Self> {
        Some(Self::Bytes(match datatype {
            "bit" => return Some(Self::Bits),
            "boolean" | "unsignedByte" | "char" => 1,
            "short" | "unicodeChar" => 2,
            "int" | "float" => 4,
            "long" | "double" | "floatComplex" => 8,
            "doubleComplex" => 16,
            _ => return None,
        }))
    }

    /// Returns how many bytes so many of them have.
    fn bytes(self, count: u64) -> u64 {
        match self {
            Self::Bytes(size) => size.saturating_mul(count),
            Self::Bits => count.div_ceil(8),
        }
    }
}

impl Width {
    /// Returns the width of a column; `None` if it is no column of the standard, of which nobody knows the width.
    pub(super) fn of(datatype: &str, arraysize: Option<&str>) -> Option<Self> {
        let items = Items::of(datatype)?;
        let Some(arraysize) = arraysize.map(str::trim).filter(|size| !size.is_empty()) else {
            return Some(Self::Fixed(items.bytes(1)));
        };
        if arraysize.ends_with('*') {
            return Some(Self::Counted(items));
        }
        let mut count = 1_u64;
        for size in arraysize.split('x') {
            count = count.saturating_mul(size.trim().parse().ok()?);
        }
        Some(Self::Fixed(items.bytes(count)))
    }
}

/// Where in a row the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the begin of a row.
    Begin,
    /// In the bytes of a column, of which so many are left.
    Value(u64),
    /// In the number of a column's items, of which so many bytes are known.
    Count { known: u8, so_far: u32 },
}

/// Reads rows from bytes that come in pieces.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<Width>,
    /// Bytes before each row that say which of its values are null.
    flags: u64,
    place: Place,
    /// The column after the one that is being read.
    next: usize,
}

impl Rows {
    /// Returns a reader of rows with these columns; `None` if the width of one of them is not known.
    pub(super) fn new(columns: impl Iterator<Item = Option<Width>>, has_flags: bool) -> Option<Self> {
        let columns = columns.collect::<Option<Vec<_>>>()?;
        Some(Self {
            flags: if has_flags { columns.len().div_ceil(8) as u64 } else { 0 },
            columns,
            place: Place::Begin,
            next: 0,
        })
    }

    /// Takes the next bytes. Returns what is wrong with them, if anything.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.place {
                Place::Begin if self.columns.is_empty() => return Err("a table without columns has rows".to_owned()),
                Place::Begin => {
                    self.next = 0;
                    self.place = Place::Value(self.flags);
                    self.skip_what_is_empty();
                    if self.place == Place::Begin {
                        return Err("the rows of a table have no bytes, and come with some".to_owned());
                    }
                }
                Place::Value(left) => {
                    let taken = left.min(bytes.len() as u64);
                    bytes = bytes
                        .get(usize::try_from(taken).unwrap_or(usize::MAX)..)
                        .unwrap_or_default();
                    self.place = Place::Value(left - taken);
                    self.skip_what_is_empty();
                }
                Place::Count { known, so_far } => {
                    let so_far = (so_far << 8) | u32::from(bytes[0]);
                    bytes = &bytes[1..];
                    self.place = Place::Count {
                        known: known + 1,
                        so_far,
                    };
                    if known + 1 == 4 {
                        self.counted(so_far)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns whether the last row is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.place == Place::Begin
    }

    fn counted(&mut self, count: u32) -> Result<(), String> {
        let column = self.columns.get(self.next - 1);
        let Some(Width::Counted(items)) = column else {
            return Ok(());
        };
        // A signed number in the standard.
        if i32::try_from(count).is_err() {
            return Err("a value has a negative number of items".to_owned());
        }
        self.place = Place::Value(items.bytes(count.into()));
        self.skip_what_is_empty();
        Ok(())
    }

    /// Goes on to the next place that has bytes, or to the end of the row.
    fn skip_what_is_empty(&mut self) {
        while self.place == Place::Value(0) {
            self.place = match self.columns.get(self.next) {
                None => Place::Begin,
                Some(Width::Fixed(bytes)) => Place::Value(*bytes),
                Some(Width::Counted(_)) => Place::Count { known: 0, so_far: 0 },
            };
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(columns: &[(&str, Option<&str>)], has_flags: bool) -> Rows {
        let widths = columns.iter().map(|(datatype, size)| Width::of(datatype, *size));
        Rows::new(widths, has_flags).unwrap()
    }

    #[test]
    fn widths_are_those_of_the_standard() {
        let fixed = |bytes| Some(Width::Fixed(bytes));
        for (datatype, arraysize, width) in [
            ("int", None, fixed(4)),
            ("double", Some("3"), fixed(24)),
            ("char", Some("10"), fixed(10)),
            ("unicodeChar", Some("2x5"), fixed(20)),
            ("bit", None, fixed(1)),
            ("bit", Some("17"), fixed(3)),
            ("doubleComplex", Some("2"), fixed(32)),
            ("char", Some("*"), Some(Width::Counted(Items::Bytes(1)))),
            ("float", Some("3x*"), Some(Width::Counted(Items::Bytes(4)))),
            ("long", Some("8*"), Some(Width::Counted(Items::Bytes(8)))),
            ("string", None, None),
            ("int", Some("many"), None),
        ] {
            assert_eq!(Width::of(datatype, arraysize), width, "{datatype} {arraysize:?}");
        }
        assert!(Rows::new([Some(Width::Fixed(1)), None].into_iter(), false).is_none());
    }

    #[test]
    fn whole_rows_are_told_from_broken_ones_wherever_the_pieces_begin() {
        let columns = [
            ("int", None),
            ("char", Some("*")),
            ("double", Some("*")),
            ("boolean", None),
        ];
        let row = [&[0, 0, 0, 7, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 1][..], &[0; 8], b"T"].concat();
        for has_flags in [false, true] {
            let flags: &[u8] = if has_flags { &[0b1000_0000] } else { &[] };
            let table = [flags, &row, flags, &row].concat();
            for size in 1..table.len() {
                for end in 0..=table.len() {
                    let mut rows = rows(&columns, has_flags);
                    for piece in table[..end].chunks(size) {
                        rows.take(piece).unwrap();
                    }
                    assert_eq!(rows.is_complete(), end % (table.len() / 2) == 0, "{size} {end}");
                }
            }
        }
    }

    #[test]
    fn no_rows_are_complete_and_impossible_ones_are_told() {
        assert!(rows(&[("int", None)], true).is_complete());
        let error = rows(&[("char", Some("*"))], false).take(&[0xff; 4]).unwrap_err();
        assert_eq!(error, "a value has a negative number of items");
        let error = rows(&[], false).take(&[1]).unwrap_err();
        assert_eq!(error, "a table without columns has rows");
        let error = rows(&[("int", Some("0"))], false).take(&[1]).unwrap_err();
        assert_eq!(error, "the rows of a table have no bytes, and come with some");
        let mut rows = rows(&[("char", Some("*"))], false);
        rows.take(&[0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
        assert!(!rows.is_complete());
    }
}
