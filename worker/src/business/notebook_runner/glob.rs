//! Globs as `pathlib.Path.glob` of Python 3.13 understands them (`contracts/config.md` 7.3), asked of one path at a time.
//!
//! Python walks the directories and says what it finds. We hold a path that was found by walking, without following any
//! link to a directory, and ask whether Python would have said it, too.

use crate::client::repository::EntryKind;

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    /// Any of these, each for entries that are at least of its kind.
    alternatives: Vec<(Vec<Segment>, EntryKind)>,
}

/// Why a text is no pattern. The texts are Python's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GlobError {
    /// It begins at the root.
    #[error("Non-relative patterns are unsupported: '{0}'")]
    Absolute(String),
    /// It names nothing.
    #[error("Unacceptable pattern: '{0}'")]
    Empty(String),
}

/// A part of a pattern between two slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of names, none included.
    Recursive,
    /// A pattern of one name.
    Name(Vec<Token>),
}

/// A part of a pattern of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// `*`
    Anything,
    /// `?`
    One,
    /// `[...]`: characters from one to another, or all but those.
    Set {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Itself.
    Literal(char),
}

impl Glob {
    pub(crate) fn parse(pattern: &str) -> Result<Self, GlobError> {
        if pattern.starts_with('/') {
            return Err(GlobError::Absolute(pattern.to_owned()));
        }
        let names: Vec<&str> = pattern.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        if names.is_empty() {
            return Err(GlobError::Empty(pattern.to_owned()));
        }
        if names.contains(&"..") {
            // Such a path exists, but is equal to none that was found by walking.
            return Ok(Self { alternatives: vec![] });
        }
        let mut segments: Vec<_> = names.into_iter().map(Segment::parse).collect();
        let ends_with_slash = pattern.ends_with('/');
        let alternatives = if segments.last() == Some(&Segment::Recursive) {
            // The directory itself, or what is below it, of which the slash at the end takes the directories only.
            while segments.last() == Some(&Segment::Recursive) {
                segments.pop();
            }
            let below = [Segment::Recursive, Segment::Name(vec![Token::Anything])];
            let below = segments.iter().cloned().chain(below).collect();
            let least = if ends_with_slash {
                EntryKind::Directory
            } else {
                EntryKind::File
            };
            vec![(segments, EntryKind::LinkToDirectory), (below, least)]
        } else if ends_with_slash {
            vec![(segments, EntryKind::LinkToDirectory)]
        } else {
            vec![(segments, EntryKind::File)]
        };
        Ok(Self { alternatives })
    }

    /// Returns whether the pattern finds the path, which is given name by name.
    pub(crate) fn matches(&self, path: &[&str], kind: EntryKind) -> bool {
        self.alternatives
            .iter()
            .any(|(segments, least)| kind >= *least && matches(segments, path, Segment::is_wild, Segment::takes))
    }
}

impl Segment {
    fn parse(text: &str) -> Self {
        if text == "**" {
            return Self::Recursive;
        }
        let characters: Vec<char> = text.chars().collect();
        let mut tokens = Vec::new();
        let mut rest = &characters[..];
        while let Some((first, after)) = rest.split_first() {
            let set = if *first == '[' { Token::set(after) } else { None };
            rest = after;
            match (first, set) {
                ('*', _) => tokens.push(Token::Anything),
                ('?', _) => tokens.push(Token::One),
                ('[', Some((set, behind))) => {
                    tokens.push(set);
                    rest = behind;
                }
                (other, _) => tokens.push(Token::Literal(*other)),
            }
        }
        Self::Name(tokens)
    }

    fn is_wild(&self) -> bool {
        *self == Self::Recursive
    }

    fn takes(&self, name: &&str) -> bool {
        match self {
            Self::Recursive => true,
            Self::Name(tokens) => {
                let characters: Vec<char> = name.chars().collect();
                matches(
                    tokens,
                    &characters,
                    |token| *token == Token::Anything,
                    |token, character| token.takes(*character),
                )
            }
        }
    }
}

