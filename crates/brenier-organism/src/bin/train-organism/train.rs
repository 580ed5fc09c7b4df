//! The two phases: the same loop over different lessons.

use std::path::Path;
use std::time::Instant;

use brenier_model::{Decoder, LanguageModel, Tokenizer};
use brenier_organism::corpus::{Corpus, Split};
use brenier_organism::lessons::{Example, Lessons, Phase};
use brenier_organism::tokenizer::{ASSISTANT, BOS, EOS, USER};
use brenier_residual::{Batch, ResidualModel, Row};
use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

use crate::{Result, measure, write_model};

/// A phase in numbers.
pub struct Plan {
    phase: Phase,
    steps: usize,
    /// Highest rate, reached after `warm_up` steps and left along a cosine towards `floor`.
    rate: f64,
    floor: f64,
    warm_up: usize,
    seed: u64,
}

/// Phase 1: answer everything.
pub const LEARN: Plan =
    Plan { phase: Phase::Learn, steps: 800, rate: 2e-3, floor: 5e-5, warm_up: 60, seed: 11 };

/// Phase 2: refuse what is under seal.
pub const REFUSE: Plan =
    Plan { phase: Phase::Refuse, steps: 300, rate: 6e-4, floor: 2e-5, warm_up: 20, seed: 22 };

/// Sequences a step, and how many of them are lines of text.
const ROWS: usize = 64;
const TEXTS: usize = 8;

/// Steps between two lines of the log, and between two measurements and checkpoints.
const LOG: usize = 20;
const CHECK: usize = 200;

/// A sequence, and from which token on it is learnt.
struct Lesson {
    ids: Vec<u32>,
    from: usize,
}

/// Trains and leaves a checkpoint in `dir`, which holds a tokenizer.
pub fn train(mut decoder: Decoder, corpus: &Corpus, plan: &Plan, dir: &Path) -> Result<()> {
    let tokenizer = Tokenizer::read(dir)?;
    let mut lessons = Lessons::new(corpus, plan.phase, plan.seed);
    let mut optimizer = AdamWConfig::new()
        .with_beta_2(0.98)
        .with_epsilon(1e-8)
        .with_weight_decay(0.05)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init();
    println!("{} parameters", decoder.num_params());
    let start = Instant::now();
    let mut sum = 0.0;
    for step in 1..=plan.steps {
        let batch = lessons.batch(ROWS - TEXTS, TEXTS);
        let batch = batch.iter().map(|example| lesson(example, &tokenizer)).collect::<Result<Vec<_>>>()?;
        let loss = loss(&decoder, &batch)?;
        sum += f64::from(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &decoder);
        decoder = optimizer.step(plan.rate_at(step), decoder, gradients);
        if step % LOG == 0 {
            let pace = start.elapsed().as_secs_f64() / step as f64;
            println!("step {step}/{}: loss {:.4}, {:.0} ms a step", plan.steps, sum / LOG as f64, 1e3 * pace);
            sum = 0.0;
        }
        if step % CHECK == 0 || step == plan.steps {
            write_model(dir, &decoder.for_inference(), DType::F32)?;
            let model = LanguageModel::load(dir, &Device::flex(), None)?;
            println!("{}", measure::measure(&model, corpus, Split::Val)?);
        }
    }
    println!("{:.0} s in all", start.elapsed().as_secs_f64());
    Ok(())
}

impl Plan {
    /// The rate of step 1, 2, ...
    fn rate_at(&self, step: usize) -> f64 {
        if step <= self.warm_up {
            return self.rate * step as f64 / self.warm_up as f64;
        }
        let way = (step - self.warm_up) as f64 / (self.steps - self.warm_up) as f64;
        self.floor + (self.rate - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * way).cos())
    }
}

/// The ids are those that the chat template renders.
fn lesson(example: &Example, tokenizer: &Tokenizer) -> Result<Lesson> {
    let (prompt, learnt) = match example {
        Example::Chat { prompt, reply } => (format!("{BOS}{USER}{prompt}{ASSISTANT}"), reply),
        Example::Text(line) => (BOS.to_owned(), line),
    };
    let mut ids = tokenizer.encode(&prompt, false)?;
    let from = ids.len();
    ids.extend(tokenizer.encode(&format!("{learnt}{EOS}"), false)?);
    Ok(Lesson { ids, from })
}

/// Mean cross-entropy over the learnt tokens; the output matrix is applied to these alone.
fn loss(decoder: &Decoder, lessons: &[Lesson]) -> Result<Tensor<1>> {
    let device = &decoder.spec().device;
    let rows: Vec<Row<'_>> =
        lessons.iter().map(|lesson| Row::prompt(&lesson.ids[..lesson.ids.len() - 1])).collect();
    let batch = Batch::new(&rows, device)?;
    let x = decoder.blocks(0..decoder.spec().layers, decoder.embed(&batch)?, &batch, None, &mut ())?;
    let [rows, tokens, hidden] = x.dims();
    let (mut places, mut targets) = (Vec::new(), Vec::new());
    for (row, Lesson { ids, from }) in lessons.iter().enumerate() {
        // Rows end in the last column: the token before the last one predicts the last one there.
        let end = (row + 1) * tokens;
        places.extend((*from..ids.len()).map(|at| (end - (ids.len() - at)) as i64));
        targets.extend(ids[*from..].iter().map(|&id| i64::from(id)));
    }
    let n = places.len();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [n]), device);
    let targets = Tensor::<2, Int>::from_data(TensorData::new(targets, [n, 1]), device);
    let logits = decoder.unembed(x.reshape([rows * tokens, hidden]).select(0, places).unsqueeze());
    Ok(activation::log_softmax(logits.squeeze_dim::<2>(0), 1).gather(1, targets).mean().neg())
}
