//! Job descriptions of the Universal Worker Service (`contracts/businesses.md` 7.3).

use url::Url;

use super::xml::{Element, NotXml};

/// What a job says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Where it stands, in capitals.
    pub(super) phase: String,
    /// Why it failed.
    pub(super) message: Option<String>,
    /// Names of its results, and where they are.
    results: Vec<(String, String)>,
}

/// What follows from a phase while one waits for the end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has ended, well or not.
    Done,
    /// It may yet end.
    Active,
    /// It will never end by itself.
    Inactive,
}

/// Why a text is no job description.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAJob {
    /// It is no XML.
    #[error(transparent)]
    Xml(#[from] NotXml),
    /// It is about something else.
    #[error("the document is not the description of a job")]
    Other,
}

impl Job {
    pub(super) fn parse(text: &str) -> Result<Self, NotAJob> {
        let root = Element::parse(text)?;
        if root.name != "job" {
            return Err(NotAJob::Other);
        }
        let phase = root.child("phase").ok_or(NotAJob::Other)?;
        let message = root.child("errorSummary").and_then(|summary| summary.child("message"));
        let results = root.all("results").flat_map(|results| results.all("result"));
        Ok(Self {
            phase: phase.text.trim().to_ascii_uppercase(),
            message: message
                .map(|message| message.text.trim().to_owned())
                .filter(|message| !message.is_empty()),
            results: results
                .filter_map(|result| {
                    let id = result.attribute("id").unwrap_or_default().to_owned();
                    Some((id, result.attribute("href")?.to_owned()))
                })
                .collect(),
        })
    }

    pub(super) fn progress(&self) -> Progress {
        match self.phase.as_str() {
            "COMPLETED" | "ERROR" => Progress::Done,
            "QUEUED" | "EXECUTING" | "RUN" | "UNKNOWN" => Progress::Active,
            _ => Progress::Inactive,
        }
    }

    /// Returns where the result of a query is, for a job that is at `job`.
    pub(super) fn result(&self, job: &Url) -> Option<Url> {
        let by_place = self.results.iter().find(|(_, href)| href.ends_with("results/result"));
        let (_, href) = by_place.or_else(|| self.results.iter().find(|(id, _)| id == "result"))?;
        job.join(href).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(phase: &str, rest: &str) -> String {
        format!(
            "<uws:job xmlns:uws='http://www.ivoa.net/xml/UWS/v1.0' xmlns:xlink='http://www.w3.org/1999/xlink'>\
             <uws:jobId>7</uws:jobId><uws:phase>{phase}</uws:phase>{rest}</uws:job>"
        )
    }

    #[test]
    fn phases_tell_whether_to_wait_on() {
        for (phase, progress) in [
            ("COMPLETED", Progress::Done),
            (" error\n", Progress::Done),
            ("QUEUED", Progress::Active),
            ("EXECUTING", Progress::Active),
            ("RUN", Progress::Active),
            ("UNKNOWN", Progress::Active),
            ("ABORTED", Progress::Inactive),
            ("PENDING", Progress::Inactive),
            ("HELD", Progress::Inactive),
            ("", Progress::Inactive),
        ] {
            assert_eq!(Job::parse(&job(phase, "")).unwrap().progress(), progress, "{phase}");
        }
    }

    #[test]
    fn the_result_is_found_by_its_place_then_by_its_name() {
        let at: Url = "https://x.test/tap/async/7".parse().unwrap();
        let found = |results: &str| {
            let text = job("COMPLETED", &format!("<uws:results>{results}</uws:results>"));
            Job::parse(&text).unwrap().result(&at).map(String::from)
        };
        let named = "<uws:result id='result' xlink:href='https://y.test/other'/>";
        let placed = "<uws:result id='x' xlink:href='7/results/result'/>";
        assert_eq!(
            found(&format!("{named}{placed}")).as_deref(),
            Some("https://x.test/tap/async/7/results/result")
        );
        assert_eq!(found(named).as_deref(), Some("https://y.test/other"));
        assert_eq!(
            found("<uws:result id='z' xlink:href='z'/><uws:result id='result'/>"),
            None
        );
    }

    #[test]
    fn an_error_summary_is_read_and_garbage_is_refused() {
        let summary =
            "<uws:errorSummary type='fatal'><uws:message> no such table &lt;x&gt; </uws:message></uws:errorSummary>";
        assert_eq!(
            Job::parse(&job("ERROR", summary)).unwrap().message.as_deref(),
            Some("no such table <x>")
        );
        let none = "<uws:errorSummary><uws:message/></uws:errorSummary>";
        assert_eq!(Job::parse(&job("ERROR", none)).unwrap().message, None);
        for text in ["<job/>", "<jobs><phase>RUN</phase></jobs>", "<job><phase>", "hello"] {
            assert!(Job::parse(text).is_err(), "{text}");
        }
    }
}