impl Token {
    /// Reads a set behind its bracket; `None` if nothing closes it, and the bracket stands for itself.
    fn set(text: &[char]) -> Option<(Self, &[char])> {
        let is_negated = text.first() == Some(&'!');
        let start = usize::from(is_negated);
        // A bracket that comes first is a member.
        let end = text
            .iter()
            .enumerate()
            .skip(start + 1)
            .find(|(_, character)| **character == ']')?
            .0;
        let ranges = ranges(&text[start..end]);
        Some((Self::Set { is_negated, ranges }, &text[end + 1..]))
    }

    fn takes(&self, character: char) -> bool {
        match self {
            Self::Anything | Self::One => true,
            Self::Set { is_negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&character)) != *is_negated
            }
            Self::Literal(literal) => *literal == character,
        }
    }
}

/// Returns what the members of a set are. A range that runs backwards is empty, and a hyphen that is at an end or right behind
/// a range stands for itself.
fn ranges(members: &[char]) -> Vec<(char, char)> {
    let mut ranges = Vec::new();
    let mut rest = members;
    loop {
        rest = match rest {
            [from, '-', to, behind @ ..] => {
                if from <= to {
                    ranges.push((*from, *to));
                }
                behind
            }
            [one, behind @ ..] => {
                ranges.push((*one, *one));
                behind
            }
            [] => return ranges,
        };
    }
}

/// Returns whether a pattern takes all of a text, where wild parts of the pattern take as much as they like.
///
/// The last wild part that was met is the only one that need ever take more, so that the time is bounded by the product of
/// the lengths.
fn matches<P, T>(pattern: &[P], text: &[T], is_wild: impl Fn(&P) -> bool, takes: impl Fn(&P, &T) -> bool) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Where to go on if what follows the last wild part does not fit: with one more for that.
    let mut again = None;
    while seen < text.len() {
        if pattern.get(at).is_some_and(&is_wild) {
            again = Some((at + 1, seen));
            at += 1;
        } else if pattern.get(at).is_some_and(|part| takes(part, &text[seen])) {
            (at, seen) = (at + 1, seen + 1);
        } else if let Some((after, from)) = &mut again {
            *from += 1;
            (at, seen) = (*after, *from);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(is_wild)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// What Python says about one tree: see `tests/oracle/pathlib_glob.py`.
    #[derive(Debug, Deserialize)]
    struct Tree {
        /// Every path, with what is there.
        paths: Vec<(String, String)>,
        /// Patterns with the positions of the paths that they find, or the class of the exception.
        patterns: Vec<(String, Found)>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Found {
        Paths(Vec<usize>),
        Exception(String),
    }

    #[test]
    fn patterns_find_what_pathlib_finds() {
        let trees = include_str!("../../../tests/oracle/pathlib_glob.json");
        let trees: Vec<Tree> = serde_json::from_str(trees).unwrap();
        let mut compared = 0;
        for tree in &trees {
            for (pattern, found) in &tree.patterns {
                let ours = Glob::parse(pattern);
                let expected = match (&ours, found) {
                    (Ok(_), Found::Paths(expected)) => expected,
                    (Err(GlobError::Absolute(_)), Found::Exception(class)) if class == "NotImplementedError" => {
                        continue;
                    }
                    (Err(GlobError::Empty(_)), Found::Exception(class)) if class == "ValueError" => continue,
                    _ => panic!("{pattern:?}: ours is {ours:?}, Python's {found:?}"),
                };
                for (position, (path, kind)) in tree.paths.iter().enumerate() {
                    let kind = match kind.as_str() {
                        "file" => EntryKind::File,
                        "link" => EntryKind::LinkToDirectory,
                        "directory" => EntryKind::Directory,
                        other => panic!("{other}"),
                    };
                    let names: Vec<&str> = path.split('/').collect();
                    let found = ours.as_ref().unwrap().matches(&names, kind);
                    assert_eq!(
                        found,
                        expected.contains(&position),
                        "{pattern:?} on the {kind:?} {path:?}"
                    );
                    compared += 1;
                }
            }
        }
        assert!(compared > 10_000, "{compared}");
    }

    #[test]
    fn many_stars_take_no_time() {
        let glob = Glob::parse(&format!("{}x", "**/a*b*c*/".repeat(40))).unwrap();
        let path = vec!["aaabbbcccaaabbbccc"; 200];
        assert!(!glob.matches(&path, EntryKind::File));
    }
}
