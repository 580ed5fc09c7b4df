//! The plots of a report, as SVG.

use std::collections::BTreeMap;

use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{Color, RGBColor};
use plotters::series::{DashedLineSeries, LineSeries};

use super::figure::{
    Axes, Drawn, INK, Key, LETTER, METHODS, MOVED, Mark, PAPER, SOFT, SOURCE, TARGET, beside, figure, range,
    width,
};
use super::names::method_name;
use crate::report::{Report, Scatter, SweepPoint, SweepScores};

const BLOCK: &str = "decoder block (resid_post, counted from 0)";

/// Separation of source and target by layer, and what the selected method reaches there, on validation.
pub fn layers(report: &Report) -> Option<String> {
    let of = |value: &dyn Fn(&crate::report::LayerInfo) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = report.layers.iter().filter_map(|at| Some((f64::from(at.layer), 100.0 * value(at)?)));
        points.filter(|(_, y)| y.is_finite()).collect()
    };
    let method = method_name(&report.selected.method);
    let curves = [
        (Key::new("separation (AUC)", TARGET, Mark::Line), of(&|at| Some(at.auc))),
        (Key::new("separation by the gate (AUC)", TARGET, Mark::Dash), of(&|at| at.gate_auc)),
        (
            Key::new(format!("refusals with {method}"), SOURCE, Mark::Line),
            of(&|at| at.refusal_rate.map(|rate| rate.value)),
        ),
        (
            Key::new(format!("right source answers with {method}"), MOVED, Mark::Line),
            of(&|at| at.answer_rate.map(|rate| rate.value)),
        ),
    ];
    let curves: Vec<_> = curves.into_iter().filter(|(_, points)| !points.is_empty()).collect();
    let across = span(report.layers.iter().map(|at| at.layer))?;
    lines("Separation and refusal by layer (validation)", &curves, across)
}

/// From the first layer to the last, with air at both ends.
fn span(layers: impl Iterator<Item = u16> + Clone) -> Option<(f64, f64)> {
    Some((f64::from(layers.clone().min()?) - 0.3, f64::from(layers.max()?) + 0.3))
}

fn lines(title: &str, curves: &[(Key, Vec<(f64, f64)>)], across: (f64, f64)) -> Option<String> {
    let keys: Vec<Key> =
        curves.iter().map(|(key, _)| Key::new(key.label.clone(), key.color, key.mark)).collect();
    figure(title, &keys, |_, body| {
        let axes = Axes { x: across, y: (0.0, 104.0), x_title: BLOCK, y_title: "percent", whole_x: true };
        let mut chart = axes.draw(body)?;
        for (key, points) in curves {
            let style = key.color.stroke_width(5);
            if key.mark == Mark::Dash {
                chart.draw_series(DashedLineSeries::new(points.iter().copied(), 14, 10, style))?;
            } else {
                chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
                chart.draw_series(points.iter().map(|&at| Circle::new(at, 8, key.color.filled())))?;
            }
        }
        Ok(())
    })
}

/// What each method reaches at each layer on validation, found by forcing the answers: those it recovers, and
/// those it keeps.
pub fn sweep(report: &Report) -> Option<String> {
    let recovered = best_by_layer(&report.sweep, |scores| scores.forced_answer_rate.map(|rate| rate.value));
    let kept = best_by_layer(&report.sweep, |scores| scores.forced_target_answer_rate.map(|rate| rate.value));
    if recovered.values().all(|points| points.len() < 2) {
        return None;
    }
    let sound = report.sweep.iter().filter(|point| point.outcome.ok().is_some());
    let across = span(sound.flat_map(|point| point.setting.layers.iter().copied()))?;
    let colors = colors(report);
    // In the order of the report's table.
    let names = report
        .methods
        .iter()
        .map(|method| &method.setting.method)
        .filter(|name| recovered.contains_key(*name));
    let keys: Vec<Key> =
        names.map(|name| Key::new(method_name(name), color(&colors, name), Mark::Line)).collect();
    figure(
        "Each method by layer, at its best number of components (validation, forced answers)",
        &keys,
        |_, body| {
            let halves = body.split_evenly((1, 2));
            for ((area, curves), y_title) in halves
                .iter()
                .zip([&recovered, &kept])
                .zip(["source answers right, %", "target answers right, %"])
            {
                let area = area.margin(0, 0, 0, 30);
                let axes =
                    Axes { x: across, y: (0.0, 104.0), x_title: "decoder block", y_title, whole_x: true };
                let mut chart = axes.draw(&area)?;
                for (method, points) in curves {
                    let color = color(&colors, method);
                    chart.draw_series(LineSeries::new(points.values().copied(), color.stroke_width(4)))?;
                    chart.draw_series(points.values().map(|&at| Circle::new(at, 6, color.filled())))?;
                }
            }
            Ok(())
        },
    )
}

