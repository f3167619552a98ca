//! Takes out of a stream what a terminal would obey: a log holds what services and notebooks have said, and goes into files and pipes too.

/// Most bytes of a sequence that sets colours; a longer one is none.
const LONGEST: usize = 64;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Passes one stream on, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Escapes {
    place: Place,
    /// A sequence whose end has not come yet.
    sequence: Vec<u8>,
}

/// Where in the stream its end so far is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Text,
    /// After an escape character, and bytes that belong to it.
    Escape,
    /// In a control sequence, which colours are.
    Control,
    /// In a string for the terminal, a title for one.
    String,
    /// In such a string, after an escape character that may end it.
    StringEnds,
}

impl Escapes {
    /// Takes a piece; returns what of it is shown. Sequences that set colours stay, if they are wanted.
    pub(crate) fn pass(&mut self, piece: &[u8], with_colours: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(piece.len());
        for &byte in piece {
            // No sequence goes on in the next line: one that is never finished takes no more than its own.
            if byte == b'\n' {
                self.place = Place::Text;
            }
            self.place = self.step(byte, with_colours, &mut shown);
        }
        shown
    }

    fn step(&mut self, byte: u8, with_colours: bool, shown: &mut Vec<u8>) -> Place {
        match (self.place, byte) {
            (Place::Text | Place::Escape | Place::Control, ESCAPE) => {
                self.sequence.clear();
                Place::Escape
            }
            (Place::Text, _) => {
                shown.push(byte);
                Place::Text
            }
            (Place::Escape, b'[') => Place::Control,
            (Place::Escape, b']' | b'P' | b'X' | b'^' | b'_') => Place::String,
            // What selects a set of characters has more bytes than one.
            (Place::Escape, b' '..=b'/') => Place::Escape,
            (Place::Escape, _) | (Place::StringEnds, b'\\') | (Place::String, BELL) => Place::Text,
            (Place::Control, b'@'..=b'~') => {
                if byte == b'm' && with_colours && self.sequence.len() < LONGEST {
                    shown.extend_from_slice(b"\x1b[");
                    shown.append(&mut self.sequence);
                    shown.push(b'm');
                }
                Place::Text
            }
            (Place::Control, _) => {
                if self.sequence.len() < LONGEST {
                    self.sequence.push(byte);
                }
                Place::Control
            }
            (Place::String | Place::StringEnds, ESCAPE) => Place::StringEnds,
            (Place::String | Place::StringEnds, _) => Place::String,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes a text in pieces of a size.
    fn pass(text: &str, size: usize, with_colours: bool) -> String {
        let mut escapes = Escapes::default();
        let pieces = text.as_bytes().chunks(size);
        let shown = pieces.flat_map(|piece| escapes.pass(piece, with_colours)).collect();
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn colours_stay_where_they_are_wanted_and_nothing_else_does() {
        let text = "é\x1b[32m\x1b[1minfo\x1b[0m \x1b[38;5;1mx\x1b[m \x1b[2Jgone\x1b[1;1H \x1b]0;title\x07a\x1b]8;;u\x1b\\b\x1b(Bc\x1bcd\t\r\n";
        for size in [1, 2, 1000] {
            assert_eq!(pass(text, size, false), "éinfo x gone abcd\t\r\n");
            assert_eq!(
                pass(text, size, true),
                "é\x1b[32m\x1b[1minfo\x1b[0m \x1b[38;5;1mx\x1b[m gone abcd\t\r\n"
            );
        }
    }

    #[test]
    fn what_never_ends_takes_its_own_line_alone() {
        for begin in ["\x1b", "\x1b[3", "\x1b]0;title", "\x1b]\x1b"] {
            assert_eq!(pass(&format!("a{begin}\nb"), 1, true), "a\nb", "{begin:?}");
        }
        let long = format!("\x1b[{}mx", "1;".repeat(1000));
        assert_eq!(pass(&long, 7, true), "x");
    }
}
