//! `brenier apply`.

use std::collections::BTreeMap;

use anyhow::Context;
use brenier::capture::{ActivationFile, Activations, Rows};
use brenier::map::container::read_whole;
use brenier::map::{MapEntry, MapFile};
use brenier::model::sha256;
use serde_json::json;

use crate::args::Apply;
use crate::console::Console;
use crate::failure::usage_error;
use crate::input::{check_out, shown};

pub fn run(args: &Apply, console: &Console) -> anyhow::Result<()> {
    let console = &check_out(&args.out, args.force, console)?;
    if !args.strength.is_finite() {
        return Err(usage_error(format!("--strength {}: expected a finite number", args.strength)));
    }
    // Read once: the hash is that of the maps that are applied, and a FIFO has no second reading.
    let map_bytes = read_whole(&args.map)?;
    let maps = MapFile::from_bytes(&map_bytes, &args.map)?;
    let input = ActivationFile::open(&args.input)?;
    let pairs = pairs(args, &maps, &input)?;

    let bar = console.bar("applying", pairs.len());
    let mut tensors = BTreeMap::new();
    for (name, entry) in pairs {
        let rows = mapped(input.rows(&name)?, entry, args.strength)
            .with_context(|| format!("{}: tensor `{name}`", args.input.display()))?;
        tensors.insert(name, rows);
        bar.add(1);
    }
    drop(bar);
    let mut metadata = input.metadata().clone();
    metadata.retain(|key, _| key != "format");
    metadata.insert("map.sha256".to_owned(), sha256(&map_bytes));
    metadata.insert("map.strength".to_owned(), args.strength.to_string());
    let output = Activations { tensors, rows: input.row_index()?, metadata };
    output.write(&args.out, args.force)?;

    let shapes: serde_json::Map<_, _> = output
        .tensors
        .iter()
        .map(|(name, rows)| (name.clone(), json!([rows.nrows(), rows.ncols()])))
        .collect();
    console.result(
        &json!({"out": shown(&args.out), "strength": args.strength, "tensors": shapes}),
        || {
            format!(
                "{}: {} tensor(s) mapped at strength {}",
                args.out.display(),
                output.tensors.len(),
                args.strength
            )
        },
    )?;
    Ok(())
}

/// Which tensor goes through which map: those of one name, or the pair that was asked for.
fn pairs<'a>(
    args: &Apply,
    maps: &'a MapFile,
    input: &ActivationFile,
) -> anyhow::Result<Vec<(String, &'a MapEntry)>> {
    let known = || maps.entries.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let Some(tensor) = &args.tensor else {
        let pairs: Vec<_> =
            input.names().iter().filter_map(|name| Some((name.clone(), maps.entries.get(name)?))).collect();
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
        Some(entry) => maps.entries.get(entry),
        None => maps
            .entries
            .get(tensor)
            .or_else(|| maps.entries.values().next().filter(|_| maps.entries.len() == 1)),
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
    match &mut rows {
        Rows::F32(rows) => entry.map.apply_rows_f32(rows.as_mut(), strength)?,
        Rows::F64(rows) => entry.map.apply_rows(rows.as_mut(), strength)?,
    }
    if let Some((row, column, value)) = not_finite(&rows) {
        let dtype = match &rows {
            Rows::F32(_) => "f32",
            Rows::F64(_) => "f64",
        };
        return Err(usage_error(format!(
            "row {row}, column {column} (counted from 0) comes to {value}, beyond the range of {dtype}, at strength \
             {strength:e}; lower --strength"
        )));
    }
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
