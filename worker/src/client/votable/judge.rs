//! The judgement, element by element.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart};

use super::binary::{Rows, Width};
use super::cells::{Base64, Column};
use super::{BadAnswer, Verdict};
use crate::client::xml::{DEPTH, complaint, local, resolve};

/// How much of a message or of a cell is kept, in bytes.
const TEXT_KEPT: usize = 4096;
/// How many columns a table may have.
const COLUMNS: usize = 100_000;

/// Why to look no further.
#[derive(Debug)]
pub(super) enum Step {
    NotVoTable,
    Broken(String),
}

impl<E: std::error::Error> From<E> for Step {
    fn from(error: E) -> Self {
        Self::Broken(complaint(&error))
    }
}

/// What an element is, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    VoTable,
    Resource,
    Table,
    Info,
    Row,
    Cell,
    /// What holds a stream of rows: whether each begins with flags, as in BINARY2.
    Binary(bool),
    Stream,
    Other,
}

/// What a `QUERY_STATUS` says.
#[derive(Debug, Default)]
struct Status {
    value: String,
    text: String,
}

/// What counts of the resource that counts.
#[derive(Debug, Default)]
struct Results {
    /// Whether it is marked as the results, or just the first.
    is_marked: bool,
    status: Option<Status>,
    table_status: Option<Status>,
    tables: usize,
    /// Whether its first table has columns.
    has_fields: bool,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// The elements that the current place is in, outermost first.
    open: Vec<Node>,
    has_begun: bool,
    results: Option<Results>,
    /// Whether the current place is in the resource that counts.
    is_in_results: bool,
    top_status: Option<Status>,
    /// The INFO that is being read, if it is a status.
    status: Option<Status>,
    columns: Vec<Column>,
    /// The same for rows in binary; `None` where that is not known.
    widths: Vec<Option<Width>>,
    /// Cells of the current row so far.
    cells: usize,
    /// Text of the current cell; `None` if it is too long to look at.
    cell: Option<String>,
    stream: Option<Stream>,
}

/// A stream that is being read.
#[derive(Debug, Default)]
struct Stream {
    base64: Base64,
    /// `None` if it has no rows, or such that nobody knows how to read.
    rows: Option<Rows>,
    /// The bytes of the last piece, kept for their room.
    bytes: Vec<u8>,
}

impl Stream {
    fn take(&mut self, text: &str) -> Result<(), Step> {
        self.bytes.clear();
        if !self.base64.take(text, &mut self.bytes) {
            return Err(not_base64());
        }
        self.read()
    }

    fn finish(mut self) -> Result<(), Step> {
        self.bytes.clear();
        if !self.base64.finish(&mut self.bytes) {
            return Err(not_base64());
        }
        self.read()?;
        if self.rows.is_some_and(|rows| !rows.is_complete()) {
            return Err(Step::Broken("a stream ends in the middle of a row".to_owned()));
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Step> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        rows.take(&self.bytes).map_err(Step::Broken)
    }
}

impl Judge {
    /// Returns whether this is a VOTable at all.
    pub(super) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub(super) fn start(&mut self, start: &BytesStart<'_>) -> Result<(), Step> {
        let name = local(start.name().0);
        if self.open.is_empty() {
            if self.has_begun {
                return Err(follows());
            }
            if name != "VOTABLE" {
                return Err(Step::NotVoTable);
            }
            self.has_begun = true;
        }
        if self.open.len() >= DEPTH {
            return Err(Step::Broken(format!("more than {DEPTH} elements are in one another")));
        }
        let node = match name {
            "VOTABLE" => Node::VoTable,
            "RESOURCE" => Node::Resource,
            "TABLE" => Node::Table,
            "INFO" => Node::Info,
            "TR" => Node::Row,
            "TD" => Node::Cell,
            "BINARY" => Node::Binary(false),
            "BINARY2" => Node::Binary(true),
            "STREAM" => Node::Stream,
            _ => Node::Other,
        };
        match node {
            Node::Resource => self.start_resource(start)?,
            Node::Table => self.start_table(),
            Node::Info => self.start_info(start)?,
            Node::Row => self.cells = 0,
            Node::Cell => self.cell = Some(String::new()),
            Node::Stream => {
                let is_base64 = attribute(start, "encoding")?.as_deref() == Some("base64");
                let is_here = attribute(start, "href")?.is_none();
                let rows = match self.open.last() {
                    Some(Node::Binary(has_flags)) => Rows::new(self.widths.iter().copied(), *has_flags),
                    _ => None,
                };
                self.stream = (is_base64 && is_here).then(|| Stream {
                    rows,
                    ..Stream::default()
                });
            }
            Node::Other if name == "FIELD" && self.open.last() == Some(&Node::Table) => self.field(start)?,
            Node::VoTable | Node::Binary(_) | Node::Other => {}
        }
        self.open.push(node);
        Ok(())
    }

    fn start_resource(&mut self, start: &BytesStart<'_>) -> Result<(), Step> {
        if self.open.len() != 1 {
            return Ok(());
        }
        let is_marked = attribute(start, "type")?.is_some_and(|kind| kind.eq_ignore_ascii_case("results"));
        self.is_in_results = match &self.results {
            None => true,
            Some(known) => is_marked && !known.is_marked,
        };
        if self.is_in_results {
            self.results = Some(Results {
                is_marked,
                ..Results::default()
            });
        }
        Ok(())
    }

    fn start_table(&mut self) {
        self.columns.clear();
        self.widths.clear();
        if self.is_directly_in_results() {
            self.results.get_or_insert_default().tables += 1;
        }
    }

