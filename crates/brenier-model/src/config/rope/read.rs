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
/// That of Gemma 3's layers without a window.
const GLOBAL_THETA: f64 = 1_000_000.0;

/// What a family takes of rotary settings.
pub(crate) struct RopeRules {
    /// `partial_rotary_factor` may be other than 1.
    pub partial: bool,
    /// `original_max_position_embeddings` beside the rope where the file does not give it.
    pub original_context: Option<usize>,
    /// The names of rope types.
    pub types: &'static [(&'static str, RopeType)],
}

/// Which settings a rope type has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RopeType {
    Default,
    Linear,
    Dynamic,
    Yarn,
    Llama3,
    LongRope,
}

impl Default for RopeRules {
    fn default() -> Self {
        Self {
            partial: false,
            original_context: None,
            types: &[
                ("default", RopeType::Default),
                ("linear", RopeType::Linear),
                ("dynamic", RopeType::Dynamic),
                ("yarn", RopeType::Yarn),
                ("llama3", RopeType::Llama3),
                ("longrope", RopeType::LongRope),
            ],
        }
    }
}

/// The one rope of all layers.
pub(crate) fn rope(fields: &Fields<'_>, context: usize, rules: &RopeRules) -> Result<Rope, ModelError> {
    let original_context = fields.size("original_max_position_embeddings")?.or(rules.original_context);
    let outer = Outer { original_context, ..Outer::new(fields, context, rules, "rope_theta", THETA)? };
    let read = |name| -> Result<Option<Rope>, ModelError> {
        match fields.object(name)? {
            Some(table) if !table.is_empty() => outer.table_of_layers(&table).map(Some),
            _ => Ok(None),
        }
    };
    match (read("rope_scaling")?, read("rope_parameters")?) {
        (None, None) => outer.plain(fields),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        (Some(scaling), Some(parameters)) => {
            if scaling != parameters {
                fields.warn(&format!(
                    "`rope_scaling` says {scaling}, `rope_parameters` {parameters}; the former is used, as in \
                     transformers"
                ));
            }
            Ok(scaling)
        }
    }
}

/// The ropes of layers with full attention and of layers with a window, where these differ (Gemma 3): `rope_theta` with
/// `rope_scaling` and `rope_local_base_freq`, or a table for each kind in `rope_parameters`.
pub(crate) fn ropes_by_kind(fields: &Fields<'_>, context: usize) -> Result<(Rope, Rope), ModelError> {
    let rules = RopeRules::default();
    let global = Outer::new(fields, context, &rules, "rope_theta", GLOBAL_THETA)?;
    let local = Outer::new(fields, context, &rules, "rope_local_base_freq", THETA)?;
    let scaling = fields.object("rope_scaling")?.filter(|table| !table.is_empty());
    let scaled = scaling.as_ref().map(|table| global.table(table)).transpose()?;
    let Some(tables) = fields.object("rope_parameters")?.filter(|table| !table.is_empty()) else {
        return Ok((scaled.map_or_else(|| global.plain(fields), Ok)?, local.plain(fields)?));
    };
    let entry = |name, outer: &Outer<'_>| -> Result<Rope, ModelError> {
        match tables.object(name)? {
            Some(table) => outer.table(&table),
            None => outer.plain(fields),
        }
    };
    let (full, sliding) = (entry("full_attention", &global)?, entry("sliding_attention", &local)?);
    if let Some((name, value)) = tables.unread().first() {
        let expected = "only full_attention and sliding_attention, each with its settings";
        return Err(tables.wrong(name, expected, &kind(value)));
    }
    match scaled.filter(|scaled| *scaled != full) {
        Some(scaled) => Err(fields.contradiction(
            format!("`rope_scaling` says {scaled}"),
            format!("`rope_parameters.full_attention` says {full}"),
        )),
        None => Ok((full, sliding)),
    }
}

/// What stands outside of the rope object.
struct Outer<'a> {
    rules: &'a RopeRules,
    theta_name: &'static str,
    theta: Option<f64>,
    no_theta: bool,
    default_theta: f64,
    partial: Option<f64>,
    original_context: Option<usize>,
    context: usize,
}

