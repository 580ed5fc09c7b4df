//! What a fit costs as rows get wider and more: `cargo run --release -p brenier-benches --bin cost-curves` on a machine
//! that does nothing else. Writes `benches/record/cost.csv`, `benches/record/cost.md` and `docs/images/cost.svg`.
//!
//! Every fit includes its certificate.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use brenier_benches::rows;
use brenier_files::Existing;
use brenier_transport::{Covariance, FitOptions, Method, fit};
use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{Color, DrawingArea, IntoDrawingArea, IntoFont, RGBColor, SVGBackend};
use plotters::series::{DashedLineSeries, LineSeries};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, ShapeStyle, TextStyle};

const WIDTHS: [usize; 7] = [256, 512, 1024, 2048, 4096, 8192, 16384];
const COUNTS: [usize; 6] = [16, 32, 64, 128, 256, 512];
/// Rows a side, where the width varies.
const ROWS: usize = 128;
/// Width, where the number of rows varies.
const WIDTH: usize = 4096;
/// Points are measured in turn and so many times over, since what disturbs a machine comes in spells.
const ROUNDS: usize = 5;
/// One round of a point: fits for this long, one at least and no more than the last.
const LONG_ENOUGH: Duration = Duration::from_millis(120);
const MOST: usize = 9;

/// Drawn at twice the size it is shown at, because plotters rounds to whole pixels.
const SIZE: (u32, u32) = (1560, 860);
const LETTER: i32 = 29;
const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
const SOFT: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// A method as it is measured, and how it is drawn.
struct Case {
    name: &'static str,
    label: &'static str,
    color: RGBColor,
    method: Method,
    options: FitOptions,
}

/// Median times of one case along one axis: (width or rows a side, ms).
type Curve = Vec<(usize, f64)>;
type Drawn = Result<(), Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let cases = cases();
    let shapes = WIDTHS.map(|d| (ROWS, d)).into_iter().chain(COUNTS.map(|n| (n, WIDTH)));
    let points: Vec<(&Case, usize, usize)> =
        cases.iter().flat_map(|case| shapes.clone().map(move |(n, d)| (case, n, d))).collect();
    let mut times = vec![Vec::new(); points.len()];
    for _ in 0..ROUNDS {
        points.iter().zip(&mut times).for_each(|(&(case, n, d), times)| times.extend(round(case, n, d)));
    }
    let found: Vec<f64> = times.into_iter().map(median).collect();
    let curve = |first: usize, axis: &[usize]| -> Curve {
        axis.iter().copied().zip(found[first..].iter().copied()).collect()
    };
    let starts = (0..cases.len()).map(|case| case * (WIDTHS.len() + COUNTS.len()));
    let by_width: Vec<Curve> = starts.clone().map(|at| curve(at, &WIDTHS)).collect();
    let by_count: Vec<Curve> = starts.map(|at| curve(at + WIDTHS.len(), &COUNTS)).collect();

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let write = |name: &str, text: &str| {
        brenier_files::write_bytes(&root.join(name), Existing::Replace, text.as_bytes())
    };
    let day = chrono::Local::now().format("%Y-%m-%d");
    let machine = format!("{}, {} cores, {day}", processor(), std::thread::available_parallelism()?);
    let mut csv =
        format!("# Median time of a fit, certificate included. {machine}. Written by cost-curves.\n");
    csv += "method,rows a side,width,ms\n";
    for (i, case) in cases.iter().enumerate() {
        for &(d, ms) in &by_width[i] {
            csv += &format!("{},{ROWS},{d},{ms:.3}\n", case.name);
        }
        // The point that both curves share is measured twice and listed once.
        for &(n, ms) in by_count[i].iter().filter(|&&(n, _)| n != ROWS) {
            csv += &format!("{},{n},{WIDTH},{ms:.3}\n", case.name);
        }
    }
    write("benches/record/cost.csv", &csv)?;
    let note = record(&machine, &cases, &by_width, &by_count);
    print!("{note}");
    write("benches/record/cost.md", &note)?;
    write("docs/images/cost.svg", &picture(&cases, &by_width, &by_count)?)?;
    Ok(())
}

