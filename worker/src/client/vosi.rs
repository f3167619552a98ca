//! What a service of the Virtual Observatory can do, by its own words.

use url::Url;

use super::xml::{Element, NotXml};

/// What SIA of version 2 is called.
const SIA2: &str = "ivo://ivoa.net/std/SIA#query-2.0";
/// How a password in clear is called.
const BASIC: &str = "ivo://ivoa.net/sso#BasicAA";

/// A capability description.
#[derive(Debug)]
pub(super) struct Capabilities(Element);

/// Why a text is no capability description.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCapabilities {
    /// It is no XML.
    #[error(transparent)]
    Xml(#[from] NotXml),
    /// It is about something else.
    #[error("the document does not describe capabilities")]
    Other,
}

impl Capabilities {
    pub(super) fn parse(text: &str) -> Result<Self, NotCapabilities> {
        let root = Element::parse(text)?;
        if root.name == "capabilities" {
            Ok(Self(root))
        } else {
            Err(NotCapabilities::Other)
        }
    }

    /// Returns where SIA queries go.
    pub(super) fn sia2(&self) -> Option<Url> {
        let capability = self.0.all("capability").find(|capability| {
            let id = capability.attribute("standardID");
            id.is_some_and(|id| id.trim().eq_ignore_ascii_case(SIA2))
        })?;
        let mut interfaces = capability
            .all("interface")
            .filter(|interface| !is_basic_only(interface));
        interfaces.find_map(|interface| {
            let mut urls = interface.all("accessURL");
            urls.find_map(|url| Url::parse(url.text.trim()).ok())
        })
    }
}

fn is_basic_only(interface: &Element) -> bool {
    let mut methods = interface.all("securityMethod").peekable();
    methods.peek().is_some()
        && methods.all(|method| {
            method
                .attribute("standardID")
                .is_some_and(|id| id.eq_ignore_ascii_case(BASIC))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sia(inner: &str) -> Option<String> {
        let text = format!(
            "<vosi:capabilities xmlns:vosi='http://www.ivoa.net/xml/VOSICapabilities/v1.0'>\
             <capability standardID='ivo://ivoa.net/std/VOSI#availability'><interface><accessURL>http://x/a</accessURL>\
             </interface></capability>{inner}</vosi:capabilities>"
        );
        Capabilities::parse(&text).unwrap().sia2().map(String::from)
    }

    #[test]
    fn the_query_url_is_the_first_that_works_without_a_password() {
        let found = sia("<capability standardID='IVO://ivoa.net/std/sia#query-2.0'>\
             <interface><accessURL>http://x/basic</accessURL><securityMethod standardID='ivo://ivoa.net/sso#BasicAA'/></interface>\
             <interface/>\
             <interface><accessURL use='base'> http://x/sia/query </accessURL><accessURL>http://x/other</accessURL></interface>\
             </capability>");
        assert_eq!(found.as_deref(), Some("http://x/sia/query"));
    }

    #[test]
    fn without_sia_there_is_none_and_other_documents_are_refused() {
        assert_eq!(sia("<capability standardID='ivo://ivoa.net/std/SIA'/>"), None);
        for text in ["<html/>", "<capabilities>", "not found"] {
            assert!(Capabilities::parse(text).is_err(), "{text}");
        }
    }
}
