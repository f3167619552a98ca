//! Cuts long runs of text in an XML document while it comes in, so that a reader that takes such a run as one event needs
//! no more memory than for a piece of it. A table in base64 is one such run, of any size.

use std::io;

use bytes::Bytes;

/// Longest piece of text, in bytes.
const TEXT: usize = 32 * 1024;
/// Longest tag, comment or instruction, in bytes: these cannot be cut.
const MARKUP: usize = 1024 * 1024;
/// What is put into text between two pieces: an instruction that nobody obeys.
const TEXT_CUT: &[u8] = b"<?cut?>";
/// The same for a section that is not parsed.
const CDATA_CUT: &[u8] = b"]]><![CDATA[";
/// How a comment and such a section begin, after `<!`.
const COMMENT_OPENS: &[u8] = b"--";
const CDATA_OPENS: &[u8] = b"[CDATA[";

/// Where in a document its end so far is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    /// After a `<`.
    Opened,
    /// After `<!` and as many bytes that comment or section begin with.
    Declared(usize, bool),
    Tag(Option<u8>),
    Comment,
    Cdata,
    Instruction,
}

/// Passes a document on, chunk by chunk.
#[derive(Debug)]
pub(super) struct Pieces {
    place: Place,
    /// Length of the current run.
    run: usize,
    /// The two last bytes.
    last: [u8; 2],
    is_in_reference: bool,
}

impl Pieces {
    pub(super) const fn new() -> Self {
        Self {
            place: Place::Text,
            run: 0,
            last: [0; 2],
            is_in_reference: false,
        }
    }

    /// Takes a chunk, returns what the reader gets for it.
    pub(super) fn pass(&mut self, chunk: Bytes) -> io::Result<Bytes> {
        let mut out = Vec::new();
        let mut passed = 0;
        for (index, &byte) in chunk.iter().enumerate() {
            if let Some(cut) = self.cut_before(byte) {
                out.extend_from_slice(&chunk[passed..index]);
                out.extend_from_slice(cut);
                passed = index;
                self.run = 0;
            }
            self.step(byte)?;
        }
        if out.is_empty() {
            return Ok(chunk);
        }
        out.extend_from_slice(&chunk[passed..]);
        Ok(out.into())
    }

    /// Returns what must come before this byte, if a piece is long enough.
    fn cut_before(&self, byte: u8) -> Option<&'static [u8]> {
        // A character of several bytes stays whole.
        if self.run < TEXT || byte & 0xc0 == 0x80 {
            return None;
        }
        match self.place {
            Place::Text if !self.is_in_reference && byte != b'<' => Some(TEXT_CUT),
            Place::Cdata if self.last[1] != b']' => Some(CDATA_CUT),
            _ => None,
        }
    }

    fn step(&mut self, byte: u8) -> io::Result<()> {
        let place = self.place;
        self.place = self.next(byte);
        self.last = [self.last[1], byte];
        let goes_on = std::mem::discriminant(&place) == std::mem::discriminant(&self.place);
        self.run = if goes_on { self.run + 1 } else { 0 };
        if goes_on && self.run > MARKUP {
            return Err(io::Error::new(io::ErrorKind::InvalidData, TooLong));
        }
        Ok(())
    }

    fn next(&mut self, byte: u8) -> Place {
        match self.place {
            Place::Text => {
                match byte {
                    b'<' => {
                        self.is_in_reference = false;
                        return Place::Opened;
                    }
                    b'&' => self.is_in_reference = true,
                    b';' => self.is_in_reference = false,
                    _ => {}
                }
                Place::Text
            }
            Place::Opened => match byte {
                b'!' => Place::Declared(0, false),
                b'?' => Place::Instruction,
                b'>' => Place::Text,
                _ => Place::Tag(None),
            },
            Place::Declared(seen, is_cdata) => {
                let opens = if is_cdata || (seen == 0 && byte == b'[') {
                    CDATA_OPENS
                } else {
                    COMMENT_OPENS
                };
                if opens[seen] != byte {
                    return if byte == b'>' { Place::Text } else { Place::Tag(None) };
                }
                match (seen + 1 == opens.len(), opens == CDATA_OPENS) {
                    (true, true) => self.entered(Place::Cdata),
                    (true, false) => self.entered(Place::Comment),
                    (false, is_cdata) => Place::Declared(seen + 1, is_cdata),
                }
            }
            Place::Tag(None) => match byte {
                b'>' => Place::Text,
                b'"' | b'\'' => Place::Tag(Some(byte)),
                _ => self.place,
            },
            Place::Tag(Some(quote)) if quote == byte => Place::Tag(None),
            Place::Comment if byte == b'>' && self.last == *b"--" => Place::Text,
            Place::Cdata if byte == b'>' && self.last == *b"]]" => Place::Text,
            Place::Instruction if byte == b'>' && self.last[1] == b'?' => Place::Text,
            place => place,
        }
    }

    /// The bytes that opened something do not close it.
    fn entered(&mut self, place: Place) -> Place {
        self.last = [0; 2];
        place
    }
}

/// A tag, comment or reference is longer than anybody needs.
#[derive(Debug, thiserror::Error)]
#[error("a piece of markup is longer than 1 MiB")]
struct TooLong;

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes a document in chunks of a size; returns it without the cuts, and the longest piece between two `<`.
    fn pass(document: &str, size: usize) -> (String, usize) {
        let mut pieces = Pieces::new();
        let mut out = Vec::new();
        for chunk in document.as_bytes().chunks(size) {
            out.extend_from_slice(&pieces.pass(Bytes::copy_from_slice(chunk)).unwrap());
        }
        let out = String::from_utf8(out).unwrap();
        let longest = out.split('<').map(str::len).max().unwrap();
        (out.replace("<?cut?>", "").replace("]]><![CDATA[", ""), longest)
    }

    #[test]
    fn short_documents_pass_unchanged() {
        let document = "<?xml version='1.0'?><!DOCTYPE a><a b=\"<x>'\"><!-- < & --><c/>x &lt; y<![CDATA[]]]]></a>";
        for size in [1, 3, 1000] {
            assert_eq!(pass(document, size).0, document);
        }
    }

    #[test]
    fn long_text_comes_in_pieces_with_characters_and_references_whole() {
        for text in ["QUJD".repeat(50_000), "é&amp;".repeat(50_000)] {
            for document in [format!("<a>{text}</a>"), format!("<a><![CDATA[{text}]]></a>")] {
                let (same, longest) = pass(&document, 1000);
                assert!(same == document, "changed");
                assert!(longest < TEXT + 100, "{longest}");
            }
        }
    }

    #[test]
    fn markup_without_end_is_refused() {
        let mut pieces = Pieces::new();
        let endless = std::iter::repeat_n(Bytes::from(vec![b'-'; 100_000]), 100);
        let mut chunks = std::iter::once(Bytes::from("<!--")).chain(endless);
        assert!(chunks.any(|chunk| pieces.pass(chunk).is_err()));
    }
}