fn cases() -> [Case; 3] {
    let plain = FitOptions { covariance: Covariance::Population, components: 2, ..FitOptions::default() };
    let regular = FitOptions { reg_abs: Some(1e-6), ..plain };
    let case = |name, label, color, method, options| Case { name, label, color, method, options };
    [
        case("ot-reg", "OT, reg 1e-6", RGBColor(0xd5, 0x5e, 0x00), Method::Ot, regular),
        case("ot", "OT", RGBColor(0x00, 0x72, 0xb2), Method::Ot, plain),
        case("pca-ot", "PCA-OT, K = 2", RGBColor(0x00, 0x9e, 0x73), Method::PcaOt, plain),
    ]
}

/// Times of a few fits, in ms.
fn round(case: &Case, n: usize, d: usize) -> Vec<f64> {
    let (source, target) = (rows(n, d, 1, 0.0), rows(n, d, 2, 1.0));
    let once = || {
        let start = Instant::now();
        let fit = fit(case.method, source.as_ref(), target.as_ref(), &case.options, None).expect("a fit");
        let taken = start.elapsed();
        drop(fit);
        taken.as_secs_f64() * 1e3
    };
    once();
    let (start, mut times) = (Instant::now(), vec![once()]);
    while times.len() < MOST && start.elapsed() < LONG_ENOUGH {
        times.push(once());
    }
    times
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Of the least-squares line through the points, both axes logarithmic: `e` in `ms ~ x^e`.
fn exponent(curve: &[(usize, f64)]) -> f64 {
    let points = curve.iter().map(|&(x, ms)| ((x as f64).ln(), ms.ln()));
    let count = curve.len() as f64;
    let (x_mean, y_mean) = points.clone().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / count, b + y / count));
    let across: f64 = points.clone().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    across / points.map(|(x, _)| (x - x_mean) * (x - x_mean)).sum::<f64>()
}

fn upper_half(curve: &Curve) -> &[(usize, f64)] {
    &curve[curve.len() / 2..]
}

fn processor() -> String {
    let found = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = found.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or(std::env::consts::ARCH, |line| line.trim_start_matches(['\t', ' ', ':'])).to_owned()
}

/// The exponents, in words for the record.
fn record(machine: &str, cases: &[Case], by_width: &[Curve], by_count: &[Curve]) -> String {
    let first = |curves: &[Curve]| upper_half(&curves[0])[0].0;
    let widest = WIDTHS[WIDTHS.len() - 1];
    let mut lines = vec![
        "# What a fit costs".to_owned(),
        String::new(),
        format!("{machine}. Median times of a fit in f64, certificate included, over the width `d` of"),
        format!("{ROWS} + {ROWS} rows and over the number `n` of rows a side at `d = {WIDTH}`. All points are in"),
        "`cost.csv` and drawn in `docs/images/cost.svg`; all three files are written by".to_owned(),
        "`cargo run --release -p brenier-benches --bin cost-curves`.".to_owned(),
        String::new(),
        "The exponent `e` is that of `time ~ d^e` and `time ~ n^e`, fitted over the upper half of the points,".to_owned(),
        format!("`d >= {}` and `n >= {}`. What does not grow with `d`, decompositions of `n x n`, keeps `e` under 1", first(by_width), first(by_count)),
        "while rows are narrow. Where `2 n >= d`, at the narrowest, a fit goes by `d x d` matrices.".to_owned(),
        String::new(),
        "The rows are noise about two means. Their second axis hardly stands out, so the leading pairs of PCA-OT".to_owned(),
        "take more steps than they would in activations, whose variance decays.".to_owned(),
        String::new(),
        format!("| method | `d^e` | the last doubling of `d` | `n^e` | ms, d = {WIDTH} | ms, d = {widest} |"),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for (case, (of_width, of_count)) in cases.iter().zip(by_width.iter().zip(by_count)) {
        let at = |x: usize| of_width.iter().find(|point| point.0 == x).map_or(f64::NAN, |point| point.1);
        let [by_d, by_n] = [of_width, of_count].map(|curve| exponent(upper_half(curve)));
        let doubled = exponent(&of_width[of_width.len() - 2..]);
        lines.push(format!(
            "| {} | {by_d:.2} | {doubled:.2} | {by_n:.2} | {:.1} | {:.1} |",
            case.label,
            at(WIDTH),
            at(widest)
        ));
    }
    lines.join("\n") + "\n"
}

fn letters(size: i32, color: RGBColor) -> TextStyle<'static> {
    let mut letters = TextStyle::from(("sans-serif", size).into_font());
    letters.color = color.to_backend_color();
    letters
}

