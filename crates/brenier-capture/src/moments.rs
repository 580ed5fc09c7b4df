//! Captured rows as means and covariances.

use std::collections::BTreeMap;

use brenier_linalg::{LinalgError, Moments, Rows};
use faer::MatRef;
use rayon::prelude::*;

use crate::{ActivationSink, CaptureError, Part, Plan, RowMatrix, Share};

/// Key of the plan of a capture in the metadata of a file of moments.
const PLAN: &str = "capture.plan";
/// Key of the number of parts that were taken in.
const PARTS: &str = "capture.parts";

/// Rows widened at once by a thread.
const BLOCK: usize = 64;

/// Moments of captured rows, and which part of a capture they are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CapturedMoments {
    /// The capture.
    pub plan: Plan,
    /// Parts of the plan that were taken in, the first ones.
    pub parts: usize,
    /// The moments by tensor.
    pub tensors: BTreeMap<String, Moments>,
}

impl CapturedMoments {
    /// Whether metadata state a capture, so that [`new`](Self::new) makes something of them.
    #[must_use]
    pub fn is_stated(metadata: &BTreeMap<String, String>) -> bool {
        metadata.contains_key(PLAN) && metadata.contains_key(PARTS)
    }

    /// Whether all rows of the share were taken in.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.parts == self.plan.parts.len()
    }

    /// What a file of these moments states: how the rows were made, and which they are.
    ///
    /// # Errors
    /// Never: a plan is text.
    pub fn metadata(&self) -> Result<BTreeMap<String, String>, CaptureError> {
        let mut metadata = self.plan.metadata.clone();
        let plan = Plan { metadata: BTreeMap::new(), ..self.plan.clone() };
        metadata.insert(PLAN.to_owned(), serde_json::to_string(&plan).map_err(CaptureError::plan)?);
        metadata.insert(PARTS.to_owned(), self.parts.to_string());
        Ok(metadata)
    }

    /// The inverse of [`metadata`](Self::metadata): moments as a file has them. `None` where the metadata say nothing of
    /// a capture, as those of other programs.
    ///
    /// # Errors
    /// Metadata that contradict themselves or the moments.
    pub fn new(
        tensors: BTreeMap<String, Moments>,
        mut metadata: BTreeMap<String, String>,
    ) -> Result<Option<Self>, CaptureError> {
        let (Some(plan), Some(parts)) = (metadata.remove(PLAN), metadata.remove(PARTS)) else {
            return Ok(None);
        };
        let plan = Plan { metadata, ..serde_json::from_str(&plan).map_err(CaptureError::plan)? };
        let parts: usize = parts.parse().map_err(CaptureError::plan)?;
        let rows = plan.parts.get(..parts).map(|parts| parts.iter().map(|part| part.rows).sum::<usize>());
        let fits = plan.tensors.len() == tensors.len()
            && tensors.iter().all(|(name, moments)| {
                plan.tensors.get(name) == Some(&moments.width()) && Some(moments.count()) == rows
            });
        if !fits {
            return Err(CaptureError::plan("it is not that of the moments beside it"));
        }
        Ok(Some(Self { plan, parts, tensors }))
    }

    /// The moments of all rows of a capture, from those of its shares, in any order.
    ///
    /// # Errors
    /// No share, shares of different captures, one that is missing, incomplete or there twice; moments of different caps.
    pub fn merge(shares: impl IntoIterator<Item = Self>) -> Result<Self, CaptureError> {
        let mut shares: Vec<Self> = shares.into_iter().collect();
        shares.sort_by_key(|share| share.plan.share);
        let refuse = |what: String| CaptureError::Shares { what };
        let count = shares.len() as u32;
        let of = shares.first().map_or(1, |first| first.plan.share.of());
        let mut all: Option<Self> = None;
        for (expected, share) in (0..).zip(shares) {
            let found = share.plan.share;
            if found.of() != of {
                return Err(refuse(format!("share {found} is not one of {of}")));
            }
            if found.index() < expected {
                return Err(refuse(format!("share {found} is there twice")));
            }
            if found.index() > expected {
                return Err(refuse(format!("share {expected}/{of} is missing")));
            }
            if !share.is_complete() {
                let (parts, whole) = (share.parts, share.plan.parts.len());
                return Err(refuse(format!("share {found} has {parts} of its {whole} parts")));
            }
            match &mut all {
                None => all = Some(share),
                Some(all) => all.add(share)?,
            }
        }
        match all {
            None => Err(refuse("there is none".to_owned())),
            Some(_) if count < of => Err(refuse(format!("share {count}/{of} is missing"))),
            Some(mut all) => {
                all.plan.share = Share::default();
                Ok(all)
            }
        }
    }

    fn add(&mut self, share: Self) -> Result<(), CaptureError> {
        let differences = self.plan.other_capture(&share.plan);
        if !differences.is_empty() {
            let what = format!("share {}: {}", share.plan.share, differences.join("; "));
            return Err(CaptureError::Shares { what });
        }
        for (name, moments) in &mut self.tensors {
            let Some(other) = share.tensors.get(name) else { continue };
            moments.merge(other).map_err(|error| CaptureError::moments(name, error))?;
        }
        self.plan.parts.extend(share.plan.parts);
        self.parts += share.parts;
        Ok(())
    }
}