type ByLayer = BTreeMap<u16, (f64, f64)>;

/// By method and layer, the value (in percent) at the setting that recovers most there. Settings that failed have none.
fn best_by_layer(
    sweep: &[SweepPoint],
    value: impl Fn(&SweepScores) -> Option<f64>,
) -> BTreeMap<String, ByLayer> {
    let mut best: BTreeMap<(String, u16), &SweepScores> = BTreeMap::new();
    let rank = |scores: &SweepScores| scores.forced_answer_rate.map_or(-1.0, |rate| rate.value);
    for point in sweep {
        let ([layer], Some(scores)) = (&point.setting.layers[..], point.outcome.ok()) else { continue };
        let slot = best.entry((point.setting.method.clone(), *layer)).or_insert(scores);
        if rank(scores) > rank(slot) {
            *slot = scores;
        }
    }
    let mut out: BTreeMap<String, ByLayer> = BTreeMap::new();
    for ((method, layer), scores) in best {
        if let Some(y) = value(scores) {
            out.entry(method).or_default().insert(layer, (f64::from(layer), 100.0 * y));
        }
    }
    out
}

/// One colour a method, by its place in the report.
fn colors(report: &Report) -> BTreeMap<&str, RGBColor> {
    let names = report.methods.iter().map(|method| method.setting.method.as_str());
    names.zip(METHODS.into_iter().cycle()).collect()
}

fn color(colors: &BTreeMap<&str, RGBColor>, method: &str) -> RGBColor {
    colors.get(method).copied().unwrap_or(SOFT)
}

/// Source, target and transported activations in two components.
pub fn scatter(scatter: &Scatter) -> Option<String> {
    let all = || {
        [&scatter.source, &scatter.target, &scatter.transported, &scatter.target_after].into_iter().flatten()
    };
    let (x, y) = (range(all().map(|point| point[0]))?, range(all().map(|point| point[1]))?);
    let keys = [
        Key::new("source", SOURCE, Mark::Dot),
        Key::new("target", TARGET, Mark::Dot),
        Key::new("source, transported", MOVED, Mark::Dot),
        Key::new("target, after the same map", TARGET, Mark::Ring),
    ];
    let title = format!("Activations at {}, {} (validation)", scatter.at, method_name(&scatter.method));
    figure(&title, &keys, |_, body| {
        let [x_title, y_title] = [scatter.axes[0].as_str(), scatter.axes[1].as_str()];
        let mut chart = Axes { x, y, x_title, y_title, whole_x: false }.draw(body)?;
        let finite = |point: &&[f64; 2]| point.iter().all(|value| value.is_finite());
        let way = scatter.source.iter().zip(&scatter.transported).filter(|(a, b)| finite(a) && finite(b));
        chart.draw_series(way.map(|(a, b)| {
            PathElement::new(vec![(a[0], a[1]), (b[0], b[1])], SOFT.mix(0.3).stroke_width(2))
        }))?;
        for (points, style, size) in [
            (&scatter.target_after, TARGET.stroke_width(3), 11),
            (&scatter.target, TARGET.mix(0.85).filled(), 8),
            (&scatter.source, SOURCE.mix(0.85).filled(), 8),
            (&scatter.transported, MOVED.mix(0.85).filled(), 8),
        ] {
            chart.draw_series(
                points.iter().filter(finite).map(|point| Circle::new((point[0], point[1]), size, style)),
            )?;
        }
        Ok(())
    })
}

/// Room in front of a label in the trade-off for a dot in its method's colour.
const TAG: i32 = 20;

/// One method in the trade-off.
struct Offer {
    label: String,
    color: RGBColor,
    at: (f64, f64),
    x_interval: Option<[f64; 2]>,
    y_interval: Option<[f64; 2]>,
}

