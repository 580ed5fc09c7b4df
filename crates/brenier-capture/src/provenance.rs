//! How activations were made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::CaptureError;

/// A fact of how activations were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fact {
    /// SHA-256 of the model's configuration and weights.
    Model,
    /// The model's architecture.
    Architecture,
    /// Number of the model's decoder blocks.
    Layers,
    /// SHA-256 of the chat template; `none` where prompts were put to the model without one.
    Template,
    /// The system message as JSON text; `null` where there was none.
    System,
    /// `true` where prompts went without the chat template, else `false`.
    Raw,
    /// The date that the template was rendered with, `2026-01-31T12:00:00`; only of templates that show it.
    Date,
    /// The tokens whose activations were kept, as [`Position`](crate::Position) is written.
    Position,
    /// The dtype that the model computed in.
    Dtype,
    /// What maps were in the forward pass, as JSON; not stated where there were none.
    Intervention,
    /// SHA-256 of the prompt file.
    Prompts,
    /// Version of the program.
    Version,
}

impl Fact {
    /// Every fact.
    pub const ALL: [Self; 12] = [
        Self::Model,
        Self::Architecture,
        Self::Layers,
        Self::Template,
        Self::System,
        Self::Raw,
        Self::Date,
        Self::Position,
        Self::Dtype,
        Self::Intervention,
        Self::Prompts,
        Self::Version,
    ];

    /// The fact's key in the metadata of a file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Model => "model.sha256",
            Self::Architecture => "model.architecture",
            Self::Layers => "model.layers",
            Self::Template => "template.sha256",
            Self::System => "prompts.system",
            Self::Raw => "prompts.raw",
            Self::Date => "prompts.date",
            Self::Position => "position",
            Self::Dtype => "model.dtype",
            Self::Intervention => "intervention",
            Self::Prompts => "prompts.sha256",
            Self::Version => "brenier.version",
        }
    }

    /// Whether two sets of activations in which it differs are of different kinds: all but the prompts themselves, the
    /// maps in the forward pass (a source whose earlier layers are mapped already has a target without) and the version
    /// of the program.
    #[must_use]
    pub fn is_compared(self) -> bool {
        !matches!(self, Self::Intervention | Self::Prompts | Self::Version)
    }

    /// Whether a map means nothing where it differs: the model, and how prompts are put to it. The rest (position, dtype
    /// and date) is worth a remark.
    #[must_use]
    pub fn binds_maps(self) -> bool {
        self.is_compared() && !matches!(self, Self::Position | Self::Dtype | Self::Date)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// How activations were made, as far as it is known: the strings that activation files and map files hold of it.
///
/// ```
/// use brenier_capture::{Fact, Provenance, compare};
///
/// let mut source = Provenance::default();
/// source.state(Fact::Dtype, "f32").state(Fact::Position, "last");
/// let mut target = source.clone();
/// target.state(Fact::Dtype, "bf16");
///
/// let found = compare(&[("source", &source), ("target", &target)]);
/// assert_eq!(found.differences[0].to_string(), "model.dtype is `f32` in source and `bf16` in target");
/// assert_eq!(found.agreed.get(Fact::Position), Some("last"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance(BTreeMap<Fact, String>);

impl Provenance {
    /// What the metadata of a file states.
    #[must_use]
    pub fn read(metadata: &BTreeMap<String, String>) -> Self {
        let stated = |fact: Fact| Some((fact, metadata.get(fact.key())?.clone()));
        Self(Fact::ALL.into_iter().filter_map(stated).collect())
    }

    /// Writes what is stated into the metadata of a file.
    pub fn write(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.extend(self.0.iter().map(|(fact, value)| (fact.key().to_owned(), value.clone())));
    }

    /// States a fact.
    pub fn state(&mut self, fact: Fact, value: impl Into<String>) -> &mut Self {
        self.0.insert(fact, value.into());
        self
    }

    /// States the system message, or that there is none.
    pub fn state_system(&mut self, system: Option<&str>) -> &mut Self {
        self.state(Fact::System, serde_json::json!(system).to_string())
    }

    /// A fact, where it is stated.
    #[must_use]
    pub fn get(&self, fact: Fact) -> Option<&str> {
        self.0.get(&fact).map(String::as_str)
    }

    /// The system message, where one is stated.
    #[must_use]
    pub fn system(&self) -> Option<String> {
        serde_json::from_str(self.get(Fact::System)?).ok()?
    }
}

/// A fact on which things that were to be made alike differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The fact.
    pub fact: Fact,
    /// Everything that states it, by name, with its value.
    pub values: Vec<(String, String)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is ", self.fact)?;
        for (i, (name, value)) in self.values.iter().enumerate() {
            let between = match i {
                0 => "",
                i if i + 1 == self.values.len() => " and ",
                _ => ", ",
            };
            write!(f, "{between}`{}` in {name}", value.escape_debug())?;
        }
        Ok(())
    }
}

