//! Small XML documents: job and capability descriptions, read whole.

use quick_xml::XmlVersion;
use quick_xml::events::attributes::AttrError;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;

use super::shown::first_bytes;

/// How deep elements may be in one another.
pub(super) const DEPTH: usize = 64;

/// An element, by its name without a prefix: what these documents say is clear without looking at namespaces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    /// Its own text, without that of its children.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

/// Most bytes of an error about markup: the reader's own repeat the name that they stumbled over, however long.
const COMPLAINT: usize = 512;

/// Says what is wrong with markup, in bounds.
pub(super) fn complaint(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let begin = first_bytes(&text, COMPLAINT);
    if begin.len() == text.len() {
        text
    } else {
        format!("{begin}…")
    }
}

/// Why a text is no XML document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotXml {
    /// What it breaks, also in an attribute.
    #[error("{0}")]
    Malformed(String),
    /// An entity that nobody has declared.
    #[error("the entity `{0}` is unknown")]
    Entity(String),
    /// It ends in the middle, or has more or less than one root.
    #[error("the document is not one complete element")]
    Incomplete,
    /// It is too deep.
    #[error("more than {DEPTH} elements are in one another")]
    TooDeep,
}

impl From<quick_xml::Error> for NotXml {
    fn from(error: quick_xml::Error) -> Self {
        Self::Malformed(complaint(&error))
    }
}

impl From<AttrError> for NotXml {
    fn from(error: AttrError) -> Self {
        Self::Malformed(complaint(&error))
    }
}

impl Element {
    /// Reads a document.
    pub(super) fn parse(text: &str) -> Result<Self, NotXml> {
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = vec![Self::default()];
        loop {
            match reader.read_event()? {
                Event::Start(start) => {
                    if open.len() > DEPTH {
                        return Err(NotXml::TooDeep);
                    }
                    open.push(Self::of(&start)?);
                }
                Event::Empty(start) => last(&mut open).children.push(Self::of(&start)?),
                Event::End(_) => {
                    let ended = open.pop().ok_or(NotXml::Incomplete)?;
                    open.last_mut().ok_or(NotXml::Incomplete)?.children.push(ended);
                }
                Event::Text(text) => last(&mut open).text.push_str(&text),
                Event::CData(text) => last(&mut open).text.push_str(&text),
                Event::GeneralRef(reference) => last(&mut open).text.push(resolve(&reference)?),
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        let document = open.pop().filter(|_| open.is_empty()).ok_or(NotXml::Incomplete)?;
        let mut roots = document.children.into_iter();
        match (roots.next(), roots.next()) {
            (Some(root), None) if document.text.trim().is_empty() => Ok(root),
            _ => Err(NotXml::Incomplete),
        }
    }

    fn of(start: &BytesStart<'_>) -> Result<Self, NotXml> {
        let attributes = start.attributes().map(|attribute| {
            let attribute = attribute?;
            let value = attribute.normalized_value(XmlVersion::default())?.into_owned();
            Ok((local(attribute.key.0).to_owned(), value))
        });
        Ok(Self {
            name: local(start.name().0).to_owned(),
            attributes: attributes.collect::<Result<_, NotXml>>()?,
            ..Self::default()
        })
    }

    /// Returns an attribute by its name without prefix.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the children of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Returns the first child of a name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }
}

fn last(open: &mut [Element]) -> &mut Element {
    open.last_mut().expect("the document itself is never taken off")
}

/// Returns a name without its prefix.
pub(super) fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// Returns the character that a reference stands for.
pub(super) fn resolve(reference: &BytesRef<'_>) -> Result<char, NotXml> {
    if let Some(character) = reference.resolve_char_ref()? {
        return Ok(character);
    }
    let character = match &**reference {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        other => return Err(NotXml::Entity(first_bytes(other, COMPLAINT).to_owned())),
    };
    Ok(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_with_references_and_without_prefixes() {
        let text =
            "<?xml version='1.0'?><!-- x --><u:a xmlns:u='urn:x' l:href='1&amp;2'> b<c/>&lt;&#65;<![CDATA[<]]></u:a>\n";
        let root = Element::parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.text.as_str()), ("a", " b<A<"));
        assert_eq!(root.attribute("href"), Some("1&2"));
        assert!(root.child("c").is_some() && root.child("d").is_none());
    }

    #[test]
    fn what_is_no_complete_document_is_refused() {
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        for text in [
            "",
            "x",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>x",
            "<a>&who;</a>",
            "<a b=1/>",
            &deep,
        ] {
            assert!(Element::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_said_of_endless_markup_ends() {
        let name = "a".repeat(100_000);
        for text in [
            format!("<{name}></b>"),
            format!("<a>&{name};</a>"),
            format!("<a></{name}>"),
        ] {
            let said = Element::parse(&text).unwrap_err().to_string();
            assert!(said.len() < COMPLAINT + 100, "{} bytes", said.len());
        }
    }
}
