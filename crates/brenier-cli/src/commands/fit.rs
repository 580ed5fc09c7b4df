//! `brenier fit`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use brenier::capture::{ActivationFile, Comparison, Fact, Provenance, RowMatrix, compare};
use brenier::eval::{MapRecord, Policy, places};
use brenier::map::{MapEntry, MapFile};
use brenier::residual::HookPoint;
use brenier::transport::{Certificate, MomentsFile, fit, fit_moments, select_components};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, json};

use crate::args::{Common, Fit};
use crate::console::Console;
use crate::data::{self, Data, hash};
use crate::failure::usage_error;
use crate::fit_args::Components;
use crate::input::{check_out, shown};
use crate::maps::mismatch;

/// Numbers of components among which `--components auto` chooses.
const CANDIDATES: [usize; 6] = [1, 2, 3, 4, 6, 8];

pub fn run(args: &Fit, common: &Common, console: &Console) -> anyhow::Result<()> {
    let console = &check_out(&args.out, args.force, console)?;
    let mut options = args.options.options(common.seed);
    options.check()?;
    let chooses = args.options.components == Components::Auto && args.method.uses_components();
    let (source, target) = (Data::open(&args.source)?, Data::open(&args.target)?);
    let held_out = match (&args.source_val, &args.target_val) {
        (Some(source), Some(target)) => Some((Data::open(source)?, Data::open(target)?)),
        _ => None,
    };
    let sides = Sides::of(&source, &target, &held_out, chooses)?;
    let names = data::common(&source, &target)?;
    let left_out = left_out(&names, [&source, &target]);
    let names = chosen(args, &source, names)?;
    let made = made(args, [&source, &target], &held_out, console)?;
    let places = places_of(args, &names, &made.agreed, console);

    let bar = console.bar("fitting", names.len());
    let mut file = MapFile { entries: BTreeMap::new(), metadata: hashes(args)? };
    for (side, data) in [("source", &source), ("target", &target)] {
        if let Some(maps) = data.provenance().get(Fact::Intervention) {
            file.metadata.insert(format!("{side}.intervention"), maps.to_owned());
        }
    }
    let (mut certificates, mut selections) = (Vec::new(), BTreeMap::new());
    for name in names {
        let place = || format!("tensor `{name}` of {} and {}", args.source.display(), args.target.display());
        let fitted = match &sides {
            Sides::Moments([source, target]) => {
                fit_moments(args.method, &source.entries[&name], &target.entries[&name], &options)
                    .with_context(place)?
            }
            Sides::Rows { train, held_out } => {
                let [s, t] = rows(*train, &name)?;
                let val = held_out.map(|held_out| rows(held_out, &name)).transpose()?;
                let val = val.as_ref().map(|[s, t]| (s.as_ref(), t.as_ref()));
                if chooses {
                    let folds = args.options.folds;
                    let rank =
                        (s.nrows() + t.nrows()).saturating_sub(1) * folds.saturating_sub(1) / folds.max(1);
                    let most = rank.min(s.ncols()).max(1);
                    let candidates: Vec<usize> = CANDIDATES.into_iter().filter(|&k| k <= most).collect();
                    let selection = select_components(s.as_ref(), t.as_ref(), &candidates, &options, folds)
                        .with_context(place)?;
                    options.components = selection.components;
                    selections.insert(name.clone(), selection);
                }
                fit(args.method, s.as_ref(), t.as_ref(), &options, val).with_context(place)?
            }
        };
        let certificate = serde_json::to_value(&fitted.certificate).context("certificate")?;
        let entry = MapEntry { map: fitted.map, certificate, method: fitted.method.to_string() };
        let at = places.clone().unwrap_or_else(|| vec![name.clone()]);
        file.entries.extend(at.into_iter().map(|at| (at, entry.clone())));
        certificates.push((name, fitted.certificate));
        bar.add(1);
    }
    drop(bar);
    let policy = Policy::of(args.method);
    let (tokens, strength) =
        (args.tokens.map_or(policy.tokens, Into::into), args.strength.unwrap_or(policy.strength));
    let record = MapRecord {
        provenance: made.agreed.clone(),
        fitted_at: places.as_ref().and_then(|_| Some(certificates.first()?.0.clone())),
        ..Policy { tokens, strength }.into()
    };
    record.write(&mut file.metadata);
    if !made.differences.is_empty() {
        file.metadata.insert("mismatch".to_owned(), mismatch(&made).to_string());
    }
    file.write(&args.out, args.force)?;

    let mut result = json!({
        "out": shown(&args.out),
        "method": args.method.name(),
        "sha256": file.sha256()?,
        "intervention": {"tokens": tokens.name(), "strength": strength, "fitted_at": record.fitted_at},
        "mismatch": mismatch(&made),
        "unstated": made.unstated.iter().map(|(fact, of)| (fact.to_string(), json!(of))).collect::<Map<_, _>>(),
        "left_out": left_out,
        "maps": certificates
            .iter()
            .map(|(name, certificate)| Ok((name.clone(), serde_json::to_value(certificate)?)))
            .collect::<anyhow::Result<Map<_, _>>>()?,
    });
    if chooses {
        result["components"] = json!(selections);
    }
    console.result(&result, || table(&certificates, &args.out))?;
    Ok(())
}

