//! The rotary settings of config.json, in every spelling in use.
//!
//! The precedence is that of transformers (`RotaryEmbeddingConfigMixin`): a `rope_scaling` that is not empty replaces
//! `rope_parameters`; inside either, `rope_type` comes before `type` and `rope_theta` before the one outside; but
//! `original_max_position_embeddings` outside comes before the one inside. Statements that lose against another are
//! warned of.

use super::{Rope, RopeScaling};
use crate::error::ModelError;
use crate::fields::{Fields, kind};

/// The base of the frequencies where nothing gives one.
const THETA: f64 = 10_000.0;

pub(super) fn rope(fields: &Fields<'_>, context: usize) -> Result<Rope, ModelError> {
    refuse_partial(fields)?;
    let outer = Outer {
        theta: fields.number("rope_theta")?,
        no_theta: fields.is_null("rope_theta"),
        original_context: fields.size("original_max_position_embeddings")?,
        context,
    };
    let read = |name| -> Result<Option<Rope>, ModelError> {
        match fields.object(name)? {
            Some(table) if !table.is_empty() => table_of_layers(&table, &outer).map(Some),
            _ => Ok(None),
        }
    };
    match (read("rope_scaling")?, read("rope_parameters")?) {
        (None, None) => Ok(Rope { theta: outer.theta_for(fields)?, scaling: RopeScaling::Default }),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (Some(scaling), Some(parameters)) => {
            if scaling != parameters {
                fields.warn(&format!(
                    "`rope_scaling` says {}, `rope_parameters` {}; the former is used, as in transformers",
                    described(&scaling),
                    described(&parameters)
                ));
            }
            Ok(scaling)
        }
    }
}

/// What stands outside of the rope object.
struct Outer {
    theta: Option<f64>,
    no_theta: bool,
    original_context: Option<usize>,
    context: usize,
}

impl Outer {
    /// The base for an object that gives none. Where the file says `null`, nothing is taken for granted.
    fn theta_for(&self, fields: &Fields<'_>) -> Result<f64, ModelError> {
        if self.theta.is_none() && self.no_theta {
            return Err(fields.wrong("rope_theta", "a positive number", "null"));
        }
        Ok(self.theta.unwrap_or(THETA))
    }
}

/// An object of settings, or one such object for each type of layer. Here all layers have full attention; what is
/// said of others must not differ from that.
fn table_of_layers(table: &Fields<'_>, outer: &Outer) -> Result<Rope, ModelError> {
    let (types, settings): (Vec<_>, Vec<_>) =
        table.unread().into_iter().partition(|(_, value)| value.is_object());
    let types: Vec<&str> = types.into_iter().map(|(name, _)| name).collect();
    let Some(first) = types.first() else { return one_table(table, outer) };
    if !settings.is_empty() {
        return Err(table.wrong(first, "no object beside other settings", "an object"));
    }
    let mut full = None;
    for name in &types {
        let Some(entry) = table.object(name)? else { continue };
        let rope = one_table(&entry, outer)?;
        match full {
            Some((first, other)) if other != rope => {
                return Err(table.contradiction(
                    format!("`{}` is {}", table.full(first), described(&other)),
                    format!("`{}` is {}", table.full(name), described(&rope)),
                ));
            }
            _ => full = Some((name, rope)),
        }
    }
    match full {
        Some((_, rope)) if types.contains(&"full_attention") => {
            let name = table.full("full_attention");
            table.warn(&format!(
                "`{name}` is {}; it is used, where transformers reads no table of layer types for this architecture",
                described(&rope)
            ));
            Ok(rope)
        }
        _ => Err(table.wrong("full_attention", "the settings of layers with full attention", "nothing")),
    }
}

fn one_table(table: &Fields<'_>, outer: &Outer) -> Result<Rope, ModelError> {
    refuse_partial(table)?;
    let theta = match table.number("rope_theta")? {
        Some(theta) => {
            if let Some(other) = outer.theta.filter(|&other| other != theta) {
                let inside = table.full("rope_theta");
                table.warn(&format!(
                    "`{inside}` is {theta}, `rope_theta` {other}; the former is used, as in transformers"
                ));
            }
            theta
        }
        None if table.is_null("rope_theta") => {
            return Err(table.wrong("rope_theta", "a positive number", "null"));
        }
        None => outer.theta_for(table)?,
    };
    let (rope_type, older) = (table.string("rope_type")?, table.string("type")?);
    if let (Some(newer), Some(older)) = (rope_type, older)
        && newer != older
    {
        let (newer_name, older_name) = (table.full("rope_type"), table.full("type"));
        table.warn(&format!(
            "`{newer_name}` is {newer}, `{older_name}` {older}; the former is used, as in transformers"
        ));
    }
    let rope_type = rope_type.or(older).unwrap_or("default");
    let scaling = match rope_type {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor: table.required_number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: table.required_number("factor")?,
            low_freq_factor: table.required_number("low_freq_factor")?,
            high_freq_factor: table.required_number("high_freq_factor")?,
            original_context: original_context(table, outer)?,
        },
        other => return Err(table.wrong("rope_type", "default, linear or llama3", other)),
    };
    match table.unread().first() {
        Some((name, value)) => {
            let expected = format!("no such setting in rope type {rope_type}");
            Err(table.wrong(name, &expected, &kind(value)))
        }
        None => Ok(Rope { theta, scaling }),
    }
}

fn original_context(table: &Fields<'_>, outer: &Outer) -> Result<usize, ModelError> {
    const NAME: &str = "original_max_position_embeddings";
    let inside = table.size(NAME)?;
    let full = table.full(NAME);
    match (outer.original_context, inside) {
        (Some(outside), Some(inside)) if outside != inside => {
            table.warn(&format!(
                "`{NAME}` is {outside}, `{full}` {inside}; the former is used, as in transformers"
            ));
            Ok(outside)
        }
        (Some(given), _) | (None, Some(given)) => Ok(given),
        (None, None) => {
            let context = outer.context;
            table.warn(&format!(
                "`{full}` is not given; max_position_embeddings = {context} is used, as in transformers"
            ));
            Ok(context)
        }
    }
}

fn refuse_partial(fields: &Fields<'_>) -> Result<(), ModelError> {
    match fields.number("partial_rotary_factor")?.filter(|&part| part != 1.0) {
        Some(part) => Err(fields.wrong("partial_rotary_factor", "1", &part.to_string())),
        None => Ok(()),
    }
}

fn described(rope: &Rope) -> String {
    let theta = rope.theta;
    match rope.scaling {
        RopeScaling::Default => format!("theta {theta} without scaling"),
        RopeScaling::Linear { factor } => format!("theta {theta}, linear scaling by {factor}"),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => format!(
            "theta {theta}, llama3 scaling by {factor} ({low_freq_factor} to {high_freq_factor}, from \
             {original_context} tokens)"
        ),
    }
}