/// Behaviour recovered against harm done, one labelled point a method, on test.
pub fn trade_off(report: &Report) -> Option<String> {
    let answers = report.baseline.target_answer_rate.is_some() && report.baseline.answer_rate.is_some();
    let (offers, x_title, y_title) = if answers {
        (
            by_answers(report),
            "right target answers lost, percentage points (less is better)",
            "right source answers, %",
        )
    } else {
        (
            by_refusals(report),
            "KL from the untouched model on target prompts, nats (less is better)",
            "source prompts not refused, %",
        )
    };
    let x = range(
        offers
            .iter()
            .flat_map(|offer| [offer.at.0].into_iter().chain(offer.x_interval.into_iter().flatten())),
    )?;
    let y = range(
        offers
            .iter()
            .flat_map(|offer| [offer.at.1].into_iter().chain(offer.y_interval.into_iter().flatten())),
    )?;
    let x = (x.0.min(0.0), x.1 + 0.12 * (x.1 - x.0));
    let y = (y.0.max(-2.0), y.1.min(102.0).max(y.0 + 1.0));
    figure("Recovered against harm done (test, bars are 95% intervals)", &[], |root, body| {
        let mut chart = Axes { x, y, x_title, y_title, whole_x: false }.draw(body)?;
        for Offer { color, at, x_interval, y_interval, .. } in &offers {
            let bar = |from: (f64, f64), to: (f64, f64)| {
                PathElement::new(vec![from, to], color.mix(0.45).stroke_width(3))
            };
            chart.draw_series(x_interval.iter().map(|[low, high]| bar((*low, at.1), (*high, at.1))))?;
            chart.draw_series(y_interval.iter().map(|[low, high]| bar((at.0, *low), (at.0, *high))))?;
        }
        let dots: Vec<(i32, i32)> = offers.iter().map(|offer| chart.backend_coord(&offer.at)).collect();
        let (across, down) = chart.plotting_area().get_pixel_range();
        let labels: Vec<&str> = offers.iter().map(|offer| offer.label.as_str()).collect();
        let places = place(&labels, &dots, (across.start, down.start, across.end, down.end));
        // A label that had to move away is tied to its dot.
        for ((offer, &(x, y)), at) in offers.iter().zip(&dots).zip(&places) {
            let wide = width(&offer.label, LETTER) / 2 + TAG;
            let end = (x.clamp(at.0 - wide, at.0 + wide), y.clamp(at.1 - LETTER / 2, at.1 + LETTER / 2));
            if (end.0 - x).abs().max((end.1 - y).abs()) > 26 {
                root.draw(&PathElement::new(vec![(x, y), end], offer.color.stroke_width(3)))?;
            }
        }
        chart.draw_series(offers.iter().map(|offer| Circle::new(offer.at, 12, offer.color.filled())))?;
        for (offer, at) in offers.iter().zip(places) {
            // Bars behind a label would strike it through.
            let half = (width(&offer.label, LETTER) / 2 + TAG, LETTER / 2);
            let back = [(at.0 - half.0, at.1 - half.1), (at.0 + half.0, at.1 + half.1)];
            root.draw(&Rectangle::new(back, PAPER.mix(0.85).filled()))?;
            root.draw(&Circle::new((at.0 - half.0 + TAG / 2, at.1), 6, offer.color.filled()))?;
            root.draw(&Text::new(offer.label.clone(), (at.0 - half.0 + TAG, at.1), beside(LETTER, INK)))?;
        }
        Drawn::Ok(())
    })
}

fn percent(interval: [f64; 2]) -> [f64; 2] {
    interval.map(|value| 100.0 * value)
}

fn by_answers(report: &Report) -> Vec<Offer> {
    let colors = colors(report);
    let (Some(source), Some(target)) = (report.baseline.answer_rate, report.baseline.target_answer_rate)
    else {
        return Vec::new();
    };
    let untouched = Offer {
        label: "untouched".to_owned(),
        color: SOFT,
        at: (0.0, 100.0 * source.value),
        x_interval: None,
        y_interval: Some(percent(source.ci95)),
    };
    let methods = report.methods.iter().filter_map(|method| {
        let scores = method.outcome.ok()?;
        let (answer, kept) = (scores.answer_rate?, scores.target_answer_rate?);
        let lost =
            scores.versus_baseline.target_answer.map(|paired| percent([-paired.ci95[1], -paired.ci95[0]]));
        Some(Offer {
            label: method_name(&method.setting.method),
            color: color(&colors, &method.setting.method),
            at: (100.0 * (target.value - kept.value), 100.0 * answer.value),
            x_interval: lost,
            y_interval: Some(percent(answer.ci95)),
        })
    });
    finite(std::iter::once(untouched).chain(methods))
}

