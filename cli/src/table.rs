//! Tables and figures for people. What is not known is `?`, never a zero.

use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::failure::printable;

/// Stands for what is not known.
pub(crate) const UNKNOWN: &str = "?";

/// Lays out rows below a heading, without lines, so that `awk` can read them.
pub(crate) fn render(heading: &[&str], right_aligned: &[usize], rows: Vec<Vec<String>>) -> String {
    let rows = rows
        .into_iter()
        .map(|row| row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heading.to_vec()).add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right_aligned.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Writes a figure, or [`UNKNOWN`].
pub(crate) fn known<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
}

/// Writes an age in seconds with its two largest units.
pub(crate) fn age(seconds: Option<f64>) -> String {
    let Some(time) = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok()) else {
        return UNKNOWN.to_owned();
    };
    match time.as_secs() {
        0..10 => format!("{:.1}s", time.as_secs_f64()),
        whole @ 10..60 => format!("{whole}s"),
        whole @ 60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        whole @ 3600..86400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        whole => format!("{}d{:02}h", whole / 86400, whole % 86400 / 3600),
    }
}

/// Writes a number of bytes in MiB.
pub(crate) fn mebibytes(bytes: Option<u64>) -> String {
    // Tenths are computed in whole numbers: a float would lose nothing that is shown, but needs a cast.
    bytes.map_or_else(
        || UNKNOWN.to_owned(),
        |bytes| {
            let tenths = bytes.saturating_mul(10) / (1024 * 1024);
            format!("{}.{}MiB", tenths / 10, tenths % 10)
        },
    )
}

/// Writes `1 monkey`, `2 monkeys`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units_and_the_unknown_is_no_zero() {
        let shown = [
            None,
            Some(0.04),
            Some(9.44),
            Some(59.9),
            Some(61.0),
            Some(7384.0),
            Some(183_600.0),
        ]
        .map(age);
        assert_eq!(shown, ["?", "0.0s", "9.4s", "59s", "1m01s", "2h03m", "2d03h"]);
        assert_eq!(known::<u64>(None), "?");
        assert_eq!(mebibytes(None), "?");
        assert_eq!(mebibytes(Some(15_728_640 + 524_288)), "15.5MiB");
    }
}
