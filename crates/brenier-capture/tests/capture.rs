//! Capture against a model computed by hand.
#![allow(clippy::unwrap_used)]

mod common;

use brenier_capture::{Activations, CaptureError, LOGITS, Position, Request, Rows, capture};
use brenier_residual::{
    Cause, DType, HookPoint, Origin, Overflow, Place, ResidualError, ResidualModel, Tap, Tensor, TensorData,
    TokenView,
};
use common::{Add, Counter, HIDDEN};
use proptest::prelude::*;

fn request(layers: &[u16], position: Position, batch: Option<usize>) -> Request {
    Request {
        points: layers.iter().map(|&l| HookPoint::resid_post(l)).collect(),
        position,
        batch,
        ..Request::default()
    }
}

fn run(prompts: &[Vec<u32>], request: &Request) -> Result<Activations, CaptureError> {
    capture(&Counter::new(4), prompts, request, &mut (), &mut |_| {})
}

fn rows(activations: &Activations, layer: u16) -> Vec<Vec<f32>> {
    let name = HookPoint::resid_post(layer).to_string();
    let Rows::F32(rows) = &activations.tensors[&name] else { panic!("expected f32") };
    (0..rows.nrows()).map(|i| (0..rows.ncols()).map(|j| rows[(i, j)]).collect()).collect()
}

/// What `Counter` leaves after `layer`, by definition.
fn expected(prompt: &[u32], layer: u16) -> Vec<[f32; HIDDEN]> {
    let mut x: Vec<[f32; HIDDEN]> = prompt.iter().map(|&id| [id as f32, 1.0, 0.0]).collect();
    for l in 0..=layer {
        let mut sum = 0.0;
        for token in &mut x {
            sum += token[0];
            token[0] += f32::from(l) + 1.0;
            token[2] += sum;
        }
    }
    x
}

#[test]
fn the_last_token_of_each_prompt_in_the_order_of_prompts() {
    let prompts = [vec![5, 6, 7, 8], vec![9], vec![3, 4]];
    let found = run(&prompts, &request(&[2, 0], Position::Last, Some(2))).unwrap();
    for layer in [0, 2] {
        let wanted: Vec<Vec<f32>> =
            prompts.iter().map(|prompt| expected(prompt, layer).last().unwrap().to_vec()).collect();
        assert_eq!(rows(&found, layer), wanted);
    }
    assert!(found.rows.is_none());
}

#[test]
fn all_tokens_and_tokens_from_the_end_say_where_they_come_from() {
    let prompts = [vec![5, 6, 7], vec![9, 8]];
    let found = run(&prompts, &request(&[1], Position::All, None)).unwrap();
    let wanted: Vec<Vec<f32>> =
        prompts.iter().flat_map(|prompt| expected(prompt, 1)).map(|row| row.to_vec()).collect();
    assert_eq!(rows(&found, 1), wanted);
    let index = found.rows.unwrap();
    assert_eq!((index.prompt, index.position), (vec![0, 0, 0, 1, 1], vec![0, 1, 2, 0, 1]));

    let found = run(&prompts, &request(&[1], Position::FromEnd(2), None)).unwrap();
    assert_eq!(rows(&found, 1), [&wanted[1..3], &wanted[3..5]].concat());
    assert_eq!(found.rows.unwrap().position, [1, 2, 0, 1]);
}

#[test]
fn blocks_after_the_last_wanted_one_are_not_run() {
    let model = Counter::new(4);
    capture(&model, &[vec![1, 2]], &request(&[1], Position::Last, None), &mut (), &mut |_| {}).unwrap();
    assert_eq!(*model.run.borrow(), [0, 1]);
    let with_logits = Request { logits: true, ..request(&[1], Position::Last, None) };
    let found = capture(&model, &[vec![1, 2]], &with_logits, &mut (), &mut |_| {}).unwrap();
    assert_eq!(*model.run.borrow(), [0, 1, 0, 1, 2, 3]);
    let last = expected(&[1, 2], 3)[1];
    let Rows::F32(logits) = &found.tensors[LOGITS] else { panic!("expected f32") };
    assert_eq!((logits.nrows(), logits.ncols()), (1, model.spec().vocab));
    assert_eq!([logits[(0, 0)], logits[(0, 1)], logits[(0, 2)]], last);
}

#[test]
fn what_runs_before_the_recorder_is_recorded() {
    let prompts = [vec![5, 6]];
    let plain = run(&prompts, &request(&[0, 1], Position::Last, None)).unwrap();
    let mut edit = Add(0, 10.0);
    let edited =
        capture(&Counter::new(4), &prompts, &request(&[0, 1], Position::Last, None), &mut edit, &mut |_| {})
            .unwrap();
    assert_eq!(rows(&edited, 0)[0][0], rows(&plain, 0)[0][0] + 10.0);
    assert_eq!(rows(&edited, 1)[0][2], rows(&plain, 1)[0][2] + 20.0);
}

