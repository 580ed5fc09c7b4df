//! Where maps act, on which tokens and how strongly: as they were measured, or otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use brenier_capture::{Difference, Provenance};
use brenier_hooks::Edit;
use brenier_map::MapFile;
use brenier_residual::{HookPoint, Site, TokenSet};
use brenier_transport::Method;

use crate::{Chosen, DifferenceInfo, EvalError, InterventionInfo, Origin};

/// The places at which a projection acts, in every block.
const PROJECTED: [Site; 3] = [Site::ResidPre, Site::AttnOut, Site::MlpOut];

/// On which tokens a map acts, and how strongly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// The tokens.
    pub tokens: TokenSet,
    /// 0 is off, 1 the fitted map.
    pub strength: f64,
}

impl Policy {
    /// The last token of the prompt, where maps are fitted, and what follows it; the map as it is.
    pub const PLAIN: Self = Self { tokens: TokenSet::LastAndGenerated, strength: 1.0 };
    /// Every token; the map as it is.
    pub const ALL: Self = Self { tokens: TokenSet::All, strength: 1.0 };

    /// How a method is meant to act where nothing else is said: RFA on every token, as it is published, the others
    /// where they are fitted and on what follows.
    #[must_use]
    pub fn of(method: Method) -> Self {
        if method == Method::Rfa { Self::ALL } else { Self::PLAIN }
    }
}

/// Where a map acts that was fitted at `fitted`, in a model of `layers` blocks.
///
/// RFA takes its one direction out of everything that is written to the stream or read from it: at every block input,
/// attention output and feed-forward output. Every other map acts on the activations that it was fitted on.
///
/// Reference: A. Arditi et al., "Refusal in language models is mediated by a single direction", 2024, section 2.4.
#[must_use]
pub fn places(method: Method, fitted: HookPoint, layers: u16) -> Vec<HookPoint> {
    if method == Method::Rfa {
        (0..layers).flat_map(|layer| PROJECTED.map(|site| HookPoint { layer, site })).collect()
    } else {
        vec![fitted]
    }
}

/// What a map file says of its maps: how the activations of the fit were made, and how the maps were measured.
///
/// ```
/// use brenier_capture::Fact;
/// use brenier_eval::{MapRecord, Policy};
/// use brenier_map::MapFile;
///
/// let mut record = MapRecord::from(Policy { strength: 1.25, ..Policy::PLAIN });
/// record.provenance.state(Fact::Position, "last");
/// let mut file = MapFile::default();
/// record.write(&mut file.metadata);
/// assert_eq!(file.metadata["tokens"], "last+generated");
/// assert_eq!(MapRecord::read(&file, "map.safetensors".as_ref())?, record);
/// # Ok::<(), brenier_eval::EvalError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MapRecord {
    /// How the activations were made.
    pub provenance: Provenance,
    /// The tokens acted on.
    pub tokens: Option<TokenSet>,
    /// The strength.
    pub strength: Option<f64>,
    /// The tensor that the map was fitted on, where it acts elsewhere. Then all entries of the file are this one map.
    pub fitted_at: Option<String>,
}

impl From<Policy> for MapRecord {
    fn from(policy: Policy) -> Self {
        Self { tokens: Some(policy.tokens), strength: Some(policy.strength), ..Self::default() }
    }
}

const TOKENS: &str = "tokens";
const STRENGTH: &str = "strength";
const FITTED_AT: &str = "fitted_at";

