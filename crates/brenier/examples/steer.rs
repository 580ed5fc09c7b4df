//! From prompts to a changed answer, through the libraries: `cargo run --release -p brenier --example steer`.
//!
//! The README's five lines and docs/guides/library.md are taken from here.

use std::error::Error;

use brenier::capture::{Request, Rows, capture};
use brenier::hooks::{Edit, Intervention};
use brenier::model::{LanguageModel, PromptFormat, PromptOptions, generate, read_prompts};
use brenier::organism::Organism;
use brenier::residual::{HookPoint, Tap, TokenSet};
use brenier::transport::{GateOptions, GaussianOtMap};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let organism = Organism::unpack(dir.path())?;
    let model = LanguageModel::load(&organism.model, &brenier::device::by_name("auto")?, None)?;
    let read = |name: &str| -> Result<Vec<Vec<u32>>, Box<dyn Error>> {
        let prompts = read_prompts(organism.study.join(name), PromptFormat::Auto)?;
        let ids = prompts.iter().map(|prompt| model.prompt_ids(prompt, &PromptOptions::default()));
        Ok(ids.collect::<Result<_, _>>()?)
    };

    // What leaves block 5 at the last token of prompts that are refused, and of prompts that are answered.
    let at = HookPoint::resid_post(5);
    let rows = |name: &str| -> Result<Rows, Box<dyn Error>> {
        let request = Request { points: vec![at], ..Request::default() };
        let mut found = capture(model.model(), &read(name)?, &request, &mut (), &mut |_| {})?;
        found.tensors.remove(&at.to_string()).ok_or("nothing captured".into())
    };
    let (Rows::F32(source), Rows::F32(target)) = (rows("source_train.jsonl")?, rows("target_train.jsonl")?)
    else {
        return Err("captured rows are f32".into());
    };

    // The optimal map between the two, in the first principal components, where the gate opens.
    let builder = GaussianOtMap::builder().components(4).gated(GateOptions::default());
    let map = builder.fit(source.as_ref(), target.as_ref())?;

    let edit = Edit { at, map: map.map().clone(), strength: 1.0, tokens: TokenSet::LastAndGenerated };
    let mut tap = Intervention::new(model.model().spec(), &[edit])?;
    let prompts = &read("source_test.jsonl")?[..3];
    let answer = |tap: &mut dyn Tap| generate(model.model(), prompts, &model.generate_options(), tap);
    let (before, after) = (answer(&mut ())?, answer(&mut tap)?);
    let tokenizer = model.require_tokenizer()?;
    for ((prompt, before), after) in prompts.iter().zip(before).zip(after) {
        println!("{}", tokenizer.decode(prompt, true)?);
        println!("  untouched    {}", tokenizer.decode(&before.ids, true)?);
        println!("  transported  {}", tokenizer.decode(&after.ids, true)?);
    }
    Ok(())
}
