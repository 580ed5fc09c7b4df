//! The headline table, as text cells, for the terminal and for the page.

use super::names::method_name;
use crate::{MethodScores, Rate, Report, Setting};

/// A table of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Heads of the columns: a name and what is measured on, e.g. `refusals, %` and `source, n = 120`.
    pub heads: Vec<(String, String)>,
    /// The rows, the untouched model first.
    pub rows: Vec<TableRow>,
}

/// A row of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// The method.
    pub name: String,
    /// Where it acts, e.g. `K 2, layer 6`; empty for the untouched model.
    pub setting: String,
    /// One cell a head after the first: the value, and its interval where it has one.
    pub cells: Vec<(String, String)>,
    /// Whether validation chose this method out of all.
    pub selected: bool,
    /// Why the method failed, if it did; its cells are empty then.
    pub failed: Option<String>,
}

/// What was found on test, one row a method.
///
/// Columns of which nothing was measured are left out.
#[must_use]
pub fn table(report: &Report) -> Table {
    let base = &report.baseline;
    let rate = |of: &dyn Fn(&MethodScores) -> Option<Rate>| -> Vec<Option<Rate>> {
        report.methods.iter().map(|method| of(method.outcome.ok()?)).collect()
    };
    let value = |of: &dyn Fn(&MethodScores) -> Option<f64>| -> Vec<Option<f64>> {
        report.methods.iter().map(|method| of(method.outcome.ok()?)).collect()
    };
    let mut columns: Vec<Column> = vec![
        rates("refusals, %", "source", base.refusal_rate.into(), rate(&|m| Some(m.refusal_rate))),
        rates("right, %", "source", base.answer_rate, rate(&|m| m.answer_rate)),
        rates("right, %", "target", base.target_answer_rate, rate(&|m| m.target_answer_rate)),
        rates(
            "refusals, %",
            "target",
            base.target_refusal_rate.into(),
            rate(&|m| Some(m.target_refusal_rate)),
        ),
        numbers("perplexity", "text", 2, base.perplexity, value(&|m| m.perplexity)),
        numbers("KL, nats", "target", 3, Some(0.0), value(&|m| Some(m.kl))),
    ];
    columns.retain(|column| column.cells.iter().skip(1).any(|cell| !cell.0.is_empty()));

    let mut heads = vec![("method".to_owned(), String::new())];
    heads.extend(columns.iter().map(|column| column.head.clone()));
    let cells = |row: usize| {
        columns.iter().map(|column| column.cells.get(row).cloned().unwrap_or_default()).collect()
    };
    let untouched = TableRow {
        name: method_name("baseline"),
        setting: String::new(),
        cells: cells(0),
        selected: false,
        failed: None,
    };
    let methods = report.methods.iter().enumerate().map(|(i, method)| TableRow {
        name: method_name(&method.setting.method),
        setting: setting(&method.setting),
        cells: cells(i + 1),
        selected: method.setting == report.selected,
        failed: method.outcome.reason().map(str::to_owned),
    });
    Table { heads, rows: std::iter::once(untouched).chain(methods).collect() }
}

struct Column {
    head: (String, String),
    cells: Vec<(String, String)>,
}

fn rates(name: &str, side: &str, base: Option<Rate>, methods: Vec<Option<Rate>>) -> Column {
    let all: Vec<Option<Rate>> = std::iter::once(base).chain(methods).collect();
    let mut sizes: Vec<usize> = all.iter().flatten().map(|rate| rate.n).collect();
    sizes.dedup();
    let (one_size, of) = match sizes[..] {
        [n] => (true, format!("{side}, n = {n}")),
        _ => (false, side.to_owned()),
    };
    let cell = |rate: &Option<Rate>| {
        rate.map_or_else(Default::default, |rate| {
            let n = if one_size { String::new() } else { format!(" n = {}", rate.n) };
            let [low, high] = rate.ci95;
            (
                format!("{:.1}", 100.0 * rate.value),
                format!("{:.1}\u{2013}{:.1}{n}", 100.0 * low, 100.0 * high),
            )
        })
    };
    Column { head: (name.to_owned(), of), cells: all.iter().map(cell).collect() }
}

fn numbers(name: &str, of: &str, places: usize, base: Option<f64>, methods: Vec<Option<f64>>) -> Column {
    let cell =
        |value: Option<f64>| (value.map_or_else(String::new, |value| number(value, places)), String::new());
    let cells = std::iter::once(base).chain(methods).map(cell).collect();
    Column { head: (name.to_owned(), of.to_owned()), cells }
}

/// A number with so many places, or in powers of ten where that would be too long or say nothing.
pub(super) fn number(value: f64, places: usize) -> String {
    let smallest = 0.5 * 10f64.powi(-(places as i32));
    if value != 0.0 && (value.abs() >= 1e5 || value.abs() < smallest) {
        format!("{value:.1e}")
    } else {
        format!("{value:.places$}")
    }
}

/// Where and how a method acts, in a few words.
pub(super) fn setting(setting: &Setting) -> String {
    let mut parts = Vec::new();
    if let Some(k) = setting.components {
        parts.push(format!("K {k}"));
    }
    match setting.layers[..] {
        [] => {}
        [layer] => parts.push(format!("layer {layer}")),
        _ => parts.push(format!(
            "layers {}",
            setting.layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )),
    }
    if (setting.strength - 1.0).abs() > 1e-12 {
        parts.push(format!("strength {}", setting.strength));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outcome;

    #[test]
    fn the_untouched_model_comes_first_and_every_row_is_full() {
        let report = super::super::example::example();
        let table = table(&report);
        assert_eq!(table.rows[0].name, "untouched");
        assert_eq!(table.rows.len(), report.methods.len() + 1);
        assert!(table.rows.iter().all(|row| row.cells.len() + 1 == table.heads.len()));
        assert_eq!(table.rows.iter().filter(|row| row.selected).count(), 1);
        assert_eq!(table.heads[1], ("refusals, %".to_owned(), "source, n = 120".to_owned()));
    }

    #[test]
    fn what_was_not_measured_has_no_column() {
        let mut report = super::super::example::example();
        for method in &mut report.methods {
            super::super::example::scores(method).perplexity = None;
        }
        assert!(table(&report).heads.iter().all(|(name, _)| name != "perplexity"));
    }

    #[test]
    fn a_method_that_failed_has_a_reason_and_no_numbers() {
        let whole = super::super::example::example();
        let mut report = whole.clone();
        report.methods[2].outcome = Outcome::Failed { reason: "values overflow f16".to_owned() };
        let (found, before) = (table(&report), table(&whole));
        assert_eq!(found.rows[3].failed.as_deref(), Some("values overflow f16"));
        assert!(found.rows[3].cells.iter().all(|(value, interval)| value.is_empty() && interval.is_empty()));
        // The others are as they were.
        assert_eq!(found.heads, before.heads);
        for i in (0..found.rows.len()).filter(|&i| i != 3) {
            assert_eq!(found.rows[i], before.rows[i]);
        }
    }

    #[test]
    fn numbers_stay_short_and_say_something() {
        assert_eq!(number(3.256, 2), "3.26");
        assert_eq!(number(0.0, 3), "0.000");
        assert_eq!(number(0.000012, 3), "1.2e-5");
        assert_eq!(number(1234567.0, 2), "1.2e6");
    }
}