impl MapRecord {
    /// Reads what a file says; `path` is what errors call it.
    ///
    /// # Errors
    /// Tokens or a strength that are none.
    pub fn read(file: &MapFile, path: &Path) -> Result<Self, EvalError> {
        let metadata = &file.metadata;
        let wrong = |key: &str, expected: &str, found: &str| EvalError::Content {
            path: path.to_owned(),
            expected: format!("{expected} as `{key}` of its metadata"),
            found: format!("`{}`", found.escape_debug()),
        };
        let tokens = metadata.get(TOKENS).map(|text| {
            text.parse().map_err(|_| wrong(TOKENS, &TokenSet::ALL.map(TokenSet::name).join(", "), text))
        });
        let strength = metadata.get(STRENGTH).map(|text| {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| wrong(STRENGTH, "a finite number", text))
        });
        Ok(Self {
            provenance: Provenance::read(metadata),
            tokens: tokens.transpose()?,
            strength: strength.transpose()?,
            fitted_at: metadata.get(FITTED_AT).cloned(),
        })
    }

    /// Writes it into the metadata of a file.
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) {
        self.provenance.write(metadata);
        let facts = [
            (TOKENS, self.tokens.map(|tokens| tokens.to_string())),
            (STRENGTH, self.strength.map(|strength| strength.to_string())),
            (FITTED_AT, self.fitted_at.clone()),
        ];
        metadata.extend(facts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    }
}

impl<T: Clone> Chosen<T> {
    /// What is given, else what is recorded, else `default`.
    #[must_use]
    pub fn of(given: Option<T>, recorded: Option<T>, default: T) -> Self {
        let (value, from) = match (given, &recorded) {
            (Some(given), _) => (given, Origin::Given),
            (None, Some(recorded)) => (recorded.clone(), Origin::Recorded),
            (None, None) => (default, Origin::Default),
        };
        Self { value, from, recorded }
    }

    /// Applies a function to the value and to the recorded one.
    pub fn map<U>(self, mut to: impl FnMut(T) -> U) -> Chosen<U> {
        Chosen { value: to(self.value), from: self.from, recorded: self.recorded.map(to) }
    }
}

impl<T: fmt::Display> fmt::Display for Chosen<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, &self.recorded) {
            (Origin::Given, Some(recorded)) => write!(f, "{} (given; {recorded} is recorded)", self.value),
            (Origin::Given, None) => write!(f, "{} (given)", self.value),
            (Origin::Recorded, _) => write!(f, "{} (recorded)", self.value),
            (Origin::Default, _) => write!(f, "{} (the default)", self.value),
        }
    }
}

impl InterventionInfo {
    /// Edits in words; `None` where there are none.
    #[must_use]
    pub fn of(edits: &[Edit]) -> Option<Self> {
        let one =
            |edit: &Edit| format!("{} at strength {} on {} tokens", edit.at, edit.strength, edit.tokens);
        let edits = match edits {
            [] => return None,
            [first, .., last] if edits.len() > 4 => {
                format!("{} edits, from {} to {}", edits.len(), one(first), one(last))
            }
            few => few.iter().map(one).collect::<Vec<_>>().join("; "),
        };
        Some(Self { edits, map: None })
    }
}

impl From<&Difference> for DifferenceInfo {
    fn from(difference: &Difference) -> Self {
        Self { fact: difference.fact.to_string(), values: difference.values.iter().cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_badly_is_refused() {
        for (key, value) in [
            ("tokens", "some"),
            ("tokens", ""),
            ("strength", "NaN"),
            ("strength", "1e999"),
            ("strength", "x"),
        ] {
            let mut file = MapFile::default();
            file.metadata.insert(key.to_owned(), value.to_owned());
            let text = MapRecord::read(&file, Path::new("m")).unwrap_err().to_string();
            assert!(text.contains(&format!("`{key}`")) && text.contains(&format!("`{value}`")), "{text}");
        }
        assert_eq!(MapRecord::read(&MapFile::default(), Path::new("m")).unwrap(), MapRecord::default());
    }

    #[test]
    fn a_projection_acts_everywhere_and_others_where_they_are_fitted() {
        let fitted = HookPoint::resid_post(1);
        assert_eq!(places(Method::Ace, fitted, 2), [fitted]);
        let names: Vec<String> = places(Method::Rfa, fitted, 2).iter().map(ToString::to_string).collect();
        let block =
            |l: u16| ["resid_pre", "attn_out", "mlp_out"].map(|site| format!("blocks.{l}.hook_{site}"));
        assert_eq!(names, [block(0), block(1)].concat());
        assert_eq!((Policy::of(Method::Rfa), Policy::of(Method::Gated)), (Policy::ALL, Policy::PLAIN));
    }
}
