//! Judges a VOTable while it comes in, without keeping it (`contracts/businesses.md` 7.4).
//!
//! The whole document is read: it must be well formed, rows must have a cell per column, numbers must be numbers, and what is in base64
//! must be rows as the columns say. Tables that lie elsewhere, behind a `STREAM` with an address, are not fetched.

mod binary;
mod cells;
mod judge;

use std::io;

use bytes::Bytes;
use futures_lite::Stream;
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use tokio_util::io::StreamReader;

use self::judge::{Judge, Step};
use super::pieces::Pieces;

/// What an answer is.
#[derive(Debug)]
pub(super) enum Verdict {
    /// A VOTable that says that all went well.
    Good,
    /// A VOTable that says, or shows, that something did not.
    Bad(BadAnswer),
    /// Something else, or nothing.
    NotVoTable,
    /// The connection broke off.
    BrokeOff(io::Error),
}

/// What is wrong with a VOTable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    /// The service says so.
    #[error("{0}")]
    Refused(String),
    /// There is no table where it should be.
    #[error("VOTable response missing results table")]
    NoTable,
    /// The table has no columns.
    #[error("response table missing column descriptions.")]
    NoFields,
    /// The document breaks a rule.
    #[error("the VOTable is broken: {0}")]
    Broken(String),
}

