//! What a line of a monkey's log looks like (`contracts/integrations.md` 7.1), in both profiles.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write as _;
use std::io::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mobu_fleet::domain::business::LogLevel;
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::telemetry::LogProfile;

/// Something that a monkey has to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    /// How bad it is.
    pub level: LogLevel,
    /// What happened.
    pub text: &'a str,
    /// Further facts, in order.
    pub fields: &'a [(&'static str, Field<'a>)],
    /// What went wrong, over several lines.
    pub exception: Option<&'a str>,
}

/// The value of a fact.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Field<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
}

/// Width to which a development line pads what happened.
const EVENT_WIDTH: usize = 30;
/// Width to which a development line pads the level.
const LEVEL_WIDTH: usize = 9;

impl Event<'_> {
    /// Lets `say` say it with all its texts as `hide` shows them.
    pub(crate) fn hiding<R>(&self, hide: impl Fn(&str) -> Cow<'_, str>, say: impl FnOnce(&Event<'_>) -> R) -> R {
        let text = |field: &Field<'_>| match field {
            Field::Text(text) => Some(hide(text).into_owned()),
            Field::Integer(_) | Field::Float(_) => None,
        };
        let texts: Vec<_> = self.fields.iter().map(|(_, field)| text(field)).collect();
        let fields = self.fields.iter().zip(&texts);
        let fields: Vec<_> = fields
            .map(|((key, field), text)| (*key, text.as_deref().map_or(*field, Field::Text)))
            .collect();
        say(&Event {
            level: self.level,
            text: &hide(self.text),
            fields: &fields,
            exception: self.exception.map(&hide).as_deref(),
        })
    }

    /// Writes the line, its end included.
    pub(crate) fn write(&self, profile: LogProfile, logger: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&local_time());
        out.push(b' ');
        match profile {
            LogProfile::Production => self.write_json(logger, out),
            LogProfile::Development => self.write_text(logger, out),
        }
        out.push(b'\n');
        if let Some(exception) = self.exception {
            out.extend_from_slice(exception.trim_end().as_bytes());
            out.push(b'\n');
        }
    }

    /// Returns the further facts as `key=value`, for a log that knows no others than its own.
    pub(crate) fn facts(&self) -> String {
        let fact = |(key, value): &(&str, Field<'_>)| match value {
            Field::Text(text) => format!("{key}={text}"),
            Field::Integer(number) => format!("{key}={number}"),
            Field::Float(number) => format!("{key}={number:?}"),
        };
        self.fields.iter().map(fact).collect::<Vec<_>>().join(" ")
    }

    fn write_json(&self, logger: &str, out: &mut Vec<u8>) {
        out.push(b'{');
        for (key, value) in self.fields {
            json_text(key, out);
            out.extend_from_slice(b": ");
            match value {
                Field::Text(text) => json_text(text, out),
                Field::Integer(number) => put(out, format_args!("{number}")),
                Field::Float(number) if number.is_finite() => put(out, format_args!("{number:?}")),
                Field::Float(_) => out.extend_from_slice(b"null"),
            }
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(b"\"event\": ");
        json_text(self.text, out);
        out.extend_from_slice(b", \"logger\": ");
        json_text(logger, out);
        out.extend_from_slice(b", \"severity\": \"");
        out.extend_from_slice(severity(self.level).as_bytes());
        out.push(b'"');
        if let Some(exception) = self.exception {
            out.extend_from_slice(b", \"exception\": ");
            json_text(exception, out);
        }
        out.push(b'}');
    }

    fn write_text(&self, logger: &str, out: &mut Vec<u8>) {
        let color = match self.level {
            LogLevel::Debug | LogLevel::Info => "\x1b[32m",
            LogLevel::Warning => "\x1b[33m",
            LogLevel::Error | LogLevel::Critical => "\x1b[31m",
        };
        let level = severity(self.level);
        put(out, format_args!("[{color}\x1b[1m{level:LEVEL_WIDTH$}\x1b[0m] "));
        put(out, format_args!("\x1b[1m{:EVENT_WIDTH$}\x1b[0m ", self.text));
        put(out, format_args!("[\x1b[34m\x1b[1m{logger}\x1b[0m]"));
        for (key, value) in self.fields {
            put(out, format_args!(" \x1b[36m{key}\x1b[0m=\x1b[35m"));
            match value {
                Field::Text(text) => out.extend_from_slice(text.as_bytes()),
                Field::Integer(number) => put(out, format_args!("{number}")),
                Field::Float(number) => put(out, format_args!("{number:?}")),
            }
            out.extend_from_slice(b"\x1b[0m");
        }
    }
}

