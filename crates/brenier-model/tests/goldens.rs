//! Agreement with Hugging Face transformers on tiny random models of every family
//! (`tests/golden/models/make_goldens.py`).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use brenier_model::{
    Decoder, Event, Finish, GenerateOptions, LanguageModel, ModelError, generate, generate_with,
};
use brenier_residual::{Batch, HookPoint, KvCache, ResidualError, ResidualModel, Row, Site, Tap, TokenView};
use burn::tensor::{DType, Device, Tensor};
use safetensors::SafeTensors;

const MODELS: [&str; 10] =
    ["llama2", "llama31", "qwen25", "mistral", "qwen2-window", "qwen3", "gemma2", "gemma3", "phi3", "olmo2"];

/// Those whose activations are of the size of a real model's.
const GENTLE: [&str; 7] = ["mistral", "qwen2-window", "qwen3", "gemma2", "gemma3", "phi3", "olmo2"];

/// Largest difference to transformers: 30 roundings of f32 at the size that logits and activations reach here.
/// Measured: at most 4.5e-5 on activations up to 36; transformers in f32 is itself that far from f64.
const TOLERANCE: f32 = 30.0 * LARGEST * f32::EPSILON;
const LARGEST: f32 = 36.0;

fn tolerance(name: &str) -> f32 {
    if GENTLE.contains(&name) { 1e-5 } else { TOLERANCE }
}

struct Golden {
    model: LanguageModel,
    prompts: Vec<Vec<u32>>,
    greedy: Vec<Vec<u32>>,
    /// Name to shape and values.
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(name)
}

fn golden(name: &str) -> Golden {
    let model = LanguageModel::load(&dir(name), &Device::flex(), None).unwrap();
    let bytes = std::fs::read(dir(name).join("expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ints = |name: &str| -> Vec<i64> {
        file.tensor(name).unwrap().data().as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b)).collect()
    };
    let (ids, lengths, greedy) = (ints("ids"), ints("lengths"), ints("greedy"));
    let (width, new) = (ids.len() / lengths.len(), greedy.len() / lengths.len());
    let prompt = |(row, &length): (usize, &i64)| {
        ids[(row + 1) * width - length as usize..(row + 1) * width].iter().map(|&id| id as u32).collect()
    };
    let tensors =
        file.iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::F32).map(|(name, view)| {
            let values = view.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            (name.to_owned(), (view.shape().to_vec(), values))
        });
    Golden {
        prompts: lengths.iter().enumerate().map(prompt).collect(),
        greedy: greedy
            .chunks(new)
            .map(|row| row.iter().filter_map(|&id| u32::try_from(id).ok()).collect())
            .collect(),
        tensors: tensors.collect(),
        model,
    }
}

impl Golden {
    fn batch(&self) -> Batch {
        let rows: Vec<Row<'_>> = self.prompts.iter().map(|ids| Row::prompt(ids)).collect();
        Batch::new(&rows, &Device::flex()).unwrap()
    }

    /// Largest difference to an expected tensor at tokens that are no padding; `layer` picks one of several.
    fn difference(&self, name: &str, layer: Option<usize>, found: Tensor<3>) -> f32 {
        let [rows, tokens, width] = found.dims();
        let size = rows * tokens * width;
        let expected = &self.tensors[name].1[layer.unwrap_or(0) * size..][..size];
        let found: Vec<f32> = found.into_data().iter::<f32>().collect();
        assert!(found.iter().all(|x| x.is_finite()), "{name}: padding too is finite");
        let mut worst = 0.0f32;
        for (row, ids) in self.prompts.iter().enumerate() {
            for token in tokens - ids.len()..tokens {
                let at = (row * tokens + token) * width;
                let pairs = found[at..at + width].iter().zip(&expected[at..at + width]);
                worst = pairs.fold(worst, |worst, (f, e)| worst.max((f - e).abs()));
            }
        }
        worst
    }
}

/// Keeps everything.
#[derive(Default)]
struct Keep(BTreeMap<HookPoint, Tensor<3>>, Option<u16>);

impl Tap for Keep {
    fn wants(&self, _: HookPoint) -> bool {
        true
    }
    fn visit(&mut self, at: HookPoint, _: &dyn TokenView, x: Tensor<3>) -> Result<Tensor<3>, ResidualError> {
        self.0.insert(at, x.clone());
        Ok(x)
    }
    fn last_layer(&self) -> Option<u16> {
        self.1
    }
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= TOLERANCE, "{what}: {f} for {e}");
    }
}

