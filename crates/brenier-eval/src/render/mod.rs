//! A [`Report`](crate::Report) for people: the headline table, the plots, the page.
//!
//! Rendering reads a report and nothing else: what is drawn here can be drawn again from `report.json`.

#[cfg(test)]
mod example;
mod figure;
mod html;
mod names;
mod plots;
mod table;

pub use html::html;
pub use names::method_name;
pub use table::{Table, TableRow, table};

/// The plots as SVG files of their own: layers, sweep, scatter, trade-off; those with something to draw.
#[must_use]
pub fn plots(report: &crate::Report) -> Vec<(&'static str, String)> {
    let drawn = [
        ("trade-off", plots::trade_off(report)),
        ("layers", plots::layers(report)),
        ("scatter", report.scatter.as_ref().and_then(plots::scatter)),
        ("sweep", plots::sweep(report)),
    ];
    drawn.into_iter().filter_map(|(name, svg)| Some((name, svg?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plot_is_one_svg() {
        let plots = plots(&example::example());
        assert_eq!(plots.len(), 4);
        for (name, svg) in plots {
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
        }
    }

    #[test]
    fn a_report_without_points_draws_nothing() {
        let mut report = example::example();
        report.layers.clear();
        report.sweep.clear();
        report.scatter = None;
        assert_eq!(plots(&report).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["trade-off"]);
    }
}