    fn start_info(&mut self, start: &BytesStart<'_>) -> Result<(), Step> {
        let is_status = attribute(start, "name")?.is_some_and(|name| name.eq_ignore_ascii_case("QUERY_STATUS"));
        self.status = if is_status {
            Some(Status {
                value: attribute(start, "value")?.unwrap_or_default(),
                text: String::new(),
            })
        } else {
            None
        };
        Ok(())
    }

    fn field(&mut self, start: &BytesStart<'_>) -> Result<(), Step> {
        if self.columns.len() == COLUMNS {
            return Err(Step::Broken(format!("a table has more than {COLUMNS} columns")));
        }
        let datatype = attribute(start, "datatype")?;
        self.columns.push(datatype.as_deref().map_or(Column::Other, Column::of));
        let arraysize = attribute(start, "arraysize")?;
        let width = datatype
            .as_deref()
            .and_then(|datatype| Width::of(datatype, arraysize.as_deref()));
        self.widths.push(width);
        if self.is_in_first_table()
            && let Some(results) = &mut self.results
        {
            results.has_fields = true;
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), Step> {
        let Some(node) = self.open.pop() else {
            return Err(Step::Broken("an element ends that has not begun".to_owned()));
        };
        match node {
            Node::Info => self.end_info(),
            Node::Cell => {
                let cell = self.cell.take();
                if let (Some(cell), Some(column)) = (cell, self.columns.get(self.cells)) {
                    column.check(&cell).map_err(Step::Broken)?;
                }
                self.cells += 1;
            }
            Node::Row if self.cells != self.columns.len() => {
                let (cells, columns) = (self.cells, self.columns.len());
                return Err(Step::Broken(format!(
                    "a row has {cells} cells, the table {columns} columns"
                )));
            }
            Node::Stream => {
                if let Some(stream) = self.stream.take() {
                    stream.finish()?;
                }
            }
            Node::Resource if self.open.len() == 1 => self.is_in_results = false,
            Node::VoTable | Node::Resource | Node::Table | Node::Row | Node::Binary(_) | Node::Other => {}
        }
        Ok(())
    }

    fn end_info(&mut self) {
        let Some(status) = self.status.take() else { return };
        if self.open == [Node::VoTable] {
            self.top_status = Some(status);
        } else if self.is_directly_in_results() {
            self.results.get_or_insert_default().status = Some(status);
        } else if self.is_in_first_table() {
            self.results.get_or_insert_default().table_status = Some(status);
        }
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), Step> {
        match self.open.last() {
            None if text.trim_matches('\u{feff}').trim().is_empty() => {}
            None if self.has_begun => return Err(follows()),
            None => return Err(Step::NotVoTable),
            Some(Node::Info) => {
                if let Some(status) = &mut self.status {
                    let room = TEXT_KEPT.saturating_sub(status.text.len());
                    let kept = text.char_indices().take_while(|(at, _)| *at < room);
                    status.text.extend(kept.map(|(_, character)| character));
                }
            }
            Some(Node::Cell) => match &mut self.cell {
                Some(cell) if cell.len() + text.len() <= TEXT_KEPT => cell.push_str(text),
                _ => self.cell = None,
            },
            Some(Node::Stream) => {
                if let Some(stream) = &mut self.stream {
                    stream.take(text)?;
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    pub(super) fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), Step> {
        let character = resolve(reference)?;
        self.text(character.encode_utf8(&mut [0; 4]))
    }

    /// Returns the verdict at the end of the document.
    pub(super) fn verdict(self) -> Verdict {
        if !self.has_begun {
            return Verdict::NotVoTable;
        }
        if !self.open.is_empty() {
            return Verdict::Bad(BadAnswer::Broken("it ends before it is complete".to_owned()));
        }
        let results = self.results.unwrap_or_default();
        let status = results.status.or(results.table_status).or(self.top_status);
        let refusal = status.filter(|status| {
            let value = status.value.trim();
            !value.eq_ignore_ascii_case("OK") && !value.eq_ignore_ascii_case("OVERFLOW")
        });
        if let Some(Status { value, text }) = refusal {
            let text = text.trim();
            return Verdict::Bad(BadAnswer::Refused(if text.is_empty() {
                format!("QUERY_STATUS is {value}")
            } else {
                text.to_owned()
            }));
        }
        if results.tables == 0 {
            Verdict::Bad(BadAnswer::NoTable)
        } else if results.has_fields {
            Verdict::Good
        } else {
            Verdict::Bad(BadAnswer::NoFields)
        }
    }

    /// Returns whether the current place is a child of the resource that counts.
    fn is_directly_in_results(&self) -> bool {
        self.is_in_results && self.open == [Node::VoTable, Node::Resource]
    }

    /// Returns whether the current place is a child of that resource's first table.
    fn is_in_first_table(&self) -> bool {
        let is_first = self.results.as_ref().is_some_and(|results| results.tables == 1);
        self.is_in_results && is_first && self.open == [Node::VoTable, Node::Resource, Node::Table]
    }
}

fn follows() -> Step {
    Step::Broken("something follows its end".to_owned())
}

fn not_base64() -> Step {
    Step::Broken("a stream is not in base64".to_owned())
}

/// Returns an attribute by its name.
fn attribute(start: &BytesStart<'_>, name: &str) -> Result<Option<String>, Step> {
    for attribute in start.attributes() {
        let attribute = attribute?;
        if local(attribute.key.0) == name {
            return Ok(Some(attribute.normalized_value(XmlVersion::default())?.into_owned()));
        }
    }
    Ok(None)
}