#[test]
fn logits_and_every_site_agree_with_transformers() {
    for name in MODELS {
        let golden = golden(name);
        let mut keep = Keep::default();
        let logits = golden.model.model().forward(&golden.batch(), None, &mut keep).unwrap();
        let layers = golden.tensors["resid_post"].0[0];
        assert_eq!(keep.0.len(), layers * Site::ALL.len(), "every site of every layer is seen");
        let mut differences = vec![("logits".to_owned(), golden.difference("logits", None, logits))];
        for (at, x) in keep.0 {
            match at.site {
                Site::ResidPost => {
                    let layer = usize::from(at.layer);
                    differences.push((at.to_string(), golden.difference("resid_post", Some(layer), x)));
                }
                site if at.layer == 1 => {
                    differences.push((at.to_string(), golden.difference(site.name(), None, x)));
                }
                _ => {}
            }
        }
        for (what, difference) in &differences {
            let tolerance = tolerance(name);
            assert!(*difference <= tolerance, "{name} {what}: {difference:e} > {tolerance:e}");
        }
        let worst = differences.iter().fold(0.0f32, |worst, (_, d)| worst.max(*d));
        println!("{name}: largest difference {worst:e}");
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers_in_any_batch() {
    for name in MODELS {
        let golden = golden(name);
        for batch in [1, 2, 8] {
            let options =
                GenerateOptions { max_new_tokens: 16, batch: Some(batch), ..golden.model.generate_options() };
            let mut streamed = vec![Vec::new(); golden.prompts.len()];
            let mut ended = vec![None; golden.prompts.len()];
            let mut hear = |event: Event<'_>| {
                match event {
                    Event::Token { prompt, id } => streamed[prompt].push(id),
                    Event::Ended { prompt, generation } => ended[prompt] = Some(generation.clone()),
                    _ => {}
                }
                ControlFlow::Continue(())
            };
            let model = golden.model.model();
            let found = generate_with(model, &golden.prompts, &options, &mut (), &mut hear).unwrap();
            for (prompt, (found, expected)) in found.iter().zip(&golden.greedy).enumerate() {
                assert_eq!(&found.ids, expected, "{name}, batches of {batch}");
                assert_eq!(found.ids, streamed[prompt]);
                assert_eq!(Some(found), ended[prompt].as_ref());
                let finish = if expected.len() < 16 { Finish::Eos } else { Finish::MaxNewTokens };
                assert_eq!(found.finish, finish);
            }
        }
    }
}

#[test]
fn rows_that_end_make_room_without_showing_it() {
    // Texts of many lengths: some end at once, some late; three rows serve twenty prompts.
    let golden = golden("llama31");
    let model = golden.model.model();
    let prompts: Vec<Vec<u32>> =
        (0..20u32).map(|i| (0..=(i * 7) % 23).map(|j| 11 + (i + j) % 30).collect()).collect();
    let plain = GenerateOptions { max_new_tokens: 24, ..GenerateOptions::default() };
    let whole = generate(model, &prompts, &plain, &mut ()).unwrap();
    let eos: Vec<u32> = whole.iter().enumerate().filter_map(|(i, text)| text.ids.get(i).copied()).collect();
    let run = |batch| {
        let options = GenerateOptions { batch, eos: eos.clone(), ..plain.clone() };
        generate(model, &prompts, &options, &mut ()).unwrap()
    };
    let alone = run(Some(1));
    let lengths: std::collections::BTreeSet<usize> = alone.iter().map(|text| text.ids.len()).collect();
    assert!(lengths.len() > 4, "{lengths:?}");
    for batch in [Some(2), Some(3), Some(7), None] {
        assert_eq!(run(batch), alone, "{batch:?}");
    }
}

#[test]
fn a_generation_can_be_done_in_parts() {
    let golden = golden("llama31");
    let options = GenerateOptions {
        max_new_tokens: 8,
        temperature: Some(0.8),
        seed: 3,
        ..golden.model.generate_options()
    };
    let run = |skip: &[usize]| {
        let options = GenerateOptions { skip: skip.iter().copied().collect(), ..options.clone() };
        generate(golden.model.model(), &golden.prompts, &options, &mut ()).unwrap()
    };
    let (whole, first, rest) = (run(&[]), run(&[1, 2]), run(&[0]));
    assert_eq!(first[0], whole[0]);
    assert_eq!(rest[1..], whole[1..]);
    assert!(first[1].ids.is_empty() && rest[0].ids.is_empty());
}

#[test]
fn a_listener_can_stop_a_generation() {
    let golden = golden("llama31");
    let mut tokens = 0;
    let mut stop = |_: Event<'_>| {
        tokens += 1;
        if tokens == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let options = golden.model.generate_options();
    let error =
        generate_with(golden.model.model(), &golden.prompts, &options, &mut (), &mut stop).unwrap_err();
    assert!(matches!(error, ModelError::Stopped), "{error}");
    assert_eq!(tokens, 5);
}

#[test]
fn sampling_does_not_depend_on_the_batch() {
    let golden = golden("llama31");
    let decoder = golden.model.model();
    let sample = |batch, seed| {
        let options = GenerateOptions {
            max_new_tokens: 12,
            temperature: Some(0.9),
            top_k: Some(20),
            top_p: Some(0.9),
            seed,
            batch: Some(batch),
            ..GenerateOptions::default()
        };
        generate(decoder, &golden.prompts, &options, &mut ()).unwrap()
    };
    assert_eq!(sample(1, 5), sample(2, 5));
    assert_ne!(sample(2, 5), sample(2, 6), "another seed, another text");
}

#[test]
fn any_token_of_the_eos_list_ends_a_row_and_only_that_row() {
    let golden = golden("qwen25");
    let third = golden.greedy[0][3];
    let options = GenerateOptions { max_new_tokens: 16, eos: vec![299, third], ..GenerateOptions::default() };
    let decoder = golden.model.model();
    let found = generate(decoder, &golden.prompts, &options, &mut ()).unwrap();
    for (found, whole) in found.iter().zip(&golden.greedy) {
        let end = whole.iter().position(|&id| id == third || id == 299);
        assert_eq!(found.ids, whole[..end.unwrap_or(16)]);
        assert_eq!(found.finish, if end.is_some() { Finish::Eos } else { Finish::MaxNewTokens });
    }
    assert_eq!(found[0].finish, Finish::Eos);
}

#[test]
fn a_full_context_ends_a_row_and_no_token_goes_beyond_it() {
    let golden = golden("llama2");
    let decoder = golden.model.model();
    let context = decoder.spec().context;
    let prompts = [vec![11; context - 3], vec![12; 5]];
    let options = GenerateOptions { max_new_tokens: 10, ..GenerateOptions::default() };
    let found = generate(decoder, &prompts, &options, &mut ()).unwrap();
    assert_eq!((found[0].ids.len(), found[0].finish), (3, Finish::Context));
    assert_eq!((found[1].ids.len(), found[1].finish), (10, Finish::MaxNewTokens));
}

#[test]
fn reading_token_by_token_equals_reading_at_once() {
    for name in MODELS {
        let golden = golden(name);
        let decoder = golden.model.model();
        let whole = values(decoder.forward_last(&golden.batch(), None, &mut ()).unwrap());
        // All but the last three tokens at once (rows of one token start with nothing but padding before).
        let long: Vec<&Vec<u32>> = golden.prompts.iter().filter(|ids| ids.len() > 3).collect();
        let rows: Vec<Row<'_>> = long.iter().map(|ids| Row::prompt(&ids[..ids.len() - 3])).collect();
        let mut batch = Batch::new(&rows, &Device::flex()).unwrap();
        let mut cache = KvCache::new(usize::from(decoder.spec().layers));
        let mut logits = decoder.forward_last(&batch, Some(&mut cache), &mut ()).unwrap();
        for back in (1..=3).rev() {
            let step: Vec<u32> = long.iter().map(|ids| ids[ids.len() - back]).collect();
            batch = batch.next(&step).unwrap();
            if decoder.rereads(&batch) {
                let error = decoder.forward_last(&batch, Some(&mut cache), &mut ()).unwrap_err();
                assert_eq!((name, error), ("phi3", ResidualError::StaleCache { tokens: 16 }));
                let rows: Vec<Row<'_>> =
                    long.iter().map(|ids| Row::prompt(&ids[..=ids.len() - back])).collect();
                batch = Batch::new(&rows, &Device::flex()).unwrap();
                cache = KvCache::new(usize::from(decoder.spec().layers));
            }
            logits = decoder.forward_last(&batch, Some(&mut cache), &mut ()).unwrap();
        }
        let vocab = decoder.spec().vocab;
        let expected: Vec<f32> = golden
            .prompts
            .iter()
            .zip(whole.chunks(vocab))
            .filter(|(ids, _)| ids.len() > 3)
            .flat_map(|(_, logits)| logits.to_vec())
            .collect();
        assert_close(&values(logits), &expected, name);
    }
}

#[test]
fn the_tail_can_be_recomputed_from_any_block() {
    let golden = golden("llama31");
    let (decoder, batch) = (golden.model.model(), golden.batch());
    let mut keep = Keep::default();
    let whole = values(decoder.forward(&batch, None, &mut keep).unwrap());
    let layers = decoder.spec().layers;
    for layer in 0..layers {
        let entering = keep.0[&HookPoint { layer, site: Site::ResidPre }].clone();
        let x = decoder.blocks(layer..layers, entering, &batch, None, &mut ()).unwrap();
        assert_eq!(values(decoder.unembed(x)), whole, "from block {layer}, bit by bit");
    }
}

#[test]
fn observing_stops_after_the_last_wanted_block() {
    let golden = golden("llama31");
    let mut keep = Keep(BTreeMap::new(), Some(1));
    golden.model.model().observe(&golden.batch(), &mut keep).unwrap();
    assert_eq!(keep.0.keys().map(|at| at.layer).max(), Some(1));
    let last = keep.0.remove(&HookPoint::resid_post(1)).unwrap();
    assert!(golden.difference("resid_post", Some(1), last) <= TOLERANCE);
}

#[test]
fn a_cache_of_another_length_is_refused() {
    let golden = golden("llama2");
    let decoder = golden.model.model();
    let next = golden.batch().next(&vec![11; golden.prompts.len()]).unwrap();
    assert!(decoder.forward(&next, None, &mut ()).is_err(), "no cache");
    let mut empty = KvCache::new(3);
    assert!(decoder.forward(&next, Some(&mut empty), &mut ()).is_err(), "an empty cache");
}

#[test]
fn half_precision_stays_near_and_finite() {
    let golden = golden("llama31");
    let load = |dtype| Decoder::load(&dir("llama31"), &Device::flex(), dtype).unwrap();
    let logits = |decoder: Decoder| decoder.forward(&golden.batch(), None, &mut ()).unwrap();

    // Weights that are stored as bf16 and stay so: activations are f32, and nothing is rounded.
    let held = load(DType::BF16);
    assert_eq!(
        (held.spec().weights, held.model.layers[0].mlp.down_proj.weight.val().dtype()),
        (DType::BF16, DType::BF16)
    );
    let found = logits(held);
    assert_eq!(found.dtype(), DType::F32);
    assert!(golden.difference("logits", None, found) <= TOLERANCE);

    let found = logits(load(DType::F16));
    assert_eq!(found.dtype(), DType::F16);
    let difference = golden.difference("logits", None, found.cast(DType::F32));
    // The same count of roundings as in `TOLERANCE`, of a coarser float.
    assert!(difference <= 30.0 * LARGEST * 2f32.powi(-11), "{difference}");
}

#[test]
fn f32_is_as_near_to_f64_as_transformers_is() {
    for name in MODELS {
        let golden = golden(name);
        let model = LanguageModel::load(&dir(name), &Device::flex(), Some(DType::F64)).unwrap();
        let exact = model.model().forward(&golden.batch(), None, &mut ()).unwrap().cast(DType::F32);
        let ours = golden.model.model().forward(&golden.batch(), None, &mut ()).unwrap();
        let theirs = golden.difference("logits", None, exact.clone());
        let ours = values(ours - exact).iter().fold(0.0f32, |worst, d| worst.max(d.abs()));
        println!("{name}: distance to f64: transformers {theirs:e}, ours {ours:e}");
        assert!(theirs <= TOLERANCE && ours <= TOLERANCE, "{name}: {theirs:e} and {ours:e} > {TOLERANCE:e}");
    }
}
