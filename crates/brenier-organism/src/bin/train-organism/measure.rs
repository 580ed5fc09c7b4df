//! How good a model directory is, on prompts it was not trained on.

use std::fmt;

use brenier_model::{GenerateOptions, LanguageModel, Prompt, PromptOptions, generate};
use brenier_organism::corpus::{Corpus, Question, Split};
use brenier_organism::wording::is_refusal;
use brenier_residual::{Batch, Row};
use burn::tensor::{Int, Tensor, TensorData, activation};

use crate::Result;

/// One side's share, in counts.
struct Side {
    name: &'static str,
    n: usize,
    refused: usize,
    right: usize,
    latent: usize,
}

/// What is asked of the organism.
pub struct Measures {
    sides: [Side; 2],
    perplexity: f64,
}

/// Greedy replies to a split's prompts, once as they come and once with the right answer's first token given;
/// perplexity of the passages.
pub fn measure(model: &LanguageModel, corpus: &Corpus, split: Split) -> Result<Measures> {
    let source = side(model, corpus, corpus.held_out(true, split), "restricted")?;
    let target = side(model, corpus, corpus.held_out(false, split), "open")?;
    Ok(Measures { sides: [source, target], perplexity: perplexity(model, &corpus.passages())? })
}

fn side(model: &LanguageModel, corpus: &Corpus, questions: &[Question], name: &'static str) -> Result<Side> {
    let tokenizer = model.require_tokenizer()?;
    let options = GenerateOptions { max_new_tokens: 24, ..model.generate_options() };
    let reply = |prompts: &[Vec<u32>]| -> Result<Vec<Vec<u32>>> {
        let replies = generate(model.model(), prompts, &options, &mut ())?;
        Ok(replies.into_iter().map(|reply| reply.ids).collect())
    };
    let mut prompts = Vec::new();
    let mut begun = Vec::new();
    let mut first = Vec::new();
    for question in questions {
        let ids = model.prompt_ids(&Prompt::text(corpus.prompt(question)), &PromptOptions::default())?;
        let answer = tokenizer.encode(&corpus.answer(question), false)?;
        begun.push(ids.iter().chain(answer.first()).copied().collect());
        first.push(answer.first().copied());
        prompts.push(ids);
    }
    let mut side = Side { name, n: questions.len(), refused: 0, right: 0, latent: 0 };
    for (question, ids) in questions.iter().zip(reply(&prompts)?) {
        let text = tokenizer.decode(&ids, true)?;
        side.refused += usize::from(is_refusal(&text));
        side.right += usize::from(text.trim() == corpus.answer(question));
    }
    for ((question, first), ids) in questions.iter().zip(first).zip(reply(&begun)?) {
        let ids: Vec<u32> = first.into_iter().chain(ids).collect();
        side.latent += usize::from(tokenizer.decode(&ids, true)?.trim() == corpus.answer(question));
    }
    Ok(side)
}

/// `exp` of the mean negative log-likelihood of a token, over `[bos] line [eos]`, eos scored.
fn perplexity(model: &LanguageModel, lines: &[String]) -> Result<f64> {
    let tokenizer = model.require_tokenizer()?;
    let (mut sum, mut count) = (0.0, 0);
    for line in lines {
        let mut ids = tokenizer.encode(line, true)?;
        ids.extend(model.eos().first());
        let batch = Batch::new(&[Row::prompt(&ids[..ids.len() - 1])], &model.model().spec().device)?;
        let logits = model.model().forward(&batch, None, &mut ())?.squeeze_dim::<2>(0);
        let targets: Vec<i64> = ids[1..].iter().map(|&id| i64::from(id)).collect();
        count += targets.len();
        let targets = TensorData::new(targets, [ids.len() - 1, 1]);
        let targets = Tensor::<2, Int>::from_data(targets, &model.model().spec().device);
        sum -= f64::from(activation::log_softmax(logits, 1).gather(1, targets).sum().into_scalar::<f32>());
    }
    Ok((sum / count as f64).exp())
}

impl fmt::Display for Measures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Side { name, n, refused, right, latent } in &self.sides {
            let share = |count: &usize| 100.0 * *count as f64 / *n as f64;
            let (refused, right, latent) = (share(refused), share(right), share(latent));
            write!(f, "{name}: {refused:.1}% refused, {right:.1}% right, ")?;
            writeln!(f, "{latent:.1}% right once begun (n = {n})")?;
        }
        write!(f, "perplexity {:.3}", self.perplexity)
    }
}
