//! Where Python's JSON decoder would stop in a text that is not JSON, and what it would say: mobu's clients read that.

/// What is wrong with a text, in the words of Python 3.13.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Where, in characters from 0.
    pub(super) at: usize,
    /// What.
    pub(super) text: &'static str,
}

/// How deep the search goes: deeper texts are refused for their depth before.
const DEPTH: usize = 200;

/// Returns the first flaw that Python would report, or `None` if Python would find none.
pub(super) fn flaw(text: &str) -> Option<Flaw> {
    let chars: Vec<char> = text.chars().collect();
    let mut scanner = Scanner {
        chars: &chars,
        at: 0,
        depth: 0,
    };
    scanner.document().err()
}

struct Scanner<'a> {
    chars: &'a [char],
    at: usize,
    depth: usize,
}

type Scan = Result<(), Flaw>;

fn stop<T>(at: usize, text: &'static str) -> Result<T, Flaw> {
    Err(Flaw { at, text })
}

const VALUE: &str = "Expecting value";

impl Scanner<'_> {
    fn document(&mut self) -> Scan {
        self.blanks();
        self.value()?;
        self.blanks();
        if self.at < self.chars.len() {
            return stop(self.at, "Extra data");
        }
        Ok(())
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Scan {
        if self.depth == DEPTH {
            return stop(self.at, "Too many levels");
        }
        match self.peek() {
            Some('"') => self.string(),
            Some('{') => self.nested(Self::object),
            Some('[') => self.nested(Self::array),
            _ if self.literal() || self.number() => Ok(()),
            _ => stop(self.at, VALUE),
        }
    }

    fn nested(&mut self, scan: fn(&mut Self) -> Scan) -> Scan {
        self.depth += 1;
        self.at += 1;
        self.blanks();
        scan(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn literal(&mut self) -> bool {
        let rest = &self.chars[self.at..];
        let found = ["null", "true", "false", "NaN", "Infinity", "-Infinity"]
            .into_iter()
            .find(|word| rest.iter().copied().take(word.len()).eq(word.chars()));
        self.at += found.map_or(0, str::len);
        found.is_some()
    }

    fn digits(&self, from: usize) -> usize {
        self.chars[from.min(self.chars.len())..]
            .iter()
            .take_while(|c| c.is_ascii_digit())
            .count()
    }

    fn number(&mut self) -> bool {
        let at = |index: usize| self.chars.get(index).copied();
        let mut end = self.at + usize::from(at(self.at) == Some('-'));
        end += match at(end) {
            Some('0') => 1,
            Some('1'..='9') => self.digits(end),
            _ => return false,
        };
        if at(end) == Some('.') {
            let fraction = self.digits(end + 1);
            end += if fraction > 0 { fraction + 1 } else { 0 };
        }
        if matches!(at(end), Some('e' | 'E')) {
            let sign = usize::from(matches!(at(end + 1), Some('+' | '-')));
            let exponent = self.digits(end + 1 + sign);
            end += if exponent > 0 { exponent + 1 + sign } else { 0 };
        }
        self.at = end;
        true
    }

    fn string(&mut self) -> Scan {
        let begin = self.at;
        let unterminated = || stop(begin, "Unterminated string starting at");
        self.at += 1;
        loop {
            match self.peek() {
                None => return unterminated(),
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some('\\') => {
                    let escape = self.at;
                    self.at += 2;
                    match self.chars.get(escape + 1) {
                        None => return unterminated(),
                        Some('u') => {
                            let hex = self.chars.get(escape + 2..escape + 6);
                            let well_formed = hex.is_some_and(|hex| hex.iter().all(char::is_ascii_hexdigit));
                            if !well_formed {
                                return stop(escape + 1, "Invalid \\uXXXX escape");
                            }
                            self.at += 4;
                        }
                        Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => {}
                        Some(_) => return stop(escape, "Invalid \\escape"),
                    }
                }
                Some(c) if c < ' ' => return stop(self.at, "Invalid control character at"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn object(&mut self) -> Scan {
        if self.peek() == Some('}') {
            self.at += 1;
            return Ok(());
        }
        let mut comma = None;
        loop {
            match (self.peek(), comma) {
                (Some('"'), _) => self.string()?,
                (Some('}'), Some(comma)) => return stop(comma, "Illegal trailing comma before end of object"),
                _ => return stop(self.at, "Expecting property name enclosed in double quotes"),
            }
            self.blanks();
            if self.peek() != Some(':') {
                return stop(self.at, "Expecting ':' delimiter");
            }
            self.at += 1;
            self.blanks();
            self.value()?;
            self.blanks();
            match self.peek() {
                Some('}') => break,
                Some(',') => comma = Some(self.at),
                _ => return stop(self.at, "Expecting ',' delimiter"),
            }
            self.at += 1;
            self.blanks();
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self) -> Scan {
        if self.peek() == Some(']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            self.blanks();
            let comma = self.at;
            match self.peek() {
                Some(']') => break,
                Some(',') => self.at += 1,
                _ => return stop(self.at, "Expecting ',' delimiter"),
            }
            self.blanks();
            if self.peek() == Some(']') {
                return stop(comma, "Illegal trailing comma before end of array");
            }
        }
        self.at += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn flaws_are_placed_and_named_as_by_python() {
        for (text, at, says) in [
            ("{", 1, "Expecting property name enclosed in double quotes"),
            ("{x", 1, "Expecting property name enclosed in double quotes"),
            ("[", 1, VALUE),
            ("  ", 2, VALUE),
            ("nul", 0, VALUE),
            ("-", 0, VALUE),
            ("01", 1, "Extra data"),
            ("1 2", 2, "Extra data"),
            (r#"{"a" 1}"#, 5, "Expecting ':' delimiter"),
            (r#"{"a": }"#, 6, VALUE),
            (r#"{"a": 1 "b"}"#, 8, "Expecting ',' delimiter"),
            (r#"{"a": 1,}"#, 7, "Illegal trailing comma before end of object"),
            ("[1, ]", 2, "Illegal trailing comma before end of array"),
            ("[1 2]", 3, "Expecting ',' delimiter"),
            (r#"["a]"#, 1, "Unterminated string starting at"),
            ("\"é\n\"", 2, "Invalid control character at"),
            (r#""\x""#, 1, "Invalid \\escape"),
            (r#""\u12""#, 2, "Invalid \\uXXXX escape"),
        ] {
            assert_eq!(flaw(text), Some(Flaw { at, text: says }), "{text}");
        }
        assert_eq!(flaw(r#" {"a": [1.5e-3, NaN, "\ud800"]} "#), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in r#"[\[\]{}",:\\a-f0-9.eEu \n-]{0,40}"#) {
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert_eq!(flaw(&text), None);
            }
        }
    }
}