impl<'a> Outer<'a> {
    fn new(
        fields: &Fields<'_>,
        context: usize,
        rules: &'a RopeRules,
        theta_name: &'static str,
        default_theta: f64,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            rules,
            theta_name,
            theta: fields.number(theta_name)?,
            no_theta: fields.is_null(theta_name),
            default_theta,
            partial: partial(fields, rules)?,
            original_context: None,
            context,
        })
    }

    /// The rope where there is no object.
    fn plain(&self, fields: &Fields<'_>) -> Result<Rope, ModelError> {
        let (theta, partial) = (self.theta_for(fields)?, self.partial.unwrap_or(1.0));
        Ok(Rope { theta, partial, scaling: RopeScaling::Default })
    }

    /// The base for an object that gives none. Where the file says `null`, nothing is taken for granted.
    fn theta_for(&self, fields: &Fields<'_>) -> Result<f64, ModelError> {
        if self.theta.is_none() && self.no_theta {
            return Err(fields.wrong(self.theta_name, "a positive number", "null"));
        }
        Ok(self.theta.unwrap_or(self.default_theta))
    }

    /// An object of settings, or one such object for each type of layer. Here all layers have one rope; what is said of
    /// the types must not differ from that.
    fn table_of_layers(&self, table: &Fields<'_>) -> Result<Rope, ModelError> {
        let (types, settings): (Vec<_>, Vec<_>) =
            table.unread().into_iter().partition(|(_, value)| value.is_object());
        let types: Vec<&str> = types.into_iter().map(|(name, _)| name).collect();
        let Some(first) = types.first() else { return self.table(table) };
        if !settings.is_empty() {
            return Err(table.wrong(first, "no object beside other settings", "an object"));
        }
        let mut full: Option<(&str, Rope)> = None;
        for &name in &types {
            let Some(entry) = table.object(name)? else { continue };
            let rope = self.table(&entry)?;
            match &full {
                Some((first, other)) if *other != rope => {
                    return Err(table.contradiction(
                        format!("`{}` is {other}", table.full(first)),
                        format!("`{}` is {rope}", table.full(name)),
                    ));
                }
                _ => full = Some((name, rope)),
            }
        }
        match full {
            Some((_, rope)) if types.contains(&"full_attention") => {
                let name = table.full("full_attention");
                table.warn(&format!(
                    "`{name}` is {rope}; it is used, where transformers reads no table of layer types for this \
                     architecture"
                ));
                Ok(rope)
            }
            _ => Err(table.wrong("full_attention", "the settings of layers with full attention", "nothing")),
        }
    }

    fn table(&self, table: &Fields<'_>) -> Result<Rope, ModelError> {
        let partial = match (partial(table, self.rules)?, self.partial) {
            (Some(inside), outside) => {
                if let Some(outside) = outside.filter(|&outside| outside != inside) {
                    let name = table.full("partial_rotary_factor");
                    table.warn(&format!(
                        "`{name}` is {inside}, `partial_rotary_factor` {outside}; the former is used, as in transformers"
                    ));
                }
                inside
            }
            (None, outside) => outside.unwrap_or(1.0),
        };
        let theta = match table.number("rope_theta")? {
            Some(theta) => {
                if let Some(other) = self.theta.filter(|&other| other != theta) {
                    let (inside, outside) = (table.full("rope_theta"), self.theta_name);
                    table.warn(&format!(
                        "`{inside}` is {theta}, `{outside}` {other}; the former is used, as in transformers"
                    ));
                }
                theta
            }
            None if table.is_null("rope_theta") => {
                return Err(table.wrong("rope_theta", "a positive number", "null"));
            }
            None => self.theta_for(table)?,
        };
        let (newer, older) = (table.string("rope_type")?, table.string("type")?);
        if let (Some(newer), Some(older)) = (newer, older)
            && newer != older
        {
            let (newer_name, older_name) = (table.full("rope_type"), table.full("type"));
            table.warn(&format!(
                "`{newer_name}` is {newer}, `{older_name}` {older}; the former is used, as in transformers"
            ));
        }
        let name = newer.or(older).unwrap_or("default");
        let Some((_, kind_of)) = self.rules.types.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = self.rules.types.iter().map(|(name, _)| *name).collect();
            return Err(table.wrong("rope_type", &format!("one of {}", known.join(", ")), name));
        };
        let scaling = self.scaling(table, *kind_of)?;
        match table.unread().first() {
            Some((setting, value)) => {
                let expected = format!("no such setting in rope type {name}");
                Err(table.wrong(setting, &expected, &kind(value)))
            }
            None => Ok(Rope { theta, partial, scaling }),
        }
    }

    fn scaling(&self, table: &Fields<'_>, kind: RopeType) -> Result<RopeScaling, ModelError> {
        Ok(match kind {
            RopeType::Default => RopeScaling::Default,
            RopeType::Linear => RopeScaling::Linear { factor: table.required_number("factor")? },
            RopeType::Dynamic => RopeScaling::Dynamic {
                factor: table.required_number("factor")?,
                original_context: self.context,
            },
            RopeType::Llama3 => RopeScaling::Llama3 {
                factor: table.required_number("factor")?,
                low_freq_factor: table.required_number("low_freq_factor")?,
                high_freq_factor: table.required_number("high_freq_factor")?,
                original_context: self.original_context(table)?,
            },
            RopeType::Yarn => self.yarn(table)?,
            RopeType::LongRope => {
                let original_context = self.original_context(table)?;
                let factor = self.factor(table, original_context)?;
                // The square root of 1 + log_original(factor).
                let default = if factor <= 1.0 {
                    1.0
                } else {
                    (1.0 + factor.ln() / (original_context as f64).ln()).sqrt()
                };
                RopeScaling::LongRope {
                    short: factors(table, "short_factor")?,
                    long: factors(table, "long_factor")?,
                    attention_factor: attention_factor(table, default)?,
                    original_context,
                }
            }
        })
    }

    fn yarn(&self, table: &Fields<'_>) -> Result<RopeScaling, ModelError> {
        let original_context = self.original_context(table)?;
        let factor = self.factor(table, original_context)?;
        let scale = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        let given = |name| table.number(name).map(|number| number.filter(|&number| number != 0.0));
        let default = match (given("mscale")?, given("mscale_all_dim")?) {
            (Some(of_scores), Some(of_all)) => scale(of_scores) / scale(of_all),
            _ => scale(1.0),
        };
        let (beta_fast, beta_slow) =
            (given("beta_fast")?.unwrap_or(32.0), given("beta_slow")?.unwrap_or(1.0));
        for (name, beta) in [("beta_fast", beta_fast), ("beta_slow", beta_slow)] {
            if beta <= 0.0 {
                return Err(table.wrong(name, "a positive number", &beta.to_string()));
            }
        }
        Ok(RopeScaling::Yarn {
            factor,
            original_context,
            attention_factor: attention_factor(table, default)?,
            beta_fast,
            beta_slow,
            truncate: table.flag("truncate")?.unwrap_or(true),
        })
    }

    /// `factor`, or the ratio of the contexts.
    fn factor(&self, table: &Fields<'_>, original_context: usize) -> Result<f64, ModelError> {
        match table.value("factor") {
            Some(_) => table.required_number("factor"),
            None => Ok(self.context as f64 / original_context as f64),
        }
    }

    fn original_context(&self, table: &Fields<'_>) -> Result<usize, ModelError> {
        const NAME: &str = "original_max_position_embeddings";
        let inside = table.size(NAME)?;
        let full = table.full(NAME);
        let tokens = match (self.original_context, inside) {
            (Some(outside), Some(inside)) if outside != inside => {
                table.warn(&format!(
                    "`{NAME}` is {outside}, `{full}` {inside}; the former is used, as in transformers"
                ));
                outside
            }
            (Some(given), _) | (None, Some(given)) => given,
            (None, None) => {
                let context = self.context;
                table.warn(&format!(
                    "`{full}` is not given; max_position_embeddings = {context} is used, as in transformers"
                ));
                context
            }
        };
        if tokens == 0 {
            return Err(table.wrong(NAME, "a positive number", "0"));
        }
        Ok(tokens)
    }
}

fn partial(fields: &Fields<'_>, rules: &RopeRules) -> Result<Option<f64>, ModelError> {
    let partial = fields.number("partial_rotary_factor")?;
    match partial.filter(|&part| !rules.partial && part != 1.0) {
        Some(part) => Err(fields.wrong("partial_rotary_factor", "1", &part.to_string())),
        None => Ok(partial),
    }
}

fn attention_factor(table: &Fields<'_>, default: f64) -> Result<f64, ModelError> {
    match table.value("attention_factor") {
        Some(_) => table.required_number("attention_factor"),
        None => Ok(default),
    }
}

/// Positive numbers, one a frequency.
fn factors(table: &Fields<'_>, name: &str) -> Result<Vec<f64>, ModelError> {
    let Some(value) = table.value(name) else {
        return Err(table.wrong(name, "a list of positive numbers", "nothing"));
    };
    let positive = |value: &serde_json::Value| value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
    let list = value.as_array().and_then(|list| list.iter().map(positive).collect());
    list.ok_or_else(|| table.wrong(name, "a list of positive numbers", &kind(value)))
}
