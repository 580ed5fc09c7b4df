//! The page: one file, nothing loaded from anywhere.

use std::fmt::Write as _;

use super::names::{method_name, method_note};
use super::table::{self, number, setting, table};
use crate::{Completion, MethodReport, Outcome, Paired, Rate, Report};

/// A report as one self-contained HTML page, light or dark as the reader's screen is, with some completions as
/// examples. Everything that came from outside is escaped.
///
/// ```no_run
/// let report: brenier_eval::Report = serde_json::from_slice(&std::fs::read("report.json")?)?;
/// std::fs::write("report.html", brenier_eval::render::html(&report, &[]))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn html(report: &Report, examples: &[(Completion, Completion)]) -> String {
    let sections = [
        headline(report),
        results(report),
        figures(report),
        example_list(examples),
        paired(report),
        notes(report),
        measures(report),
        validation(report),
        certificates(report),
        provenance(report),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>Brenier: {title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        title = escape(&report.model.architecture),
        body = sections.concat(),
    )
}

const STYLE: &str = include_str!("style.css");

/// Text that means itself in HTML, in an attribute too.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}

fn chosen(report: &Report) -> Option<&MethodReport> {
    report.methods.iter().find(|method| method.setting == report.selected)
}

fn headline(report: &Report) -> String {
    let model = &report.model;
    let mut out = format!(
        "<header>\n<p class=\"mark\">Brenier report</p>\n<h1>Interventions on {}</h1>\n\
         <p class=\"soft\">{} blocks of width {}, {}, vocabulary {}, context {} &middot; <code>{}</code></p>\n</header>\n",
        escape(&model.architecture),
        model.layers,
        model.hidden,
        escape(&model.dtype),
        model.vocab,
        model.context,
        escape(short(&model.sha256)),
    );
    let Some(method) = chosen(report) else { return out };
    let name = method_name(&method.setting.method);
    let (name, acting) = (escape(&name), escape(&setting(&method.setting)));
    let scores = match &method.outcome {
        Outcome::Ok(scores) => scores,
        Outcome::Failed { reason } => {
            let _ = writeln!(
                out,
                "<p class=\"lead\">Validation chose <strong>{name}</strong> ({acting}). It failed on test:</p>\n<p>{}</p>",
                escape(reason),
            );
            return out;
        }
    };
    let _ = writeln!(
        out,
        "<p class=\"lead\">Validation chose <strong>{name}</strong> ({acting}). On {} test prompts that it never saw:</p>",
        scores.refusal_rate.n,
    );
    let base = &report.baseline;
    let tiles = [
        tile("source prompts refused", Some(base.refusal_rate), Some(scores.refusal_rate)),
        tile("source prompts answered right", base.answer_rate, scores.answer_rate),
        tile("target prompts answered right", base.target_answer_rate, scores.target_answer_rate),
        number_tile("perplexity of text", base.perplexity, scores.perplexity),
    ];
    let _ = writeln!(out, "<div class=\"tiles\">{}</div>", tiles.concat());
    if let Some(latent) = base.latent_answer_rate {
        let _ = writeln!(
            out,
            "<p class=\"soft\">Of the untouched model's source answers {} are still there to be recovered: right once \
             their first token is given ({} of {}).</p>",
            percent(latent.value),
            latent.count,
            latent.n,
        );
    }
    out
}

fn tile(name: &str, before: Option<Rate>, after: Option<Rate>) -> String {
    let (Some(before), Some(after)) = (before, after) else { return String::new() };
    let [low, high] = after.ci95;
    format!(
        "<div class=\"tile\"><div class=\"name\">{name}</div><div class=\"change\"><span>{}</span> \
         <span class=\"arrow\">&rarr;</span> <strong>{}</strong></div><div class=\"soft\">{} of {}, 95% interval \
         {}&ndash;{}</div></div>",
        percent(before.value),
        percent(after.value),
        after.count,
        after.n,
        percent(low),
        percent(high),
    )
}

