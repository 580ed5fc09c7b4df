//! What an intervention did: judges, perplexity, KL, the study and its report.
#![deny(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod complete;
mod data;
mod error;
mod finite;
mod forward;
mod judge;
mod kl;
mod perplexity;
mod policy;
mod progress;
mod refusal;
pub mod render;
mod report;
mod score;
mod stats;
mod study;
mod subject;

pub use data::{Side, StudyData};
pub use error::EvalError;
pub use finite::to_json;
pub use judge::{Match, Phrases};
pub use kl::{Kl, kl};
pub use perplexity::{Perplexity, TEXT_POLICY, perplexity};
pub use policy::{MapRecord, Policy, places};
pub use progress::Progress;
pub use report::{
    Baseline, Chosen, Completion, DataInfo, DifferenceInfo, InterventionInfo, LayerInfo, MapUse,
    MethodReport, MethodScores, ModelInfo, Origin, Outcome, REPORT_SCHEMA, Report, Scatter, ScoreReport,
    Setting, Settings, SweepPoint, SweepScores, Timings, ValScores, Versus,
};
pub use score::{ScoreOptions, score};
pub use stats::{Mean, Paired, Rate};
pub use study::{STUDIED, Study, StudyOptions, prompt_ids, study};
pub use subject::Subject;