/// Returns a level as mobu writes it.
pub(crate) const fn severity(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
        LogLevel::Critical => "critical",
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes everything");
}

/// Writes a JSON text with everything beyond ASCII escaped, as Python's `json` does.
fn json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let is_plain = |byte: u8| (b' '..0x7F).contains(&byte) && byte != b'"' && byte != b'\\';
    // Looks at all of it whatever comes, which is many bytes at a time.
    if text.bytes().fold(true, |so_far, byte| so_far & is_plain(byte)) {
        out.extend_from_slice(text.as_bytes());
    } else {
        for c in text.chars() {
            json_char(c, out);
        }
    }
    out.push(b'"');
}

fn json_char(c: char, out: &mut Vec<u8>) {
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        ' '..='\x7F' => put(out, format_args!("{c}")),
        _ => {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                put(out, format_args!("\\u{unit:04x}"));
            }
        }
    }
}

const TIME: usize = "YYYY-MM-DD HH:MM:SS".len();

thread_local! {
    /// The last second that was written, because thousands of lines share one.
    static LAST: Cell<(i64, [u8; TIME])> = const { Cell::new((i64::MIN, [0; TIME])) };
}

/// Returns the local time as `YYYY-MM-DD HH:MM:SS`.
fn local_time() -> [u8; TIME] {
    let now = clock::wall();
    let (second, text) = LAST.get();
    if second == now.as_second() {
        return text;
    }
    let text = format_time(now, TimeZone::system());
    LAST.set((now.as_second(), text));
    text
}

fn format_time(time: Timestamp, zone: TimeZone) -> [u8; TIME] {
    let mut text = String::with_capacity(TIME);
    // The year may have more than four digits one day; until then this fills the array exactly.
    write!(text, "{}", time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S")).expect("a String takes everything");
    let mut out = [b' '; TIME];
    let length = text.len().min(TIME);
    out[..length].copy_from_slice(&text.as_bytes()[..length]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(profile: LogProfile, event: &Event<'_>) -> String {
        let mut out = Vec::new();
        event.write(profile, "bot-mobu-facts1", &mut out);
        String::from_utf8(out).unwrap()[TIME..].to_owned()
    }

    const IDLING: Event<'_> = Event {
        level: LogLevel::Info,
        text: "Idling...",
        fields: &[],
        exception: None,
    };

    #[test]
    fn a_production_line_is_what_pythons_json_writes() {
        assert_eq!(
            line(LogProfile::Production, &IDLING),
            " {\"event\": \"Idling...\", \"logger\": \"bot-mobu-facts1\", \"severity\": \"info\"}\n"
        );
        let fields = [
            ("file", Field::Text("/tmp/é\"😀")),
            ("n", Field::Integer(-3)),
            ("s", Field::Float(1.0)),
        ];
        let event = Event {
            fields: &fields,
            exception: Some("one\ntwo\n"),
            level: LogLevel::Error,
            ..IDLING
        };
        assert_eq!(
            line(LogProfile::Production, &event),
            " {\"file\": \"/tmp/\\u00e9\\\"\\ud83d\\ude00\", \"n\": -3, \"s\": 1.0, \"event\": \"Idling...\", \
             \"logger\": \"bot-mobu-facts1\", \"severity\": \"error\", \"exception\": \"one\\ntwo\\n\"}\none\ntwo\n"
        );
    }

    #[test]
    fn a_development_line_is_coloured_and_padded() {
        let fields = [("file", Field::Text("x"))];
        let event = Event {
            fields: &fields,
            ..IDLING
        };
        assert_eq!(
            line(LogProfile::Development, &event),
            " [\x1b[32m\x1b[1minfo     \x1b[0m] \x1b[1mIdling...                     \x1b[0m \
             [\x1b[34m\x1b[1mbot-mobu-facts1\x1b[0m] \x1b[36mfile\x1b[0m=\x1b[35mx\x1b[0m\n"
        );
    }

    #[test]
    fn the_time_is_local_and_has_no_fraction() {
        let time = "2026-11-22T19:29:28.75Z".parse().unwrap();
        assert_eq!(&format_time(time, TimeZone::UTC), b"2026-11-22 19:29:28");
        let west = TimeZone::fixed(jiff::tz::offset(-5));
        assert_eq!(&format_time(time, west), b"2026-11-22 14:29:28");
        assert_eq!(
            local_time().len(),
            local_time()
                .iter()
                .filter(|byte| byte.is_ascii_graphic() || **byte == b' ')
                .count()
        );
    }
}
