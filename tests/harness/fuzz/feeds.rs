//! What services answer: tables, jobs, kernels, hubs, Gafaelfawr.

use mobu_worker::fuzzing as worker;
use serde_json::json;

use super::secret::{SECRET, keeps_it};
use super::{Form, Target, pieces, promise, text};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "votable",
        form: Form::Text,
        seeds: || TABLES.iter().map(|table| table.as_bytes().to_vec()).collect(),
        words: &[
            "<VOTABLE>",
            "</VOTABLE>",
            "<RESOURCE type=\"results\">",
            "</RESOURCE>",
            "<TABLE>",
            "</TABLE>",
            "<TR>",
            "</TR>",
            "<TD>",
            "</TD>",
            "<FIELD datatype=\"",
            "double",
            "char\" arraysize=\"*\"/>",
            "arraysize=\"2x3*\"",
            "<![CDATA[",
            "]]>",
            "<!--",
            "-->",
            "&amp;",
            "&#x0;",
            "&#99999999;",
            "&x;",
            "<!DOCTYPE x [<!ENTITY x \"y\">]>",
            "<STREAM encoding=\"base64\">",
            "</STREAM>",
            "<BINARY>",
            "</BINARY>",
        ],
        check: votable,
    },
    Target {
        name: "job_and_capabilities",
        form: Form::Text,
        seeds: || DESCRIPTIONS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        words: &[
            "<uws:job>",
            "</uws:job>",
            "<uws:phase>",
            "ERROR",
            "xlink:href=\"",
            "&lt;",
            "&#1;",
            "<a>",
            "</a>",
            "<![CDATA[",
            "<!--",
        ],
        check: |input| {
            if let Some(text) = text(input) {
                drop(worker::job(text));
                drop(worker::capabilities(text));
            }
            Ok(())
        },
    },
    Target {
        name: "kernel_json",
        form: Form::Json,
        seeds: || kernel().iter().map(|(_, whole)| whole.clone()).collect(),
        words: &[
            "stream",
            "error",
            "execute_reply",
            "status",
            "idle",
            "ok",
            "traceback",
            "\u{1b}[0;31m",
        ],
        check: |input| {
            let said = worker::kernel_conversation(&[input, input], false);
            bounded(&said, input)?;
            request(input)
        },
    },
    Target {
        name: "kernel_v1",
        form: Form::Bytes,
        seeds: || kernel().iter().map(|(parts, _)| frame(parts)).collect(),
        words: &["iopub", "stream", "execute_reply", "{}"],
        check: |input| {
            let said = worker::kernel_conversation(&[input, input], true);
            bounded(&said, input)
        },
    },
    Target {
        name: "progress",
        form: Form::Lines,
        seeds: || {
            [
                "data: {\"progress\": 0, \"message\": \"Server requested\"}\n\ndata: {\"progress\": 100, \"ready\": true, \"message\": \"up\"}\n\n",
                "event: x\r\nid: 1\r\n: a comment\r\ndata: {\"progress\": 5,\r\ndata: \"message\": \"two lines\"}\r\n\r\n",
                "\u{feff}data:{\"progress\":1,\"message\":\"\"}\r\rdata: no JSON\n\n",
            ]
            .map(|text| text.as_bytes().to_vec())
            .to_vec()
        },
        words: &[
            "data:",
            "data: {\"progress\": 1, \"message\": \"\"}",
            "\r",
            "\n\n",
            "\r\n",
            ":",
            "event:",
            "retry: 1",
        ],
        check: |input| {
            let (whole, cut) = (worker::progress(&[input]), worker::progress(&pieces(input)));
            promise(whole == cut, || {
                format!("in pieces it says {cut:?} instead of {whole:?}")
            })
        },
    },
    Target {
        name: "gafaelfawr",
        form: Form::Json,
        seeds: || {
            let user = json!({
                "username": "bot-mobu-x", "name": "X", "uid": 1000, "gid": 1000, "groups": [{ "name": "g", "id": 5 }], "email": null,
            });
            vec![
                json!({ "token": format!("gt-key.{SECRET}") }).to_string().into_bytes(),
                user.to_string().into_bytes(),
            ]
        },
        words: &["gt-", "token", "username"],
        check: |input| {
            for error in [worker::token_answer(input), worker::user_answer(input)]
                .into_iter()
                .filter_map(Result::err)
            {
                keeps_it("the error", &error)?;
            }
            Ok(())
        },
    },
];

