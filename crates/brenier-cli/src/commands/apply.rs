//! `brenier apply`.

use std::collections::BTreeMap;

use anyhow::Context;
use brenier::capture::{ActivationFile, Activations, Rows};
use brenier::map::{MapEntry, MapError};
use serde_json::json;

use crate::args::Apply;
use crate::console::Console;
use crate::failure::usage_error;
use crate::input::{check_out, shown};
use crate::maps::{OpenMap, mismatch};

pub fn run(args: &Apply, console: &Console) -> anyhow::Result<()> {
    let console = &check_out(&args.out, args.force, console)?;
    let map = OpenMap::read(&args.map)?;
    let input = ActivationFile::open(&args.input)?;
    let found = map.compare(&shown(&args.input), &input.provenance(), args.allow_mismatch, console)?;
    let strength = map.strength(args.strength);
    let pairs = pairs(args, &map, &input)?;

    let bar = console.bar("applying", pairs.len());
    let mut tensors = BTreeMap::new();
    for (name, entry) in pairs {
        let rows = mapped(input.rows(&name)?, entry, strength.value)
            .with_context(|| format!("{}: tensor `{name}`", args.input.display()))?;
        tensors.insert(name, rows);
        bar.add(1);
    }
    drop(bar);
    let mut metadata = input.metadata().clone();
    metadata.retain(|key, _| key != "format");
    metadata.insert("map.sha256".to_owned(), map.sha256.clone());
    metadata.insert("map.strength".to_owned(), strength.value.to_string());
    if !found.differences.is_empty() {
        metadata.insert("map.mismatch".to_owned(), mismatch(&found).to_string());
    }
    let output = Activations { tensors, rows: input.row_index()?, metadata };
    output.write(&args.out, args.force)?;

    let shapes: serde_json::Map<_, _> = output
        .tensors
        .iter()
        .map(|(name, rows)| (name.clone(), json!([rows.nrows(), rows.ncols()])))
        .collect();
    let result = json!({
        "out": shown(&args.out), "strength": strength.value, "intervention": {
            "map": shown(&args.map), "map_sha256": map.sha256, "strength": strength,
        },
        "mismatch": mismatch(&found), "tensors": shapes,
    });
    console.result(&result, || {
        let (out, tensors) = (args.out.display(), output.tensors.len());
        format!("{out}: {tensors} tensor(s) mapped at strength {strength}")
    })?;
    Ok(())
}

/// Which tensor goes through which map: those of one name, or the pair that was asked for.
fn pairs<'a>(
    args: &Apply,
    map: &'a OpenMap<'_>,
    input: &ActivationFile,
) -> anyhow::Result<Vec<(String, &'a MapEntry)>> {
    let entries = &map.file.entries;
    let known = || entries.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    // A map that acts elsewhere than where it was fitted goes by both names.
    let fitted =
        |name: &str| entries.values().next().filter(|_| map.record.fitted_at.as_deref() == Some(name));
    let entry_of = |name: &str| entries.get(name).or_else(|| fitted(name));
    let Some(tensor) = &args.tensor else {
        let pairs: Vec<_> =
            input.names().iter().filter_map(|name| Some((name.clone(), entry_of(name)?))).collect();
        if pairs.is_empty() {
            return Err(usage_error(format!(
                "{} has no map for a tensor of {}: its maps are {}, the tensors {}; name one with --tensor",
                args.map.display(),
                args.input.display(),
                known(),
                input.names().join(", ")
            )));
        }
        return Ok(pairs);
    };
    let entry = match &args.entry {
        Some(entry) => entry_of(entry),
        // One map is all there is.
        None => entry_of(tensor).or_else(|| {
            entries.values().next().filter(|_| entries.len() == 1 || map.record.fitted_at.is_some())
        }),
    };
    let wanted = args.entry.as_ref().unwrap_or(tensor);
    let entry = entry.ok_or_else(|| {
        usage_error(format!(
            "{} has no entry `{wanted}`: it has {}; choose one with --entry",
            args.map.display(),
            known()
        ))
    })?;
    Ok(vec![(tensor.clone(), entry)])
}

/// The rows after the map, in the precision that they had.
fn mapped(mut rows: Rows, entry: &MapEntry, strength: f64) -> anyhow::Result<Rows> {
    if let Some((row, column, value)) = not_finite(&rows) {
        return Err(usage_error(format!(
            "row {row}, column {column} (counted from 0) is {value}: expected finite numbers"
        )));
    }
    let moved = match &mut rows {
        Rows::F32(rows) => entry.map.apply_rows_f32(rows.as_mut(), strength),
        Rows::F64(rows) => entry.map.apply_rows(rows.as_mut(), strength),
    };
    moved.map_err(|error| match error {
        MapError::Overflow { row, column, number } => usage_error(format!(
            "row {row}, column {column} (counted from 0) leaves the range of {number} at strength {strength:e}; lower \
             --strength"
        )),
        other => other.into(),
    })?;
    Ok(rows)
}

/// The first number that is not finite: row, column and value.
fn not_finite(rows: &Rows) -> Option<(usize, usize, f64)> {
    let value = |row, column| match rows {
        Rows::F32(rows) => f64::from(rows[(row, column)]),
        Rows::F64(rows) => rows[(row, column)],
    };
    let all = (0..rows.nrows()).flat_map(|row| (0..rows.ncols()).map(move |column| (row, column)));
    all.map(|(row, column)| (row, column, value(row, column))).find(|(_, _, value)| !value.is_finite())
}