fn picture(cases: &[Case], by_width: &[Curve], by_count: &[Curve]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&PAPER)?;
        let title = TextStyle::from(("sans-serif", 36, FontStyle::Bold).into_font()).color(&INK);
        root.draw(&Text::new("Time of a fit, its certificate included".to_owned(), (24, 18), title))?;
        let mut x = 26;
        for case in cases {
            root.draw(&PathElement::new(vec![(x, 98), (x + 46, 98)], case.color.stroke_width(5)))?;
            root.draw(&Circle::new((x + 23, 98), 8, case.color.filled()))?;
            root.draw(&Text::new(case.label.to_owned(), (x + 60, 84), letters(LETTER, INK)))?;
            x += 300;
        }
        let ms = by_width.iter().chain(by_count).flatten().map(|&(_, ms)| ms.log10());
        let range =
            ms.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), ms| (low.min(ms), high.max(ms)));
        let (left, right) = root.margin(136, 8, 8, 24).split_horizontally(SIZE.0 / 2);
        let wide = format!("width d ({ROWS} + {ROWS} rows)");
        let many = format!("rows a side n (d = {WIDTH})");
        panel(&left, cases, by_width, range, &wide, (1, "slope 1: linear in d"))?;
        panel(&right, cases, by_count, range, &many, (2, "slope 2: square of n"))?;
        root.present()?;
    }
    Ok(svg)
}

/// Curves on axes of which the numbers are logarithms: of base 2 across, of base 10 upwards.
fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    cases: &[Case],
    curves: &[Curve],
    (low, high): (f64, f64),
    x_title: &str,
    (slope, of_guide): (i32, &str),
) -> Drawn {
    let place = |&(x, ms): &(usize, f64)| ((x as f64).log2(), ms.log10());
    let ends = |curve: &Curve| (place(&curve[0]).0, place(&curve[curve.len() - 1]).0);
    let (first, last) = ends(&curves[0]);
    let (floor, roof) = (low.floor(), high.ceil());
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(84)
        .y_label_area_size(112)
        .margin_right(20)
        .build_cartesian_2d(first - 0.2..last + 0.2, floor..roof)?;
    let hair = ShapeStyle::from(GRID).stroke_width(2);
    chart
        .configure_mesh()
        .x_labels(curves[0].len() + 1)
        .y_labels((roof - floor) as usize + 1)
        .x_label_formatter(&|x| format!("{:.0}", x.exp2()))
        .y_label_formatter(&|y| format!("{}", 10f64.powi(y.round() as i32)))
        .light_line_style(GRID.mix(0.0))
        .bold_line_style(hair)
        .axis_style(ShapeStyle::from(SOFT).stroke_width(2))
        .label_style(letters(LETTER, SOFT))
        .axis_desc_style(letters(LETTER, INK))
        .x_desc(x_title)
        .y_desc("ms, median")
        .draw()?;

    // The guide runs under all points.
    let rise = f64::from(slope) * 2f64.log10();
    let lowest =
        curves.iter().flatten().map(place).map(|(x, y)| y + rise * (last - x)).fold(f64::INFINITY, f64::min);
    let at = |x: f64| lowest - 0.2 - rise * (last - x);
    let start = (0..=64).map(|i| first + (last - first) * f64::from(i) / 64.0).find(|&x| at(x) >= floor);
    let guide = [start.unwrap_or(first), last].map(|x| (x, at(x)));
    chart.draw_series(DashedLineSeries::new(guide, 12, 10, ShapeStyle::from(SOFT).stroke_width(4)))?;
    let (x, y) = chart.backend_coord(&((guide[0].0 + last) / 2.0, at((guide[0].0 + last) / 2.0)));
    let below = letters(LETTER, SOFT).pos(Pos::new(HPos::Left, VPos::Top));
    area.draw(&Text::new(
        of_guide.to_owned(),
        (x - area.get_base_pixel().0 + 16, y - area.get_base_pixel().1 + 10),
        below,
    ))?;

    for (case, curve) in cases.iter().zip(curves) {
        let color = case.color;
        chart.draw_series(LineSeries::new(curve.iter().map(place), color.stroke_width(5)))?;
        chart.draw_series(curve.iter().map(|point| Circle::new(place(point), 8, color.filled())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_of_a_power_is_found() {
        let curve: Curve = [10, 20, 40, 80].map(|x| (x, 0.3 * (x as f64).powf(1.5))).to_vec();
        assert!((exponent(&curve) - 1.5).abs() < 1e-12);
    }
}
