//! Every map that could be chosen: methods x layers x components.

use std::collections::{BTreeMap, BTreeSet};

use brenier_capture::{Activations, CaptureError, Position, Request, capture};
use brenier_hooks::Edit;
use brenier_residual::HookPoint;
use brenier_transport::{Fit, FitOptions, Method, Shift, fit};
use faer::Mat;
use rayon::prelude::*;

use super::Run;
pub(super) use crate::Policy as Use;
use crate::{EvalError, Outcome, Progress, Setting, SweepPoint, places, to_json};

/// A map, where it was fitted.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub method: Method,
    pub layer: u16,
    pub components: Option<usize>,
    pub fit: Fit,
}

/// Activations of one layer, in f64.
pub(super) struct LayerRows {
    pub layer: u16,
    pub source: Mat<f64>,
    pub target: Mat<f64>,
    pub source_val: Mat<f64>,
    pub target_val: Mat<f64>,
}

/// The rows of `layer` in a set of captured activations.
fn rows_of(activations: &Activations, layer: u16) -> Result<Mat<f64>, EvalError> {
    let name = HookPoint::resid_post(layer).to_string();
    let rows = activations.tensors.get(&name).ok_or_else(|| EvalError::Setting {
        name: "layers",
        expected: "layers of the model".to_owned(),
        found: name,
    })?;
    Ok(Mat::from(&rows.to_f64()))
}

impl Run<'_> {
    /// Activations of train and validation at the last token of each prompt.
    pub fn capture(&self, layers: &[u16], progress: &mut dyn Progress) -> Result<Vec<LayerRows>, EvalError> {
        let request = Request {
            points: layers.iter().map(|&layer| HookPoint::resid_post(layer)).collect(),
            logits: false,
            position: Position::Last,
            batch: self.options.batch,
            ..Request::default()
        };
        let (source, target) = (&self.prepared.source, &self.prepared.target);
        let splits = [&source.train, &target.train, &source.val, &target.val];
        progress.stage("capturing", splits.iter().map(|split| split.ids.len()).sum());
        let mut captured = Vec::new();
        for split in splits {
            let advance = &mut |n| progress.advance(n);
            let found = capture(self.model(), &split.ids, &request, &mut (), advance);
            captured.push(found.map_err(|error| match error {
                CaptureError::NotFinite { prompt, token, overflow, .. } => {
                    EvalError::Overflow { what: split.what, index: prompt, token, overflow }
                }
                other => other.into(),
            })?);
        }
        let [source, target, source_val, target_val] = captured.as_slice() else { return Ok(Vec::new()) };
        let rows = |&layer: &u16| {
            Ok(LayerRows {
                layer,
                source: rows_of(source, layer)?,
                target: rows_of(target, layer)?,
                source_val: rows_of(source_val, layer)?,
                target_val: rows_of(target_val, layer)?,
            })
        };
        layers.iter().map(rows).collect()
    }
}

/// What was fitted, and what could not be.
pub(super) struct Fitted {
    pub candidates: Vec<Candidate>,
    pub failed: Vec<SweepPoint>,
}