/// Logits of a capture, and those of the stream after block 3, by hand.
#[test]
fn logits_have_a_row_for_every_token_that_is_captured() {
    let prompts = [vec![5, 6, 7], vec![9], vec![3, 4]];
    for (position, batch) in [
        (Position::All, None),
        (Position::All, Some(1)),
        (Position::All, Some(2)),
        (Position::FromEnd(1), None),
        (Position::Last, Some(2)),
    ] {
        let wanted: Vec<[f32; HIDDEN]> = prompts
            .iter()
            .flat_map(|prompt| expected(prompt, 3).split_off(prompt.len() - position.count(prompt.len())))
            .collect();
        let found = run(&prompts, &Request { logits: true, ..request(&[3], position, batch) }).unwrap();
        let Rows::F32(logits) = &found.tensors[LOGITS] else { panic!("expected f32") };
        assert_eq!((logits.nrows(), logits.ncols()), (wanted.len(), 50), "{position}");
        for (i, wanted) in wanted.iter().enumerate() {
            for j in 0..50 {
                assert_eq!(logits[(i, j)], wanted[j % HIDDEN], "{position}, row {i}");
            }
        }
        assert_eq!(found.rows.is_none(), position == Position::Last);
    }
}

/// Makes a value of the tokens with an id, after a block.
struct Make(u16, u32, f32);

impl Tap for Make {
    fn wants(&self, at: HookPoint) -> bool {
        at == HookPoint::resid_post(self.0)
    }

    fn visit(&mut self, _: HookPoint, _: &dyn TokenView, x: Tensor<3>) -> Result<Tensor<3>, ResidualError> {
        // Block l adds l + 1 to the id, which stands first.
        let added: u16 = (1..=self.0 + 1).sum();
        let hit = (self.1 + u32::from(added)) as f32;
        let (shape, device) = (x.dims(), x.device());
        let values: Vec<f32> = x.clone().into_data().iter::<f32>().collect();
        let of = |token: &[f32]| [0.0, 0.0, if token[0] == hit { self.2 } else { 0.0 }];
        let edit: Vec<f32> = values.chunks(HIDDEN).flat_map(of).collect();
        Ok(x + Tensor::from_data(TensorData::new(edit, shape), &device))
    }
}

#[test]
fn an_activation_that_is_not_finite_is_refused_by_prompt_token_and_tensor() {
    let prompts = [vec![5, 6, 7], vec![9], vec![3, 8, 4]];
    let failure = |request: &Request, value: f32| {
        let error =
            capture(&Counter::new(4), &prompts, request, &mut Make(1, 8, value), &mut |_| {}).err()?;
        let CaptureError::NotFinite { prompt, token, tensor, overflow } = error else { panic!("{error}") };
        let place = Place::Hook(HookPoint::resid_post(1));
        let first = Some(Origin { place, token: 1, cause: Cause::Edit });
        assert_eq!(overflow, Overflow { dtype: DType::F32, first });
        Some((prompt, token, tensor))
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for batch in [None, Some(1)] {
            // In a tensor of the place itself, of a later one, and in the logits.
            let all = request(&[1, 2], Position::All, batch);
            let name = |layer| HookPoint::resid_post(layer).to_string();
            assert_eq!(failure(&all, value), Some((2, 1, name(1))));
            assert_eq!(failure(&request(&[2], Position::FromEnd(1), batch), value), None, "not that token");
            let late = Request { logits: true, ..request(&[0], Position::All, batch) };
            assert_eq!(failure(&late, value), Some((2, 1, LOGITS.to_owned())));
            let only = Request { logits: true, ..request(&[], Position::All, batch) };
            assert_eq!(failure(&only, value), Some((2, 1, LOGITS.to_owned())));
        }
    }
    assert_eq!(failure(&request(&[0], Position::All, None), f32::NAN), None);
    let error = capture(
        &Counter::new(4),
        &prompts,
        &request(&[3], Position::All, None),
        &mut Make(1, 8, f32::NAN),
        &mut |_| {},
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "prompt 2, token 1 (both counted from 0), tensor `blocks.3.hook_resid_post`: values are not finite in f32 in \
         the edit at blocks.1.hook_resid_post (token 1, counted from 0); use a lower strength, or another map"
    );
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let prompts = vec![vec![1, 2, 3], vec![1, 2]];
    let failure = |prompts: &[Vec<u32>], request: &Request| run(prompts, request).unwrap_err().to_string();
    let short = failure(&prompts, &request(&[0], Position::FromEnd(3), None));
    assert!(short.contains("prompt 1 (counted from 0)") && short.contains("has 2 tokens"), "{short}");
    let layer = failure(&prompts, &request(&[9], Position::Last, None));
    assert!(layer.contains("blocks.9.hook_resid_post") && layer.contains("4 layers"), "{layer}");
    let long = failure(&[vec![1; 17]], &request(&[0], Position::Last, None));
    assert!(long.contains("17 tokens") && long.contains("holds 16"), "{long}");
    let id = failure(&[vec![1], vec![77]], &request(&[0], Position::Last, None));
    assert!(id.contains("prompt 1 (counted from 0)") && id.contains("77"), "{id}");
    assert!(matches!(run(&[], &request(&[0], Position::Last, None)), Err(CaptureError::NoPrompts)));
    assert!(matches!(run(&prompts, &request(&[], Position::Last, None)), Err(CaptureError::NoPoints)));
    assert!(matches!(run(&[vec![]], &request(&[0], Position::Last, None)), Err(CaptureError::Prompt { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// How prompts are batched must not show.
    #[test]
    fn batches_do_not_show(
        prompts in prop::collection::vec(prop::collection::vec(0u32..50, 1..9), 1..12),
        batch in 1usize..6,
        position in prop::sample::select(vec![Position::Last, Position::All, Position::FromEnd(1)]),
    ) {
        let together = run(&prompts, &request(&[0, 3], position, None)).unwrap();
        let apart = run(&prompts, &request(&[0, 3], position, Some(batch))).unwrap();
        prop_assert_eq!(together, apart);
    }
}