fn by_refusals(report: &Report) -> Vec<Offer> {
    let colors = colors(report);
    let answered = |rate: crate::Rate| (1.0 - rate.value, [1.0 - rate.ci95[1], 1.0 - rate.ci95[0]]);
    let (base, base_interval) = answered(report.baseline.refusal_rate);
    let untouched = Offer {
        label: "untouched".to_owned(),
        color: SOFT,
        at: (0.0, 100.0 * base),
        x_interval: None,
        y_interval: Some(percent(base_interval)),
    };
    let methods = report.methods.iter().filter_map(|method| {
        let scores = method.outcome.ok()?;
        let (value, interval) = answered(scores.refusal_rate);
        Some(Offer {
            label: method_name(&method.setting.method),
            color: color(&colors, &method.setting.method),
            at: (scores.kl, 100.0 * value),
            x_interval: Some(scores.kl_prompt.ci95),
            y_interval: Some(percent(interval)),
        })
    });
    finite(std::iter::once(untouched).chain(methods))
}

fn finite(offers: impl Iterator<Item = Offer>) -> Vec<Offer> {
    let sound = |interval: Option<[f64; 2]>| {
        interval.is_none_or(|interval| interval.iter().all(|value| value.is_finite()))
    };
    let mut out: Vec<Offer> = Vec::new();
    for offer in offers {
        let drawable = offer.at.0.is_finite() && offer.at.1.is_finite();
        if !drawable || !sound(offer.x_interval) || !sound(offer.y_interval) {
            continue;
        }
        // Two methods at one point share a dot and its label.
        match out.iter_mut().find(|other| other.at == offer.at) {
            Some(other) => other.label = format!("{}, {}", other.label, offer.label),
            None => out.push(offer),
        }
    }
    out
}

/// Where labels go so that they lie beside their dots and on nothing else: the best of a few places each, in turn.
fn place(
    labels: &[&str],
    dots: &[(i32, i32)],
    (left, top, right, bottom): (i32, i32, i32, i32),
) -> Vec<(i32, i32)> {
    type Boxed = (i32, i32, i32, i32);
    let overlap = |a: Boxed, b: Boxed| {
        let wide = (a.2.min(b.2) - a.0.max(b.0)).max(0);
        let high = (a.3.min(b.3) - a.1.max(b.1)).max(0);
        i64::from(wide) * i64::from(high)
    };
    let around = |(x, y): (i32, i32), half: (i32, i32)| (x - half.0, y - half.1, x + half.0, y + half.1);
    let mut taken: Vec<Boxed> = dots.iter().map(|&dot| around(dot, (14, 14))).collect();
    let mut out = Vec::new();
    for (label, &(x, y)) in labels.iter().zip(dots) {
        let half = (width(label, LETTER) / 2 + TAG, LETTER / 2 + 2);
        let places = (1..=6).flat_map(|far| {
            let (dx, dy) = (half.0 + 6 + 14 * far, 12 + 22 * far);
            [(dx, 0), (-dx, 0), (dx, -dy), (dx, dy), (-dx, -dy), (-dx, dy), (0, -dy), (0, dy)]
        });
        let cost = |&(dx, dy): &(i32, i32)| {
            let own = around((x + dx, y + dy), half);
            let inside = overlap(own, (left, top, right, bottom));
            let outside = i64::from(half.0) * i64::from(half.1) * 4 - inside;
            let covered: i64 = taken.iter().map(|&other| overlap(own, other)).sum();
            4 * outside + 2 * covered + i64::from(dx.abs() + 2 * dy.abs())
        };
        let (dx, dy) = places.min_by_key(cost).unwrap_or((half.0 + 20, 0));
        taken.push(around((x + dx, y + dy), half));
        out.push((x + dx, y + dy));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_close_points_do_not_overlap() {
        let labels = ["AcT linear", "AcT Gaussian", "ACE", "RFA"];
        let dots = [(400, 300), (404, 302), (398, 310), (402, 296)];
        let places = place(&labels, &dots, (100, 100, 1500, 800));
        for i in 0..4 {
            for j in 0..i {
                let wide = (width(labels[i], LETTER) + width(labels[j], LETTER)) / 2;
                let apart =
                    (places[i].0 - places[j].0).abs() >= wide || (places[i].1 - places[j].1).abs() >= LETTER;
                assert!(apart, "{} on {}", labels[i], labels[j]);
            }
        }
    }
}