/// Where moments are kept, so that an interrupted capture goes on.
pub trait MomentsStore {
    /// What an earlier capture left, if this one is to go on from it.
    ///
    /// # Errors
    /// What cannot be read.
    fn load(&mut self) -> Result<Option<CapturedMoments>, CaptureError>;

    /// Called after every part. What is [complete](CapturedMoments::is_complete) has to be kept; the rest may be.
    ///
    /// # Errors
    /// What cannot be written.
    fn save(&mut self, moments: &mut CapturedMoments) -> Result<(), CaptureError>;
}

/// Takes captured rows into [`Moments`], a mean and a covariance a tensor: any number of rows in bounded memory.
///
/// Rows go in one at a time in the order of the prompts, so that the moments are the same bits whatever the batches,
/// and whether or not the capture was interrupted.
///
/// # Memory
/// That of a part, and at most `2 min(cap, d) d` numbers of eight bytes for each tensor of width `d`.
#[derive(Debug)]
pub struct MomentsSink<S> {
    cap: usize,
    store: S,
    state: Option<CapturedMoments>,
}

impl<S: MomentsStore> MomentsSink<S> {
    /// A sink whose covariance factors are shrunk to `cap` rows ([`Moments::new`]).
    pub fn new(cap: usize, store: S) -> Self {
        Self { cap, store, state: None }
    }

    /// What was taken in; nothing before the capture.
    #[must_use]
    pub fn moments(&self) -> Option<&CapturedMoments> {
        self.state.as_ref()
    }
}

impl<S: MomentsStore> ActivationSink for MomentsSink<S> {
    fn begin(&mut self, plan: &Plan) -> Result<(), CaptureError> {
        if let Some(found) = self.store.load()? {
            let mut differences = found.plan.differences(plan);
            let cap = found.tensors.values().next().map_or(self.cap, Moments::cap);
            if cap != self.cap {
                differences.push(format!("the cap of the moments was `{cap}` and is `{}`", self.cap));
            }
            if !differences.is_empty() {
                return Err(CaptureError::OtherMoments { differences: differences.join("; ") });
            }
            self.state = Some(found);
            return Ok(());
        }
        let new = |(name, &width): (&String, &usize)| match Moments::new(width, self.cap) {
            Ok(moments) => Ok((name.clone(), moments)),
            Err(error) => Err(CaptureError::moments(name, error)),
        };
        let tensors = plan.tensors.iter().map(new).collect::<Result<_, _>>()?;
        self.state = Some(CapturedMoments { plan: plan.clone(), parts: 0, tensors });
        Ok(())
    }

    fn has(&self, part: usize) -> Result<bool, CaptureError> {
        Ok(self.state.as_ref().is_some_and(|state| part < state.parts))
    }

    fn put(&mut self, part: Part) -> Result<(), CaptureError> {
        let Some(state) = &mut self.state else { return Ok(()) };
        state.tensors.par_iter_mut().try_for_each(|(name, moments)| {
            let Some(rows) = part.tensors.get(name) else { return Ok(()) };
            push(moments, rows).map_err(|error| CaptureError::moments(name, error))
        })?;
        state.parts += 1;
        self.store.save(state)
    }
}

fn push(moments: &mut Moments, rows: &RowMatrix<f32>) -> Result<(), LinalgError> {
    let width = rows.ncols();
    for block in rows.values().chunks(BLOCK * width.max(1)) {
        let wide: Vec<f64> = block.iter().map(|&value| f64::from(value)).collect();
        moments.push(Rows::new(MatRef::from_row_major_slice(&wide, wide.len() / width.max(1), width))?)?;
    }
    Ok(())
}
