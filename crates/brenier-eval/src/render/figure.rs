//! What all plots share: paper, title, key, axes, colours.

use std::io;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{
    Cartesian2d, Color, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, IntoFont, RGBColor, SVGBackend,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, ShapeStyle, TextStyle};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// Drawn at twice the size it is shown at, because plotters rounds to whole pixels.
const SIZE: (u32, u32) = (1560, 880);
/// Height of letters, in the same pixels.
pub(super) const LETTER: i32 = 30;

// These five are what the page's style sheet re-colours for a dark screen, so nothing else may use them.
pub(super) const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
pub(super) const SOFT: RGBColor = RGBColor(0x6b, 0x72, 0x80);
const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
const AXIS: RGBColor = RGBColor(0x9c, 0xa3, 0xaf);
pub(super) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

pub(super) const SOURCE: RGBColor = RGBColor(0xd5, 0x5e, 0x00);
pub(super) const TARGET: RGBColor = RGBColor(0x00, 0x72, 0xb2);
pub(super) const MOVED: RGBColor = RGBColor(0x00, 0x9e, 0x73);
/// Okabe and Ito's colours, which colour-blind eyes can tell apart, and a few more.
pub(super) const METHODS: [RGBColor; 8] = [
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x8b, 0x5c, 0xf6),
    RGBColor(0x78, 0x71, 0x6c),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Line,
    Dash,
    Dot,
    Ring,
}

/// One entry of the key above a plot.
pub(super) struct Key {
    pub label: String,
    pub color: RGBColor,
    pub mark: Mark,
}

impl Key {
    pub fn new(label: impl Into<String>, color: RGBColor, mark: Mark) -> Self {
        Self { label: label.into(), color, mark }
    }
}

/// A plot as SVG. `None` when there is nothing that could be drawn.
pub(super) fn figure(
    title: &str,
    keys: &[Key],
    draw: impl FnOnce(&Area<'_>, &Area<'_>) -> Drawn,
) -> Option<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&PAPER).ok()?;
        root.draw(&Text::new(title.to_owned(), (24, 18), letters(36, INK, FontStyle::Bold))).ok()?;
        let top = key(&root, keys).ok()?;
        let body = root.margin(top, 8, 8, 24);
        draw(&root, &body).ok()?;
        root.present().ok()?;
    }
    Some(svg)
}

/// Letters of a size and colour, anchored at their top left.
pub(super) fn letters(size: i32, color: RGBColor, style: FontStyle) -> TextStyle<'static> {
    let mut letters = TextStyle::from(("sans-serif", size, style).into_font());
    letters.color = color.to_backend_color();
    letters
}

/// As [`letters`], beginning at their point and level with it.
pub(super) fn beside(size: i32, color: RGBColor) -> TextStyle<'static> {
    letters(size, color, FontStyle::Normal).pos(Pos::new(HPos::Left, VPos::Center))
}

/// A guess at how wide a text comes out, since no font is at hand.
pub(super) fn width(text: &str, size: i32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.43) as i32
}

/// Draws the key, wrapped, and returns where it ends.
fn key(root: &Area<'_>, keys: &[Key]) -> Result<i32, DrawingAreaErrorKind<io::Error>> {
    let (mut x, mut y) = (26, 84);
    for (i, Key { label, color, mark }) in keys.iter().enumerate() {
        let wide = 62 + width(label, LETTER) + 34;
        if i > 0 && x + wide > SIZE.0 as i32 - 20 {
            (x, y) = (26, y + 40);
        }
        let line = |from: i32, to: i32| {
            PathElement::new(vec![(x + from, y + 14), (x + to, y + 14)], color.stroke_width(5))
        };
        match mark {
            Mark::Line => root.draw(&line(0, 46))?,
            Mark::Dash => [(0, 12), (17, 29), (34, 46)]
                .into_iter()
                .try_for_each(|(from, to)| root.draw(&line(from, to)))?,
            Mark::Dot => root.draw(&Circle::new((x + 28, y + 14), 9, color.filled()))?,
            Mark::Ring => root.draw(&Circle::new((x + 28, y + 14), 9, color.stroke_width(3)))?,
        }
        root.draw(&Text::new(label.clone(), (x + 58, y), letters(LETTER, INK, FontStyle::Normal)))?;
        x += wide;
    }
    Ok(if keys.is_empty() { 90 } else { y + 58 })
}

/// Axes with a grid and titles.
pub(super) struct Axes<'a> {
    pub x: (f64, f64),
    pub y: (f64, f64),
    pub x_title: &'a str,
    pub y_title: &'a str,
    /// Marks on the x axis at whole numbers alone.
    pub whole_x: bool,
}

impl Axes<'_> {
    pub fn draw<'a, 'b>(&self, area: &'a Area<'b>) -> Result<Chart<'a, 'b>, DrawingAreaErrorKind<io::Error>> {
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(84)
            .y_label_area_size(112)
            .build_cartesian_2d(self.x.0..self.x.1, self.y.0..self.y.1)?;
        let hair = |color: RGBColor| ShapeStyle::from(color).stroke_width(2);
        let whole = |value: &f64| {
            if (value - value.round()).abs() < 1e-9 { format!("{value:.0}") } else { String::new() }
        };
        let plain = |value: &f64| plain_number(*value);
        let x_labels = if self.whole_x { (self.x.1 - self.x.0).ceil().clamp(2.0, 21.0) as usize } else { 8 };
        chart
            .configure_mesh()
            .x_labels(x_labels)
            .y_labels(7)
            .x_label_formatter(if self.whole_x { &whole } else { &plain })
            .y_label_formatter(&plain)
            .light_line_style(GRID.mix(0.0))
            .bold_line_style(hair(GRID))
            .axis_style(hair(AXIS))
            .label_style(letters(LETTER, SOFT, FontStyle::Normal))
            .axis_desc_style(letters(LETTER, INK, FontStyle::Normal))
            .x_desc(self.x_title)
            .y_desc(self.y_title)
            .draw()?;
        Ok(chart)
    }
}

fn plain_number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A range that holds all finite values, with some air; `None` without any.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let air = ((high - low) * 0.06).max(1e-9 * high.abs()).max(1e-12);
    (low <= high).then_some((low - air, high + air))
}