/// Reads a document to its end.
pub(super) async fn judge(body: impl Stream<Item = io::Result<Bytes>>) -> Verdict {
    let mut pieces = Pieces::new();
    let body = futures_lite::StreamExt::map(body, move |chunk| pieces.pass(chunk?));
    let mut reader = Reader::from_reader(Box::pin(StreamReader::new(body)));
    let mut judge = Judge::default();
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let step = match reader.read_event_into_async(&mut buffer).await {
            Ok(Event::Start(start)) => judge.start(&start),
            Ok(Event::Empty(start)) => judge.start(&start).and_then(|()| judge.end()),
            Ok(Event::End(_)) => judge.end(),
            Ok(Event::Text(text)) => judge.text(&text),
            Ok(Event::CData(text)) => judge.text(&text),
            Ok(Event::GeneralRef(reference)) => judge.reference(&reference),
            Ok(Event::Eof) => return judge.verdict(),
            Ok(Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_)) => Ok(()),
            Err(quick_xml::Error::Io(error)) if error.kind() != io::ErrorKind::InvalidData => {
                return Verdict::BrokeOff(io::Error::new(error.kind(), error));
            }
            Err(error) => Err(Step::from(error)),
        };
        match step {
            Ok(()) => {}
            Err(Step::NotVoTable) => return Verdict::NotVoTable,
            Err(Step::Broken(_)) if !judge.has_begun() => return Verdict::NotVoTable,
            Err(Step::Broken(how)) => return Verdict::Bad(BadAnswer::Broken(how)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::stream;

    use super::*;

    /// Judges a text that comes in small chunks.
    async fn verdict(text: &str) -> Verdict {
        let chunks: Vec<_> = text
            .as_bytes()
            .chunks(7)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        judge(stream::iter(chunks)).await
    }

    /// A VOTable with this in it.
    fn votable(inner: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<VOTABLE version=\"1.4\" xmlns=\"http://www.ivoa.net/xml/VOTable/v1.3\">{inner}</VOTABLE>\n"
        )
    }

    const TABLE: &str =
        "<TABLE><FIELD name=\"a\" datatype=\"int\"/><DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA></TABLE>";

    fn results(inner: &str) -> String {
        votable(&format!("<RESOURCE type=\"results\">{inner}</RESOURCE>"))
    }

    fn info(value: &str, text: &str) -> String {
        format!("<INFO name=\"QUERY_STATUS\" value=\"{value}\">{text}</INFO>")
    }

    #[tokio::test]
    async fn good_answers_are_good() {
        let good = [
            results(&format!("{}{TABLE}", info("OK", ""))),
            results(&format!("{}{TABLE}", info("ok", ""))),
            results(&format!("{}{TABLE}", info("OVERFLOW", "more"))),
            results(&format!("{TABLE}{}", info("OVERFLOW", "after the table"))),
            results(TABLE),
            // The last one counts.
            results(&format!("{}{TABLE}{}", info("ERROR", "no"), info("OK", ""))),
            // What another resource says does not.
            votable(&format!(
                "<RESOURCE>{}</RESOURCE><RESOURCE type=\"Results\">{TABLE}</RESOURCE>",
                info("ERROR", "no")
            )),
            // Nor what the top level says if the resource says something.
            votable(&format!(
                "{}<RESOURCE>{}{TABLE}</RESOURCE>",
                info("ERROR", "no"),
                info("OK", "")
            )),
            // Another INFO, another element, an empty cell, no rows.
            results(&format!(
                "<INFO name=\"other\" value=\"ERROR\"/><DESCRIPTION>x &amp; y</DESCRIPTION>{TABLE}"
            )),
            results("<TABLE><FIELD datatype=\"int\"/><DATA><TABLEDATA><TR><TD/></TR></TABLEDATA></DATA></TABLE>"),
            results("<TABLE><FIELD datatype=\"int\"/></TABLE>"),
            results(
                "<TABLE><FIELD datatype=\"double\" arraysize=\"*\"/><DATA><TABLEDATA><TR><TD>1 2e3\n NaN +InF</TD></TR></TABLEDATA></DATA></TABLE>",
            ),
            results(
                "<TABLE><FIELD datatype=\"int\"/><DATA><BINARY2><STREAM encoding=\"base64\">\nAEFC\nQ0E=\n</STREAM></BINARY2></DATA></TABLE>",
            ),
            results(TABLE)
                .replace("<VOTABLE", "<v:VOTABLE xmlns:v=\"urn:v\"")
                .replace("</VOTABLE", "</v:VOTABLE"),
        ];
        for text in good {
            let verdict = verdict(&text).await;
            assert!(matches!(verdict, Verdict::Good), "{text}: {verdict:?}");
        }
    }

    #[tokio::test]
    async fn bad_answers_say_what_is_wrong() {
        let bad = [
            (results(&info("ERROR", " no such &lt;table&gt; ")), "no such <table>"),
            (
                results(&format!("{TABLE}{}", info("ERROR", "broke in the middle"))),
                "broke in the middle",
            ),
            (results(&info("Failed", "")), "QUERY_STATUS is Failed"),
            (
                results(&format!(
                    "<INFO name=\"query_status\" value=\"ERROR\">low</INFO>{TABLE}"
                )),
                "low",
            ),
            // In the table, and at the top level.
            (
                results(&TABLE.replace("</TABLE>", &format!("{}</TABLE>", info("ERROR", "inside")))),
                "inside",
            ),
            (
                votable(&format!("{}<RESOURCE>{TABLE}</RESOURCE>", info("ERROR", "above"))),
                "above",
            ),
            (
                votable(&format!("<RESOURCE>{}</RESOURCE>", info("ERROR", "first"))),
                "first",
            ),
            (votable(""), "VOTable response missing results table"),
            (results(&info("OK", "")), "VOTable response missing results table"),
            (
                votable(&format!(
                    "<RESOURCE type=\"meta\">{TABLE}</RESOURCE><RESOURCE type=\"results\"/>"
                )),
                "VOTable response missing results table",
            ),
            (results("<TABLE/>"), "response table missing column descriptions."),
            (
                results("<TABLE><DATA/></TABLE>"),
                "response table missing column descriptions.",
            ),
            (
                results(TABLE).replace("<TD>1</TD>", "<TD>1</TD><TD>2</TD>"),
                "the VOTable is broken: a row has 2 cells, the table 1 columns",
            ),
            (
                results(TABLE).replace("<TD>1</TD>", ""),
                "the VOTable is broken: a row has 0 cells, the table 1 columns",
            ),
            (
                results(TABLE).replace("<TD>1</TD>", "<TD>one</TD>"),
                "the VOTable is broken: `one` is no int",
            ),
            (
                results(
                    "<TABLE><FIELD datatype=\"float\"/><DATA><TABLEDATA><TR><TD>1 x</TD></TR></TABLEDATA></DATA></TABLE>",
                ),
                "the VOTable is broken: `x` is no float",
            ),
            (
                results(
                    "<TABLE><FIELD datatype=\"int\"/><DATA><BINARY><STREAM encoding=\"base64\">QU!D</STREAM></BINARY></DATA></TABLE>",
                ),
                "the VOTable is broken: a stream is not in base64",
            ),
            (
                results(
                    "<TABLE><FIELD datatype=\"int\"/><DATA><BINARY><STREAM encoding=\"base64\">QUJ</STREAM></BINARY></DATA></TABLE>",
                ),
                "the VOTable is broken: a stream is not in base64",
            ),
            (
                results(
                    "<TABLE><FIELD datatype=\"int\"/><DATA><BINARY><STREAM encoding=\"base64\">QUJD</STREAM></BINARY></DATA></TABLE>",
                ),
                "the VOTable is broken: a stream ends in the middle of a row",
            ),
            (
                results(
                    "<TABLE><FIELD datatype=\"char\" arraysize=\"*\"/><DATA><BINARY><STREAM encoding=\"base64\">/////w==</STREAM></BINARY></DATA></TABLE>",
                ),
                "the VOTable is broken: a value has a negative number of items",
            ),
            (
                results(TABLE) + "<more/>",
                "the VOTable is broken: something follows its end",
            ),
            (
                results(TABLE) + "more",
                "the VOTable is broken: something follows its end",
            ),
            (
                results(&"<RESOURCE>".repeat(100)),
                "the VOTable is broken: more than 64 elements are in one another",
            ),
            (results("&who;"), "the VOTable is broken: the entity `who` is unknown"),
        ];
        for (text, how) in bad {
            match verdict(&text).await {
                Verdict::Bad(bad) => assert_eq!(bad.to_string(), how, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_answer_cut_anywhere_is_not_good() {
        let text = results(&format!("{}{TABLE}", info("OK", "")));
        let text = text.trim_end();
        for end in 0..text.len() {
            let verdict = verdict(&text[..end]).await;
            let is_bad = matches!(verdict, Verdict::NotVoTable | Verdict::Bad(BadAnswer::Broken(_)));
            assert!(is_bad, "{end}: {verdict:?}");
        }
    }

    #[tokio::test]
    async fn garbage_is_no_votable() {
        for text in [
            "",
            "hello",
            "{\"a\": 1}",
            "<html><body>VOTABLE</body></html>",
            "<VOTABLES/>",
            "<",
            "<<<",
            "&amp;",
            "\u{1}\u{2}",
        ] {
            let verdict = verdict(text).await;
            assert!(matches!(verdict, Verdict::NotVoTable), "{text}: {verdict:?}");
        }
        let bytes = judge(stream::iter([Ok(Bytes::from_static(b"\xff\xfe\x00<"))])).await;
        assert!(matches!(bytes, Verdict::NotVoTable), "{bytes:?}");
    }

    #[tokio::test]
    async fn a_connection_that_breaks_off_is_told_from_a_document_that_does() {
        let text = results(TABLE);
        let chunks = [
            Ok(Bytes::from(text[..text.len() / 2].to_owned())),
            Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        ];
        let verdict = judge(stream::iter(chunks)).await;
        assert!(matches!(verdict, Verdict::BrokeOff(_)), "{verdict:?}");
    }

    #[tokio::test]
    async fn a_table_of_any_size_is_read_piece_by_piece() {
        let begin = results("<TABLE><FIELD datatype=\"int\"/><DATA><BINARY2><STREAM encoding='base64'>");
        let (begin, end) = begin.split_at(begin.find("</RESOURCE>").unwrap());
        let end = format!("</STREAM></BINARY2></DATA></TABLE>{end}");
        let middle = std::iter::repeat_n(Bytes::from("QUJD".repeat(4096)), 2000);
        let chunks = std::iter::once(Bytes::from(begin.to_owned())).chain(middle);
        let chunks = chunks.chain(std::iter::once(Bytes::from(end)));
        let verdict = judge(stream::iter(chunks.map(Ok))).await;
        assert!(matches!(verdict, Verdict::Good), "{verdict:?}");
    }
}