const TABLES: [&str; 5] = [
    r#"<?xml version="1.0" encoding="utf-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"/>
<TABLE><FIELD name="a" datatype="int"/><FIELD name="b" datatype="double"/><FIELD name="c" datatype="char" arraysize="*"/><FIELD name="d" datatype="double" arraysize="2"/>
<DATA><TABLEDATA><TR><TD>1</TD><TD>2.5e3</TD><TD>x &amp; <![CDATA[y]]></TD><TD>1 2</TD></TR><TR><TD/><TD>NaN</TD><TD/><TD>+InF -1</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>
"#,
    r#"<VOTABLE><RESOURCE type="results"><INFO name="QUERY_STATUS" value="OK"></INFO><TABLE><FIELD name="a" datatype="int"/><DATA><BINARY2><STREAM encoding="base64">
AEFC
Q0E=
</STREAM></BINARY2></DATA></TABLE></RESOURCE></VOTABLE>"#,
    r#"<VOTABLE><RESOURCE><TABLE><FIELD name="s" datatype="char" arraysize="*"/><FIELD name="d" datatype="double" arraysize="2x*"/><FIELD name="u" datatype="unicodeChar" arraysize="3"/><FIELD datatype="bit" arraysize="11"/><DATA><BINARY><STREAM encoding="base64">AAAAAmFiAAAAAgAAAAAAAAAAAAAAAAAAAAAAYQBiAGMAAA==</STREAM></BINARY></DATA></TABLE></RESOURCE></VOTABLE>"#,
    r#"<v:VOTABLE xmlns:v="urn:v"><v:RESOURCE type="results"><v:INFO name="QUERY_STATUS" value="ERROR"> no such &lt;table&gt; &#233;</v:INFO></v:RESOURCE></v:VOTABLE>"#,
    r#"<!DOCTYPE VOTABLE [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><VOTABLE><!-- c --><?pi x?><RESOURCE type="results"><TABLE><FIELD datatype="char" arraysize="*"/><DATA><TABLEDATA><TR><TD>&b;</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"#,
];

const DESCRIPTIONS: [&str; 2] = [
    r#"<?xml version="1.0"?><uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink"><uws:jobId>1</uws:jobId><uws:phase>ERROR</uws:phase>
<uws:results><uws:result id="result" xlink:href="https://tap.example/async/1/results/result"/></uws:results><uws:errorSummary type="fatal"><uws:message>no &amp; no</uws:message></uws:errorSummary></uws:job>"#,
    r#"<vosi:capabilities xmlns:vosi="urn:v"><capability standardID="ivo://ivoa.net/std/SIA#query-2.0"><interface><accessURL use="base">https://sia.example/query</accessURL><securityMethod standardID="ivo://ivoa.net/sso#BasicAA"/></interface><interface><accessURL> https://sia.example/other </accessURL></interface></capability></vosi:capabilities>"#,
];

fn votable(input: &[u8]) -> Result<(), String> {
    let (whole, cut) = (worker::votable(&[input]), worker::votable(&pieces(input)));
    promise(whole == cut, || format!("in pieces it is {cut:?} instead of {whole:?}"))?;
    match whole {
        Ok(()) => Ok(()),
        Err(error) => promise(error.len() <= 5_000, || format!("an error of {} bytes", error.len())),
    }
}

/// Returns messages of a kernel, in parts and whole.
fn kernel() -> Vec<([Vec<u8>; 5], Vec<u8>)> {
    let messages = [
        ("stream", json!({ "name": "stdout", "text": "hello\n" })),
        (
            "error",
            json!({ "ename": "ZeroDivisionError", "evalue": "x", "traceback": ["\u{1b}[0;31mZeroDivisionError\u{1b}[0m", "x"] }),
        ),
        ("execute_reply", json!({ "status": "ok", "execution_count": 1 })),
        ("status", json!({ "execution_state": "idle" })),
    ];
    let whole = |(kind, content): (&str, serde_json::Value)| {
        let (header, parent) = (json!({ "msg_type": kind, "msg_id": "m" }), json!({ "msg_id": "id" }));
        let text = json!({
            "header": header, "msg_type": kind, "parent_header": parent, "channel": "iopub", "content": content, "metadata": {}, "buffers": [],
        });
        let parts = [
            "iopub".to_owned(),
            header.to_string(),
            parent.to_string(),
            "{}".to_owned(),
            content.to_string(),
        ];
        (parts.map(String::into_bytes), text.to_string().into_bytes())
    };
    messages.into_iter().map(whole).collect()
}

/// Writes the newer form of a message: a table of offsets, then the parts.
fn frame(parts: &[Vec<u8>; 5]) -> Vec<u8> {
    let mut at = (parts.len() as u64 + 2) * 8;
    let mut out = (parts.len() as u64 + 1).to_le_bytes().to_vec();
    for part in parts {
        out.extend(at.to_le_bytes());
        at += part.len() as u64;
    }
    out.extend(at.to_le_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// What two messages say is not longer than they are.
fn bounded(said: &Result<String, String>, input: &[u8]) -> Result<(), String> {
    let (Ok(text) | Err(text)) = said;
    // A byte that is no UTF-8 becomes three.
    promise(text.len() <= 200 + 6 * input.len(), || {
        format!("{} bytes are said by {} bytes", text.len(), input.len())
    })
}

/// Code arrives as it was sent.
fn request(input: &[u8]) -> Result<(), String> {
    let Some(code) = text(input) else { return Ok(()) };
    let sent = worker::execute_request(code);
    promise(sent.iter().all(|said| said.as_deref() == Some(code)), || {
        format!("the code arrives as {sent:?}")
    })
}