/// What a fit is made from: rows and, where there are some, rows held out; or moments.
enum Sides<'a> {
    Rows { train: [&'a ActivationFile; 2], held_out: Option<[&'a ActivationFile; 2]> },
    Moments([&'a MomentsFile; 2]),
}

impl<'a> Sides<'a> {
    fn of(
        source: &'a Data,
        target: &'a Data,
        held_out: &'a Option<(Data, Data)>,
        chooses: bool,
    ) -> anyhow::Result<Self> {
        let mut rows = Vec::new();
        let mut moments = Vec::new();
        let given = held_out.iter().flat_map(|(source, target)| [source, target]);
        for data in [source, target].into_iter().chain(given) {
            match data {
                Data::Rows(file) => rows.push(file),
                Data::Moments { file, .. } => moments.push(file),
            }
        }
        match (rows.as_slice(), moments.as_slice()) {
            (&[source, target], []) => Ok(Self::Rows { train: [source, target], held_out: None }),
            (&[source, target, source_val, target_val], []) => {
                Ok(Self::Rows { train: [source, target], held_out: Some([source_val, target_val]) })
            }
            (_, _) if held_out.is_some() => Err(usage_error(
                "--source-val and --target-val need rows everywhere, not moments; leave them out",
            )),
            (&[], &[source, target]) if !chooses => Ok(Self::Moments([source, target])),
            (&[], _) => Err(usage_error("--components auto needs rows, not moments; give a number")),
            _ => Err(usage_error(format!(
                "{} holds {} and {} {}: expected both to hold rows, or both moments",
                shown(source.path()),
                source.kind(),
                shown(target.path()),
                target.kind()
            ))),
        }
    }
}

/// The rows of a tensor in both files, in f64.
fn rows(files: [&ActivationFile; 2], name: &str) -> anyhow::Result<[RowMatrix<f64>; 2]> {
    let [source, target] = files;
    Ok([source.rows(name)?.to_f64(), target.rows(name)?.to_f64()])
}

/// The tensors of the chosen layers.
fn chosen(args: &Fit, source: &Data, names: Vec<String>) -> anyhow::Result<Vec<String>> {
    if args.layers.is_all() {
        return Ok(names);
    }
    let layer = |name: &String| name.parse::<HookPoint>().ok().map(|at| at.layer);
    let highest = source.names().iter().filter_map(layer).max();
    let stated = source.metadata().get("model.layers").and_then(|layers| layers.parse().ok());
    let Some(layers) = stated.or(highest.map(|layer| layer.saturating_add(1))) else {
        return Err(usage_error(format!(
            "--layers {}: {} names no layers in its tensors; leave it out",
            args.layers,
            args.source.display()
        )));
    };
    let wanted = args.layers.of(layers).map_err(usage_error)?;
    let found: Vec<String> = names
        .iter()
        .filter(|name| layer(name).is_some_and(|layer| wanted.contains(&layer)))
        .cloned()
        .collect();
    if found.is_empty() {
        return Err(usage_error(format!("--layers {} chooses none of {}", args.layers, names.join(", "))));
    }
    Ok(found)
}

/// Tensors that only one of the files has.
fn left_out(common: &[String], files: [&Data; 2]) -> Vec<String> {
    let names = files.into_iter().flat_map(Data::names);
    names.filter(|name| !common.contains(name)).cloned().collect()
}

/// How the activations of all files were made. A difference is refused unless it is allowed; then it is said, as is what
/// only some of the files state.
fn made(
    args: &Fit,
    train: [&Data; 2],
    held_out: &Option<(Data, Data)>,
    console: &Console,
) -> anyhow::Result<Comparison> {
    let files: Vec<(String, Provenance)> = train
        .into_iter()
        .chain(held_out.iter().flat_map(|(source, target)| [source, target]))
        .map(|data| (shown(data.path()), data.provenance()))
        .collect();
    let found = compare(&files.iter().map(|(name, made)| (name.as_str(), made)).collect::<Vec<_>>());
    if !args.allow_mismatch {
        found.refuse(|_| true)?;
    }
    for difference in &found.differences {
        console.warn(&format!("{difference}; the map file records the first"));
    }
    let mut silent: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
    for (fact, files) in &found.unstated {
        silent.entry(files).or_default().push(fact.key());
    }
    for (files, facts) in silent {
        console.note(&format!(
            "{} does not state {}: taken from the others",
            files.join(", "),
            facts.join(", ")
        ));
    }
    Ok(found)
}

/// Blocks of the largest model that a map is written for all blocks of: a file may state any number.
const MOST_BLOCKS: u16 = 1024;

/// Where a map acts that is to act elsewhere than where it is fitted, as a study measures it. That takes one map, fitted at
/// a hook point, and a model whose number of blocks is known.
fn places_of(args: &Fit, names: &[String], made: &Provenance, console: &Console) -> Option<Vec<String>> {
    let at = |name: &String| {
        let fitted: HookPoint = name.parse().ok()?;
        let layers: u16 = made.get(Fact::Layers)?.parse().ok()?;
        let known = fitted.layer < layers && layers <= MOST_BLOCKS;
        let places = known.then(|| places(args.method, fitted, layers))?;
        (places != [fitted]).then(|| places.iter().map(ToString::to_string).collect())
    };
    let found = names.first().and_then(at);
    if let (Some(_), [_, _, ..]) = (&found, names) {
        let (method, n) = (args.method, names.len());
        console.note(&format!(
            "{method}: {n} maps, each for where it was fitted; choose one with --layers for a map of every block, as {method} \
             is published"
        ));
        return None;
    }
    found
}

/// What was fitted, by hash.
fn hashes(args: &Fit) -> anyhow::Result<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::from([
        ("source.sha256".to_owned(), hash(&args.source)?),
        ("target.sha256".to_owned(), hash(&args.target)?),
        ("brenier.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    for (key, path) in [("source_val.sha256", &args.source_val), ("target_val.sha256", &args.target_val)] {
        if let Some(path) = path {
            metadata.insert(key.to_owned(), hash(path)?);
        }
    }
    Ok(metadata)
}

fn table(certificates: &[(String, Certificate)], out: &Path) -> String {
    let held_out = certificates.iter().any(|(_, certificate)| certificate.held_out.is_some());
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    let components = certificates.iter().any(|(_, certificate)| certificate.components.is_some());
    let mut heads = vec!["tensor", "rows", "W2 before", "W2 after", "norm of A", "optimality"];
    if held_out {
        heads.insert(4, "W2 held out");
    }
    if components {
        heads.insert(2, "K");
    }
    table.set_header(heads);
    for (name, certificate) in certificates {
        let mut cells = vec![
            name.clone(),
            format!("{} + {}", certificate.source_rows, certificate.target_rows),
            with_interval(
                certificate.train.w2_before,
                certificate.bootstrap.as_ref().map(|boot| boot.w2_before),
            ),
            format!("{:.4}", certificate.train.w2_after),
            with_interval(certificate.norm, certificate.bootstrap.as_ref().and_then(|boot| boot.norm)),
            certificate.optimality.as_ref().map_or_else(
                || "no OT map".to_owned(),
                |laws| format!("|ASA-S|/|S| {:.0e}", laws.push_forward_covariance),
            ),
        ];
        if held_out {
            let quality = certificate.held_out.as_ref();
            cells.insert(
                4,
                quality.map_or_else(String::new, |q| format!("{:.4} of {:.4}", q.w2_after, q.w2_before)),
            );
        }
        if components {
            cells.insert(2, certificate.components.map_or_else(String::new, |k| k.to_string()));
        }
        table.add_row(cells);
    }
    for column in 1..table.column_count() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n{} map(s) in {}", certificates.len(), out.display())
}

/// A number, with its interval where there is one.
fn with_interval(value: f64, interval: Option<[f64; 2]>) -> String {
    match interval {
        Some([low, high]) => format!("{value:.4} ({low:.4} to {high:.4})"),
        None => format!("{value:.4}"),
    }
}
