//! The example of a foreign model: it runs, its hooks are short, and they do what `ResidualModel` says.
#![allow(clippy::unwrap_used)]

#[path = "../examples/foreign_model.rs"]
mod foreign_model;

use brenier::hooks::{Patch, Patches};
use brenier::residual::{
    Batch, Device, HookPoint, KvCache, ResidualError, ResidualModel, Row, Site, Tap, Tensor, logit_lens,
    tap_fn,
};
use foreign_model::{Hooked, gpt::Gpt};

/// Two sums of the same 32 products in another order, through four blocks of values near 1.
const TOLERANCE: f32 = 1e-5;

fn model() -> Hooked {
    let device = Device::flex();
    Hooked::new(Gpt::new(48, 32, 4, 16, &device), &device)
}

fn batch(rows: &[&[u32]]) -> Batch {
    Batch::new(&rows.iter().map(|ids| Row::prompt(ids)).collect::<Vec<_>>(), &Device::flex()).unwrap()
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn last(model: &Hooked, batch: &Batch, tap: &mut dyn Tap) -> Vec<f32> {
    numbers(model.forward_last(batch, None, tap).unwrap())
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= TOLERANCE)
}

#[test]
fn the_example_runs() {
    foreign_model::main().unwrap();
}

#[test]
fn the_hooks_are_under_sixty_lines() {
    let source = include_str!("../examples/foreign_model.rs");
    let from = source.find("pub(crate) struct Hooked").unwrap();
    let to = source.find("pub(crate) fn main").unwrap();
    let lines = source[from..to].lines().filter(|line| !line.trim().is_empty());
    assert!(lines.count() < 60);
}

#[test]
fn a_cache_and_padding_do_not_show() {
    let model = model();
    let whole = last(&model, &batch(&[&[3, 14, 15, 9]]), &mut ());
    let first = batch(&[&[3, 14, 15], &[7]]);
    let mut cache = KvCache::new(4);
    model.forward_last(&first, Some(&mut cache), &mut ()).unwrap();
    let next = first.next(&[9, 1]).unwrap();
    let stepped = numbers(model.forward_last(&next, Some(&mut cache), &mut ()).unwrap());
    assert!(near(&stepped[..48], &whole));
    assert!(near(&stepped[48..], &last(&model, &batch(&[&[7, 1]]), &mut ())));
    assert!(matches!(model.forward_last(&next, None, &mut ()), Err(ResidualError::CacheLength { .. })));
}

#[test]
fn the_lens_at_the_last_block_is_the_model_and_elsewhere_it_is_not() {
    let (model, batch) = (model(), batch(&[&[3, 14, 15], &[7]]));
    let lens = logit_lens(&model, &batch, Site::ResidPost.all_layers(4), &mut ()).unwrap();
    let logits = last(&model, &batch, &mut ());
    let of = |layer| numbers(lens[&HookPoint::resid_post(layer)].clone());
    assert_eq!(lens.len(), 4);
    assert!(near(&of(3), &logits) && !near(&of(2), &logits));
    let outside = logit_lens(&model, &batch, [HookPoint::resid_pre(4)], &mut ());
    assert_eq!(
        outside.unwrap_err().to_string(),
        "blocks.4.hook_resid_pre: the model has 4 layers, counted from 0"
    );
}

#[test]
fn a_patch_of_the_whole_last_token_makes_the_other_prompts_logits() {
    let model = model();
    let (from, into) = (batch(&[&[3, 14, 15]]), batch(&[&[8, 2], &[5, 6, 7]]));
    let at = HookPoint::resid_post(3);
    let mut seen = None;
    let keep = tap_fn([at], |_, _, x| {
        seen = Some(x.clone());
        Ok(x)
    });
    let wanted = last(&model, &from, &mut { keep });
    let value = numbers(seen.unwrap().narrow(1, 2, 1));
    // Row 0 has one column of padding: its token 1 stands in column 2.
    let patch = Patch { at, row: 0, token: 1, value };
    let mut patches = Patches::new(model.spec(), &[patch]).unwrap();
    let patched = last(&model, &into, &mut patches);
    assert!(near(&patched[..48], &wanted));
    assert!(near(&patched[48..], &last(&model, &into, &mut ())[48..]));
}

#[test]
fn a_failure_of_a_tap_ends_the_pass_and_keeps_its_type() {
    let model = model();
    let at = HookPoint::mlp_out(2);
    let mut fails = tap_fn([at], |at, _, _| Err(ResidualError::tap(at, std::fmt::Error)));
    let error = model.forward_last(&batch(&[&[1]]), None, &mut fails).unwrap_err();
    let ResidualError::Tap { at: found, source } = &error else { panic!("{error}") };
    assert!(*found == at && source.get().is::<std::fmt::Error>());
    assert!(error.to_string().starts_with("blocks.2.hook_mlp_out: "), "{error}");
}
