//! Figures: several runs each, a target where there is one, and how they are written down.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// One thing that was measured, several times.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What was measured: the row.
    pub(crate) name: String,
    /// Under which circumstances: the column.
    pub(crate) case: String,
    pub(crate) unit: &'static str,
    pub(crate) runs: Vec<f64>,
    /// What the median of the runs may be at most.
    pub(crate) target: Option<f64>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, case: impl Into<String>, unit: &'static str, runs: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            case: case.into(),
            unit,
            runs,
            target: None,
        }
    }

    pub(crate) fn at_most(self, limit: f64) -> Self {
        Self {
            target: Some(limit),
            ..self
        }
    }

    fn min(&self) -> f64 {
        self.runs.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn max(&self) -> f64 {
        self.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    fn median(&self) -> f64 {
        quantile(&self.runs, 0.5)
    }

    fn is_met(&self) -> Option<bool> {
        self.target.map(|limit| self.median() <= limit)
    }

    fn cell(&self) -> String {
        let spread = if self.runs.len() > 1 {
            format!(" ({} … {})", short(self.min()), short(self.max()))
        } else {
            String::new()
        };
        let verdict = match self.is_met() {
            None => "",
            Some(true) => " ✓",
            Some(false) => " **✗**",
        };
        format!("{}{spread}{verdict}", short(self.median()))
    }
}

/// Everything that was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Option<File>,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    title: &'static str,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Report {
    /// Begins a report; each figure is also written to `lines`, one JSON object a line, as soon as it is known.
    pub(crate) fn new(lines: Option<&Path>, machine: &str) -> Result<Self> {
        let open = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        let mut lines = lines.map(open).transpose()?;
        if let Some(lines) = &mut lines {
            writeln!(lines, "{}", json!({"machine": machine}))?;
        }
        Ok(Self {
            lines,
            parts: Vec::new(),
        })
    }

    /// Begins a part: what follows belongs to it.
    pub(crate) fn part(&mut self, name: &'static str, title: &'static str) {
        self.parts.push(Part {
            name,
            title,
            figures: Vec::new(),
            notes: Vec::new(),
        });
    }

    fn last(&mut self) -> &mut Part {
        self.parts.last_mut().expect("figures come within a part")
    }

    /// Takes a figure.
    pub(crate) fn add(&mut self, figure: Figure) -> Result<()> {
        let line = json!({
            "part": self.last().name, "figure": figure.name, "case": figure.case, "unit": figure.unit,
            "runs": figure.runs, "min": figure.min(), "median": figure.median(), "max": figure.max(),
            "at_most": figure.target, "met": figure.is_met(),
        });
        if let Some(lines) = &mut self.lines {
            writeln!(lines, "{line}")?;
        }
        say(&format!(
            "  {} {}: {} {}",
            figure.case,
            figure.name,
            figure.cell(),
            figure.unit
        ));
        self.last().figures.push(figure);
        Ok(())
    }

    /// Takes a remark about what was measured.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        say(&format!("  ({text})"));
        self.last().notes.push(text);
    }

    /// Returns all figures as tables in Markdown.
    pub(crate) fn tables(&self) -> String {
        self.parts.iter().fold(String::new(), |mut text, part| {
            write!(text, "### {}\n\n{}\n", part.title, part.table()).expect("a String takes everything");
            for note in &part.notes {
                writeln!(text, "{note}\n").expect("a String takes everything");
            }
            text
        })
    }

    /// Returns how many targets there are, and which are not met.
    pub(crate) fn verdict(&self) -> (usize, Vec<String>) {
        let all = || {
            let figures = self
                .parts
                .iter()
                .flat_map(|part| part.figures.iter().map(move |figure| (part, figure)));
            figures.filter_map(|(part, figure)| Some((part, figure, figure.is_met()?)))
        };
        let missed = all().filter(|(_, _, is_met)| !is_met);
        let names = missed.map(|(part, figure, _)| format!("{}: {} {}", part.name, figure.case, figure.name));
        (all().count(), names.collect())
    }
}

impl Part {
    /// Rows are what was measured, columns the circumstances, both in the order in which they first came.
    fn table(&self) -> String {
        let cases = in_order(self.figures.iter().map(|figure| figure.case.as_str()));
        let rows = in_order(self.figures.iter().map(|figure| figure.name.as_str()));
        let mut text = String::from("| |");
        for case in &cases {
            write!(text, " {case} |").expect("a String takes everything");
        }
        writeln!(text, " unit | target |\n|---|{}---|---|", "---|".repeat(cases.len()))
            .expect("a String takes everything");
        for row in rows {
            let of_row = || self.figures.iter().filter(|figure| figure.name == row);
            write!(text, "| {row} |").expect("a String takes everything");
            for case in &cases {
                let cell = of_row().find(|figure| figure.case == *case).map(Figure::cell);
                write!(text, " {} |", cell.unwrap_or_default()).expect("a String takes everything");
            }
            let unit = of_row().next().map_or("", |figure| figure.unit);
            let target = of_row()
                .find_map(|figure| figure.target)
                .map(|limit| format!("≤ {}", short(limit)));
            writeln!(text, " {unit} | {} |", target.unwrap_or_default()).expect("a String takes everything");
        }
        text
    }
}

fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

/// Returns a quantile of some numbers, the nearest one of them; 0 of none.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position among a few million numbers"
    )]
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// Returns a number with three digits that count.
fn short(number: f64) -> String {
    let digits = match number.abs() {
        size if size == 0.0 || size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        size if size >= 0.1 => 3,
        _ => 4,
    };
    format!("{number:.digits$}")
}

/// Tells whoever watches how far it is.
pub(crate) fn say(text: &str) {
    // Nobody watches: fine.
    writeln!(io::stderr(), "{text}").ok();
}