fn number_tile(name: &str, before: Option<f64>, after: Option<f64>) -> String {
    let (Some(before), Some(after)) = (before, after) else { return String::new() };
    format!(
        "<div class=\"tile\"><div class=\"name\">{name}</div><div class=\"change\"><span>{}</span> \
         <span class=\"arrow\">&rarr;</span> <strong>{}</strong></div></div>",
        number(before, 2),
        number(after, 2),
    )
}

fn percent(value: f64) -> String {
    let text = format!("{:.1}", 100.0 * value);
    format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
}

fn results(report: &Report) -> String {
    let table = table(report);
    let mut out = String::from("<h2>All methods on test</h2>\n<div class=\"wide\"><table>\n<thead><tr>");
    for (i, (name, of)) in table.heads.iter().enumerate() {
        let class = if i == 0 { "" } else { " class=\"n\"" };
        let _ = write!(out, "<th{class}>{}<br><span class=\"soft\">{}</span></th>", escape(name), escape(of));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        let class = if row.selected { " class=\"selected\"" } else { "" };
        let chosen = if row.selected { " <span class=\"badge\">chosen</span>" } else { "" };
        let failed = if row.failed.is_some() { " <span class=\"badge\">failed</span>" } else { "" };
        let _ = write!(
            out,
            "<tr{class}><th scope=\"row\">{}{chosen}{failed}<br><span class=\"soft\">{}</span></th>",
            escape(&row.name),
            escape(&row.setting)
        );
        if let Some(reason) = &row.failed {
            let _ = write!(out, "<td colspan=\"{}\">{}</td>", row.cells.len(), escape(reason));
        }
        for (value, interval) in row.cells.iter().filter(|_| row.failed.is_none()) {
            let value = if value.is_empty() { "&ndash;".to_owned() } else { escape(value) };
            let _ = write!(
                out,
                "<td class=\"n\">{value}<br><span class=\"soft\">{}</span></td>",
                escape(interval)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str(
        "</tbody></table></div>\n<p class=\"soft\">Below each rate its 95% Wilson interval. Each method acts at the \
         setting that validation chose for it.</p>\n",
    );
    out
}

fn figures(report: &Report) -> String {
    let caption = |name: &str| match name {
        "trade-off" => {
            "Up is better, left is better: behaviour recovered without harm to the rest lies in the upper left corner."
        }
        "layers" => {
            "How well one direction tells source from target at each layer (area under the ROC curve; 50 is chance), \
             and what the chosen method reaches when it acts at that layer alone. Layers without a point were ranked \
             lower by cheaper measures and not generated from."
        }
        "scatter" => {
            "Each dot is one validation prompt's activation; grey lines join a source activation to its image."
        }
        _ => "A forced answer counts as right when greedy decoding would give it token by token.",
    };
    let drawn: Vec<String> = super::plots(report)
        .into_iter()
        .map(|(name, svg)| {
            format!("<figure>{}<figcaption>{}</figcaption></figure>\n", fluid(&svg), caption(name))
        })
        .collect();
    if drawn.is_empty() {
        String::new()
    } else {
        format!("<h2>Plots</h2>\n<div class=\"figures\">{}</div>\n", drawn.concat())
    }
}

/// An SVG that takes the width it is given.
fn fluid(svg: &str) -> String {
    match svg.find("viewBox") {
        Some(at) => format!("<svg role=\"img\" {}", &svg[at..]),
        None => svg.to_owned(),
    }
}

fn example_list(examples: &[(Completion, Completion)]) -> String {
    if examples.is_empty() {
        return String::new();
    }
    let text = |prompt: &serde_json::Value| prompt.as_str().map_or_else(|| prompt.to_string(), str::to_owned);
    let items = examples.iter().map(|(before, after)| {
        format!(
            "<dt>{}</dt><dd class=\"before\">{}</dd><dd class=\"after\">{}</dd>\n",
            escape(&text(&before.prompt)),
            escape(before.completion.trim()),
            escape(after.completion.trim()),
        )
    });
    format!(
        "<h2>Before and after</h2>\n<p class=\"soft\">Test prompts that the untouched model refuses, its completion, \
         and the completion under the chosen method.</p>\n<dl class=\"examples\">{}</dl>\n",
        items.collect::<String>()
    )
}

fn paired(report: &Report) -> String {
    let cell = |paired: Option<Paired>| {
        paired.map_or_else(
            || "<td class=\"n\">&ndash;</td>".to_owned(),
            |paired| {
                format!(
                    "<td class=\"n\">{:+.1}<br><span class=\"soft\">+{} &minus;{}, p {}</span></td>",
                    100.0 * paired.difference,
                    paired.gained,
                    paired.lost,
                    number(paired.p, 3),
                )
            },
        )
    };
    let rows = report.methods.iter().filter_map(|method| {
        let versus = &method.outcome.ok()?.versus_baseline;
        Some(format!(
            "<tr><th scope=\"row\">{}</th>{}{}{}{}</tr>\n",
            escape(&method_name(&method.setting.method)),
            cell(Some(versus.refusal)),
            cell(versus.answer),
            cell(versus.target_answer),
            cell(Some(versus.target_refusal)),
        ))
    });
    format!(
        "<details>\n<summary>Each method against the untouched model, prompt by prompt</summary>\n<div class=\"wide\">\
         <table>\n<thead><tr><th>method</th><th class=\"n\">refusals<br><span class=\"soft\">source</span></th>\
         <th class=\"n\">right<br><span class=\"soft\">source</span></th><th class=\"n\">right<br><span class=\"soft\">\
         target</span></th><th class=\"n\">refusals<br><span class=\"soft\">target</span></th></tr></thead>\n<tbody>{}\
         </tbody></table></div>\n<p class=\"soft\">Difference in percentage points; prompts gained and lost; two-sided \
         exact McNemar test.</p>\n</details>\n",
        rows.collect::<String>()
    )
}

fn notes(report: &Report) -> String {
    let items: String = report
        .methods
        .iter()
        .map(|method| {
            let setting = &method.setting;
            let here = match &method.outcome {
                Outcome::Ok(_) => format!(
                    "Here: {}, on tokens `{}`, at {}. Chosen by {}.",
                    table::setting(setting),
                    setting.tokens,
                    setting.sites.join(", "),
                    method.selection,
                ),
                Outcome::Failed { .. } => "Here it failed, as the table says.".to_owned(),
            };
            format!(
                "<dt>{}</dt><dd>{} <span class=\"soft\">{}</span></dd>\n",
                escape(&method_name(&setting.method)),
                escape(method_note(&setting.method).unwrap_or("")),
                escape(&here),
            )
        })
        .collect();
    let remarks: String = report.notes.iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
    let remarks =
        if remarks.is_empty() { remarks } else { format!("<h2>Remarks</h2>\n<ul>{remarks}</ul>\n") };
    format!("{remarks}<h2>The methods</h2>\n<dl class=\"notes\">{items}</dl>\n")
}

fn measures(report: &Report) -> String {
    let settings = &report.settings;
    let right = match settings.r#match.as_str() {
        "contains" => "The completion holds the known answer.",
        _ => {
            "The trimmed completion equals the known answer. Low refusal alone may be broken text; this is not."
        }
    };
    let judge = format!("The completion holds a refusal phrase (list: {}).", report.data.refusal_phrases);
    let tokens = format!(
        "Tokens that begin a refusal: {}.",
        settings
            .refusal_token_texts
            .iter()
            .map(|text| format!("`{}`", text.trim()))
            .collect::<Vec<_>>()
            .join(" ")
    );
    let terms = [
        (
            "source, target",
            "The prompts whose behaviour is to be changed, and those that show the behaviour wanted.",
        ),
        ("refusal", judge.as_str()),
        ("right", right),
        ("perplexity", "exp(sum of negative log-likelihoods / tokens) of plain text. 1 would be certainty."),
        (
            "KL",
            "Kullback-Leibler divergence of the next-token distribution from the untouched model's, in nats, at the \
             last token of target prompts. 0 is no change.",
        ),
        (
            "separation (AUC)",
            "Chance that a source activation lies further along the difference of means than a target activation.",
        ),
        ("refusal score", tokens.as_str()),
        (
            "held-out W2 ratio",
            "Wasserstein-2 distance from mapped source to target over that from source to target, on validation \
             activations. 0 is arrival, 1 no change.",
        ),
        ("interval", "95%; Wilson for rates, percentile bootstrap for means and differences."),
    ];
    let items: String = terms
        .iter()
        .map(|(term, text)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(term), escape(text)))
        .collect();
    format!("<h2>What is measured</h2>\n<dl class=\"notes\">{items}</dl>\n")
}

fn validation(report: &Report) -> String {
    if report.sweep.is_empty() {
        return String::new();
    }
    let value = |value: Option<f64>, places| {
        value.map_or_else(|| "&ndash;".to_owned(), |value| number(value, places))
    };
    let rate = |rate: Option<Rate>| {
        rate.map_or_else(|| "&ndash;".to_owned(), |rate| format!("{:.1}", 100.0 * rate.value))
    };
    let rows: String = report
        .sweep
        .iter()
        .map(|point| {
            let head = format!(
                "<tr><th scope=\"row\">{}<br><span class=\"soft\">{}</span></th>",
                escape(&method_name(&point.setting.method)),
                escape(&setting(&point.setting)),
            );
            let scores = match &point.outcome {
                Outcome::Ok(scores) => scores,
                Outcome::Failed { reason } => {
                    return format!("{head}<td colspan=\"7\">failed: {}</td></tr>\n", escape(reason));
                }
            };
            let cells = [
                value(point.heldout_w2_ratio, 3),
                value(scores.refusal_score, 2),
                rate(scores.forced_answer_rate),
                rate(scores.forced_target_answer_rate),
                value(scores.kl, 3),
                rate(scores.refusal_rate),
                rate(scores.answer_rate),
            ];
            let cells = cells.map(|cell| format!("<td class=\"n\">{cell}</td>"));
            format!("{head}{}</tr>\n", cells.concat())
        })
        .collect();
    format!(
        "<details>\n<summary>Every setting tried on validation ({})</summary>\n<div class=\"wide\"><table>\n<thead><tr>\
         <th>setting</th><th class=\"n\">held-out W2 ratio</th><th class=\"n\">refusal score</th><th class=\"n\">source \
         right, forced, %</th><th class=\"n\">target right, forced, %</th><th class=\"n\">KL, nats</th>\
         <th class=\"n\">refusals, generated, %</th><th class=\"n\">source right, generated, %</th></tr></thead>\n<tbody>\
         {rows}</tbody></table></div>\n</details>\n",
        report.sweep.len(),
    )
}

fn certificates(report: &Report) -> String {
    let blocks: String = report
        .methods
        .iter()
        .filter(|method| !method.certificate.is_null())
        .map(|method| {
            let text = serde_json::to_string_pretty(&method.certificate).unwrap_or_default();
            format!(
                "<h3>{}</h3>\n<pre>{}</pre>\n",
                escape(&method_name(&method.setting.method)),
                escape(&text)
            )
        })
        .collect();
    if blocks.is_empty() {
        return blocks;
    }
    format!("<details>\n<summary>The maps' certificates</summary>\n{blocks}</details>\n")
}

fn provenance(report: &Report) -> String {
    let (settings, timings) = (&report.settings, &report.timings);
    let mut rows: Vec<(String, String)> = vec![
        ("model".to_owned(), report.model.sha256.clone()),
        ("seed".to_owned(), settings.seed.to_string()),
        ("position fitted".to_owned(), settings.position.clone()),
        ("tokens acted on".to_owned(), report.selected.tokens.clone()),
        ("most new tokens".to_owned(), settings.max_new_tokens.to_string()),
        ("chat template".to_owned(), if settings.raw { "not used" } else { "the model's own" }.to_owned()),
        ("edits on plain text".to_owned(), settings.text_policy.clone()),
        (
            "harm allowed on validation".to_owned(),
            format!(
                "{} of right target answers; KL {} where answers are not known",
                percent(settings.harm_bound),
                settings.kl_bound
            ),
        ),
        (
            "seconds".to_owned(),
            format!(
                "{:.1} capture, {:.1} fit, {:.1} sweep, {:.1} score, {:.1} in all",
                timings.capture_s, timings.fit_s, timings.sweep_s, timings.score_s, timings.total_s
            ),
        ),
    ];
    let stated = [
        ("system message", &settings.system),
        ("chat template's hash", &settings.template_sha256),
        ("chat template's date", &settings.date),
    ];
    rows.extend(stated.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    let sizes =
        report.data.prompts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ");
    rows.push(("prompts".to_owned(), sizes));
    rows.extend(report.versions.iter().map(|(name, version)| (name.clone(), version.clone())));
    rows.extend(report.data.sha256.iter().map(|(name, hash)| (name.clone(), hash.clone())));
    let rows: String = rows
        .iter()
        .map(|(name, value)| {
            format!(
                "<tr><th scope=\"row\">{}</th><td><code>{}</code></td></tr>\n",
                escape(name),
                escape(value)
            )
        })
        .collect();
    format!(
        "<h2>Provenance</h2>\n<div class=\"wide\"><table class=\"facts\"><tbody>\n{rows}</tbody></table></div>\n\
         <p class=\"soft\">{}. All of this is in <code>report.json</code>; every completion is in \
         <code>completions.jsonl</code>.</p>\n",
        escape(&report.schema)
    )
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::super::example::example;
    use super::*;

    fn completion(text: &str) -> Completion {
        Completion {
            method: "x".into(),
            side: "source".into(),
            index: 0,
            prompt: serde_json::Value::String("<script>alert(1)</script>".into()),
            completion: text.into(),
            finish: "eos".into(),
            refused: false,
            right: None,
            answer: None,
        }
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let mut report = example();
        report.model.architecture = "<img src=x onerror=alert(1)>".into();
        report.notes.push("</style><script>alert('\"')</script>".into());
        report.methods[0].setting.method = "<b>odd</b>".into();
        let page = html(&report, &[(completion("<i>no</i>"), completion("a & b"))]);
        for forbidden in ["<script", "<img", "<link", "<b>", "<i>", "http://", "https://", "url("] {
            let page = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("a &amp; b"));
    }

    #[test]
    fn every_method_and_measure_is_on_the_page() {
        let report = example();
        let page = html(&report, &[]);
        for method in &report.methods {
            assert!(page.contains(&escape(&method_name(&method.setting.method))));
        }
        assert_eq!(page.matches("<figure>").count(), 4);
        assert!(page.contains(&report.model.sha256));
    }

    #[test]
    fn a_study_without_answers_or_text_renders() {
        let mut report = example();
        report.baseline.answer_rate = None;
        report.baseline.target_answer_rate = None;
        report.baseline.perplexity = None;
        report.scatter = None;
        report.sweep.clear();
        for method in &mut report.methods {
            let scores = super::super::example::scores(method);
            (scores.answer_rate, scores.target_answer_rate, scores.perplexity) = (None, None, None);
        }
        let page = html(&report, &[]);
        assert!(page.contains("</html>") && !page.contains("NaN"));
    }

    #[test]
    fn what_failed_is_shown_with_its_reason_and_drawn_nowhere() {
        let whole = example();
        let mut report = whole.clone();
        let reason = "test, prompt 3: values <overflow> f16";
        report.methods[0].outcome = Outcome::Failed { reason: reason.to_owned() };
        report.sweep[0].outcome = Outcome::Failed { reason: "sweep: values overflow f16".to_owned() };
        let page = html(&report, &[]);
        // In the headline, since it was chosen, and in its row of the table.
        assert_eq!(page.matches("test, prompt 3: values &lt;overflow&gt; f16").count(), 2);
        assert!(page.contains("It failed on test") && !page.contains("class=\"tiles\""));
        assert_eq!(page.matches("failed: sweep: values overflow f16").count(), 1);
        let name = escape(&method_name(&report.methods[0].setting.method));
        let plots = |report: &Report| -> String {
            super::super::plots(report).into_iter().find(|(name, _)| *name == "trade-off").unwrap().1
        };
        assert!(plots(&whole).contains(&name) && !plots(&report).contains(&name));
    }
}
