//! A map file, put to use as it was measured or as the user says.

use std::path::Path;

use brenier::capture::{Comparison, Fact, Provenance, compare};
use brenier::eval::{Chosen, DifferenceInfo, InterventionInfo, MapRecord, MapUse, Policy};
use brenier::hooks::Edit;
use brenier::map::MapFile;
use brenier::map::container::read_whole;
use brenier::model::{ModelError, sha256};
use brenier::residual::{HookPoint, Site, Spec, TokenSet};
use serde_json::{Value, json};

use crate::args::MapArgs;
use crate::console::Console;
use crate::failure::usage_error;
use crate::input::shown;
use crate::select::Layers;
use crate::values::Date;

/// A map file that was opened, with what it says of itself.
pub struct OpenMap<'a> {
    path: &'a Path,
    pub file: MapFile,
    pub record: MapRecord,
    pub sha256: String,
}

impl<'a> OpenMap<'a> {
    pub fn read(path: &'a Path) -> anyhow::Result<Self> {
        // Read once: the hash is that of the maps that are used, and a FIFO has no second reading.
        let bytes = read_whole(path)?;
        let file = MapFile::from_bytes(&bytes, path)?;
        Ok(Self { record: MapRecord::read(&file, path)?, file, sha256: sha256(&bytes), path })
    }

    /// The strength that was asked for, else the recorded one.
    pub fn strength(&self, given: Option<f64>) -> Chosen<f64> {
        Chosen::of(given, self.record.strength, Policy::PLAIN.strength)
    }

    /// What differs from how the activations of the fit were made. What makes the map meaningless is refused unless it is
    /// allowed; the rest is said.
    pub fn compare(
        &self,
        name: &str,
        made: &Provenance,
        allow: bool,
        console: &Console,
    ) -> anyhow::Result<Comparison> {
        let found = compare(&[(&shown(self.path), &self.record.provenance), (name, made)]);
        if !allow {
            found.refuse(Fact::binds_maps)?;
        }
        for difference in &found.differences {
            console.warn(&difference.to_string());
        }
        Ok(found)
    }
}

/// The map of a run of the model, or none.
pub struct Intervention<'a> {
    args: &'a MapArgs,
    map: Option<OpenMap<'a>>,
}

impl<'a> Intervention<'a> {
    /// Opens the map file of the options.
    pub fn open(args: &'a MapArgs) -> anyhow::Result<Self> {
        Ok(Self { args, map: args.map.as_deref().map(OpenMap::read).transpose()? })
    }

    /// The date that the prompts of the fit were rendered with, where their template shows one.
    pub fn date(&self) -> anyhow::Result<Option<Date>> {
        let Some(map) = &self.map else { return Ok(None) };
        let date = map.record.provenance.get(Fact::Date).map(|text| {
            text.parse().map_err(|expected| {
                let (path, key, found) = (shown(map.path), Fact::Date, text.escape_debug());
                usage_error(format!("{path}: {expected} as `{key}` of its metadata, found `{found}`"))
            })
        });
        date.transpose()
    }

    /// The edits for a run whose activations are `made` so, and how they come about.
    pub fn edits(
        &self,
        spec: &Spec,
        made: impl FnOnce() -> Result<Provenance, ModelError>,
        console: &Console,
    ) -> anyhow::Result<(Vec<Edit>, Option<InterventionInfo>)> {
        let Some(map) = &self.map else { return Ok((Vec::new(), None)) };
        let found = map.compare("this run", &made()?, self.args.allow_mismatch, console)?;
        let strength = map.strength(self.args.strength);
        let tokens =
            Chosen::of(self.args.tokens.map(TokenSet::from), map.record.tokens, Policy::PLAIN.tokens);
        let edits: Vec<Edit> = self
            .places(map, spec)?
            .into_iter()
            .map(|(name, at)| {
                let map = map.file.entries[&name].map.clone();
                Edit { at, map, strength: strength.value, tokens: tokens.value }
            })
            .collect();
        let info = InterventionInfo::of(&edits).map(|info| InterventionInfo {
            map: Some(MapUse {
                map: shown(map.path),
                map_sha256: map.sha256.clone(),
                tokens: tokens.map(|tokens| tokens.to_string()),
                strength,
                differences: found.differences.iter().map(Into::into).collect(),
                unstated: Fact::ALL
                    .into_iter()
                    .filter(|&fact| fact.binds_maps() && map.record.provenance.get(fact).is_none())
                    .map(|fact| fact.to_string())
                    .collect(),
            }),
            ..info
        });
        Ok((edits, info))
    }

    /// Which entry acts where.
    ///
    /// Without `--layers`, or with `all`, every entry acts at the hook point it is named after. Otherwise those of the
    /// chosen layers do; a file's only entry is put at every layer asked for, wherever it was fitted.
    fn places(&self, map: &OpenMap<'_>, spec: &Spec) -> anyhow::Result<Vec<(String, HookPoint)>> {
        let path = shown(map.path);
        let named: Vec<(String, Option<HookPoint>)> =
            map.file.entries.keys().map(|name| (name.clone(), name.parse().ok())).collect();
        let hooked = named.iter().all(|(_, at)| at.is_some());
        let asked = self.args.layers.as_ref().filter(|layers: &&Layers| !(layers.is_all() && hooked));
        let Some(layers) = asked else {
            let place = |(name, at): (String, Option<HookPoint>)| match at {
                Some(at) if at.layer < spec.layers => Ok((name, at)),
                Some(at) => Err(usage_error(format!(
                    "{path}: entry `{name}` is for block {} (counted from 0), but the model has {} blocks; place it with \
                     --layers",
                    at.layer, spec.layers
                ))),
                None => Err(usage_error(format!(
                    "{path}: entry `{name}` names no place in a model; place it with --layers"
                ))),
            };
            return named.into_iter().map(place).collect();
        };
        let mut out = Vec::new();
        for layer in layers.of(spec.layers).map_err(usage_error)? {
            let before = out.len();
            let fitted = named.iter().filter(|(_, at)| at.is_some_and(|at| at.layer == layer));
            out.extend(fitted.filter_map(|(name, at)| Some((name.clone(), (*at)?))));
            match named.as_slice() {
                _ if out.len() > before => {}
                [(name, at)] => {
                    let site = at.map_or(Site::ResidPost, |at| at.site);
                    out.push((name.clone(), HookPoint { layer, site }));
                }
                _ => {
                    let have = named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                    return Err(usage_error(format!(
                        "{path} has no map for layer {layer} (counted from 0); it has {have}"
                    )));
                }
            }
        }
        Ok(out)
    }
}

/// An intervention, and why it is the one it is.
pub fn in_words(info: &InterventionInfo) -> String {
    match &info.map {
        Some(MapUse { map, tokens, strength, .. }) => {
            format!("{}\n{map}: tokens {tokens}, strength {strength}", info.edits)
        }
        None => info.edits.clone(),
    }
}

/// What differs, for results and metadata.
pub fn mismatch(found: &Comparison) -> Value {
    json!(found.differences.iter().map(DifferenceInfo::from).collect::<Vec<_>>())
}