/// What a comparison of several [`Provenance`]s found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What is stated, by the first that states it.
    pub agreed: Provenance,
    /// What is stated differently.
    pub differences: Vec<Difference>,
    /// What some state and others do not: the fact, and the names of those that do not.
    pub unstated: Vec<(Fact, Vec<String>)>,
}

impl Comparison {
    /// Refuses the differences that `matters` says are too much.
    ///
    /// # Errors
    /// [`CaptureError::Mismatch`] names them all, with their values.
    pub fn refuse(&self, matters: impl Fn(Fact) -> bool) -> Result<(), CaptureError> {
        let of: Vec<String> = self
            .differences
            .iter()
            .filter(|difference| matters(difference.fact))
            .map(ToString::to_string)
            .collect();
        if of.is_empty() { Ok(()) } else { Err(CaptureError::Mismatch { differences: of.join("; ") }) }
    }
}

/// Compares how several things were made, each with its name for messages.
///
/// What is stated more than once has to be the same everywhere; what only some state is passed on.
#[must_use]
pub fn compare(made: &[(&str, &Provenance)]) -> Comparison {
    let mut found = Comparison::default();
    for fact in Fact::ALL.into_iter().filter(|fact| fact.is_compared()) {
        let values: Vec<(&str, &str)> =
            made.iter().filter_map(|(name, of)| Some((*name, of.get(fact)?))).collect();
        let Some((_, first)) = values.first() else { continue };
        found.agreed.state(fact, *first);
        if values.iter().any(|(_, value)| value != first) {
            let values = values.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
            found.differences.push(Difference { fact, values: values.collect() });
        }
        let silent: BTreeSet<&str> =
            made.iter().filter(|(_, of)| of.get(fact).is_none()).map(|(name, _)| *name).collect();
        if !silent.is_empty() {
            found.unstated.push((fact, silent.into_iter().map(str::to_owned).collect()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(facts: &[(Fact, &str)]) -> Provenance {
        let mut made = Provenance::default();
        for &(fact, value) in facts {
            made.state(fact, value);
        }
        made
    }

    #[test]
    fn metadata_round_trips_and_keeps_what_is_not_ours() {
        let mut all = Provenance::default();
        for fact in Fact::ALL {
            all.state(fact, format!("{fact:?}"));
        }
        let mut metadata = BTreeMap::from([("mine".to_owned(), "kept".to_owned())]);
        all.write(&mut metadata);
        assert_eq!(metadata.len(), 1 + Fact::ALL.len());
        assert_eq!(Provenance::read(&metadata), all);
        assert_eq!(Provenance::read(&BTreeMap::new()), Provenance::default());
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        for fact in Fact::ALL {
            let (a, b) = (made(&[(fact, "one")]), made(&[(fact, "two")]));
            let found = compare(&[("a", &a), ("b", &b)]);
            let refused = found.refuse(|_| true);
            if fact.is_compared() {
                let text = refused.unwrap_err().to_string();
                for part in [fact.key(), "`one` in a", "`two` in b"] {
                    assert!(text.contains(part), "{text}");
                }
            } else {
                assert!(refused.is_ok() && found == Comparison::default(), "{fact}");
            }
        }
    }

    #[test]
    fn what_one_side_states_is_passed_on_and_said() {
        let stated = made(&[(Fact::Model, "m"), (Fact::Raw, "false")]);
        let partly = made(&[(Fact::Raw, "false")]);
        let found = compare(&[("a", &partly), ("b", &stated), ("c", &Provenance::default())]);
        assert!(found.differences.is_empty());
        assert_eq!(found.agreed, stated);
        let silent = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(found.unstated, [(Fact::Model, silent(&["a", "c"])), (Fact::Raw, silent(&["c"]))]);
    }

    #[test]
    fn no_system_message_is_not_an_empty_one() {
        let system = |text| {
            let mut made = Provenance::default();
            made.state_system(text);
            made
        };
        assert_eq!(compare(&[("a", &system(None)), ("b", &system(Some("")))]).differences.len(), 1);
        let difference = compare(&[("a", &system(None)), ("b", &system(Some("Be\nkind.")))]);
        let text = difference.differences[0].to_string();
        assert!(!text.contains('\n') && text.contains("`null` in a"), "{text}");
    }

    #[test]
    fn a_remark_is_no_refusal() {
        let (a, b) = (made(&[(Fact::Dtype, "f32")]), made(&[(Fact::Dtype, "bf16")]));
        let found = compare(&[("a", &a), ("b", &b)]);
        assert!(found.refuse(Fact::binds_maps).is_ok() && found.refuse(|_| true).is_err());
    }
}