/// Fits everything that can be fitted; what cannot is reported as failed. An error only where nothing can.
pub(super) fn fit_all(
    layers: &[LayerRows],
    methods: &[Method],
    components: &[usize],
    shifts: &[Shift],
    notes: &mut Vec<String>,
) -> Result<Fitted, EvalError> {
    let mut jobs = Vec::new();
    for rows in layers {
        for &method in methods {
            if method.uses_components() {
                let both = |&k| shifts.iter().map(move |&shift| (rows, method, Some(k), shift));
                jobs.extend(components.iter().flat_map(both));
            } else {
                jobs.push((rows, method, None, Shift::default()));
            }
        }
    }
    let made: Vec<_> = jobs
        .into_par_iter()
        .map(|(rows, method, components, shift)| {
            let mut options = FitOptions::default();
            options.components = components.unwrap_or(options.components);
            options.shift = shift;
            let held_out = Some((rows.source_val.as_ref(), rows.target_val.as_ref()));
            let found = fit(method, rows.source.as_ref(), rows.target.as_ref(), &options, held_out);
            let found = found.map_err(EvalError::from).and_then(|fit| {
                to_json("certificate", &fit.certificate)?;
                Ok(fit)
            });
            (method, rows.layer, components, shift, found)
        })
        .collect();
    let mut fitted = Fitted { candidates: Vec::new(), failed: Vec::new() };
    let mut failures = Vec::new();
    for (method, layer, components, shift, found) in made {
        match found {
            Ok(fit) => fitted.candidates.push(Candidate { method, layer, components, fit }),
            Err(error) => {
                let setting = setting(method, layer, components, shift, Use::of(method));
                let outcome = Outcome::Failed { reason: format!("{setting}: could not be fitted: {error}") };
                fitted.failed.push(SweepPoint { setting, heldout_w2_ratio: None, outcome });
                failures.push((method, layer, components, error.to_string()));
            }
        }
    }
    if let (true, Some((method, layer, _, reason))) = (fitted.candidates.is_empty(), failures.first()) {
        return Err(EvalError::NothingFitted {
            method: method.to_string(),
            layer: *layer,
            reason: reason.clone(),
        });
    }
    // One note for what failed at many layers, with the first reason.
    let mut failed: BTreeMap<(Method, Option<usize>), (BTreeSet<u16>, String)> = BTreeMap::new();
    for (method, layer, components, reason) in failures {
        failed.entry((method, components)).or_insert_with(|| (BTreeSet::new(), reason)).0.insert(layer);
    }
    for ((method, components), (layers, reason)) in failed {
        let layers: Vec<String> = layers.iter().map(u16::to_string).collect();
        let k = components.map_or(String::new(), |k| format!(" with {k} components"));
        let layers = layers.join(", ");
        notes.push(format!("{method}{k} could not be fitted at layers {layers} (counted from 0): {reason}"));
    }
    Ok(fitted)
}

impl Candidate {
    /// Where the map acts and on what.
    pub fn setting(&self, usage: Use) -> Setting {
        let shift = self.fit.certificate.shift.unwrap_or_default();
        setting(self.method, self.layer, self.components, shift, usage)
    }

    /// The activations that the map was fitted on.
    pub fn fitted_at(&self) -> HookPoint {
        HookPoint::resid_post(self.layer)
    }

    /// The edits that put it into a model of `layers` blocks.
    pub fn edits(&self, layers: u16, usage: Use) -> Vec<Edit> {
        let Use { tokens, strength } = usage;
        let edit = |at| Edit { at, map: self.fit.map.clone(), strength, tokens };
        places(self.method, self.fitted_at(), layers).into_iter().map(edit).collect()
    }

    /// W2 after over W2 before on validation.
    pub fn heldout_w2_ratio(&self) -> Option<f64> {
        self.fit.certificate.held_out.as_ref().and_then(|quality| quality.w2_ratio)
    }
}

/// The setting of a method that has none: nothing of it could be measured.
pub(super) fn no_setting(method: Method) -> Setting {
    let setting = setting(method, 0, None, Shift::default(), Use::of(method));
    Setting { layers: Vec::new(), shift: None, ..setting }
}

fn setting(method: Method, layer: u16, components: Option<usize>, shift: Shift, usage: Use) -> Setting {
    // One block says which.
    let sites = places(method, HookPoint::resid_post(layer), 1);
    Setting {
        method: method.to_string(),
        components,
        layers: vec![layer],
        sites: sites.into_iter().map(|at| at.site.to_string()).collect(),
        strength: usage.strength,
        shift: method.uses_components().then(|| match shift {
            Shift::Full => "full".to_owned(),
            Shift::Subspace => "subspace".to_owned(),
        }),
        tokens: usage.tokens.to_string(),
    }
}
