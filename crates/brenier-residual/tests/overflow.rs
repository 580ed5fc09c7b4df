//! Where a pass stopped being finite, on a model whose every value is known.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

use brenier_residual::{
    Batch, Cause, HookPoint, KvCache, Origin, Overflow, Place, ResidualError, ResidualModel, Row, Site, Spec,
    Tap, TokenView,
};
use burn::tensor::{DType, Device, Tensor, TensorData};

/// One coordinate, the id itself. Block `l` adds `mlp[l]` times the stream to it.
struct Chain {
    spec: Spec,
    mlp: Vec<f32>,
    logits: f32,
}

impl Chain {
    fn new(dtype: DType, mlp: &[f32], logits: f32) -> Self {
        let spec = Spec {
            architecture: "Chain".into(),
            layers: mlp.len() as u16,
            hidden: 1,
            vocab: 300,
            context: 16,
            device: Device::flex(),
            dtype,
            weights: dtype,
        };
        Self { spec, mlp: mlp.to_vec(), logits }
    }
}

impl ResidualModel for Chain {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor<3>, ResidualError> {
        // Id 299 has an embedding that is none.
        let id = |token| match batch.id(0, token) {
            299 => f32::NAN,
            id => id as f32,
        };
        let x: Vec<f32> = (0..batch.tokens()).map(id).collect();
        let data = TensorData::new(x, [1, batch.tokens(), 1]);
        Ok(Tensor::from_data(data, (&self.spec.device, self.spec.dtype)))
    }

    fn blocks(
        &self,
        layers: Range<u16>,
        mut x: Tensor<3>,
        batch: &Batch,
        _: Option<&mut KvCache>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor<3>, ResidualError> {
        for layer in layers {
            for site in [Site::ResidPre, Site::MlpOut, Site::ResidPost] {
                let at = HookPoint { layer, site };
                let mut see = |x| if tap.wants(at) { tap.visit(at, batch, x) } else { Ok(x) };
                x = match site {
                    Site::MlpOut => x.clone() + see(x * self.mlp[usize::from(layer)])?,
                    _ => see(x)?,
                };
            }
        }
        Ok(x)
    }

    fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        x * self.logits
    }
}

/// Multiplies the stream after block 0.
struct Times(f32);

impl Tap for Times {
    fn wants(&self, at: HookPoint) -> bool {
        at == HookPoint::resid_post(0)
    }

    fn visit(&mut self, _: HookPoint, _: &dyn TokenView, x: Tensor<3>) -> Result<Tensor<3>, ResidualError> {
        Ok(x * self.0)
    }
}

fn at(layer: u16, site: Site) -> Place {
    Place::Hook(HookPoint { layer, site })
}

fn locate(model: &Chain, ids: &[u32], token: usize, tap: &mut dyn Tap) -> Option<Origin> {
    let found = Overflow::locate(model, Row::prompt(ids), token, tap);
    assert_eq!(found.dtype, model.spec.dtype);
    found.first
}

fn origin(place: Place, token: usize, cause: Cause) -> Option<Origin> {
    Some(Origin { place, token, cause })
}

#[test]
fn the_first_place_is_found_and_what_made_it() {
    let f16 = |mlp: &[f32], logits| Chain::new(DType::F16, mlp, logits);
    let ids = [1, 200, 3];
    // 200 * 400 is beyond 65504.
    let found = |model: &Chain, tap: &mut dyn Tap| locate(model, &ids, 2, tap);
    assert_eq!(found(&f16(&[1.0, 400.0], 1.0), &mut ()), origin(at(1, Site::MlpOut), 1, Cause::Model));
    // The part added is finite, the sum is not.
    assert_eq!(found(&f16(&[0.0, 327.0], 1.0), &mut ()), origin(at(1, Site::ResidPost), 1, Cause::Model));
    assert_eq!(found(&f16(&[0.0, 0.0], 400.0), &mut ()), None);
    assert_eq!(locate(&f16(&[0.0, 0.0], 400.0), &ids, 1, &mut ()), origin(Place::Logits, 1, Cause::Model));
    assert_eq!(found(&f16(&[1.0, 1.0], 1.0), &mut ()), None);
    // The earlier place counts, at a later token too.
    assert_eq!(
        locate(&f16(&[1.0, 400.0], 1.0), &[150, 3], 1, &mut ()),
        origin(at(1, Site::MlpOut), 0, Cause::Model)
    );
    let ids = [200, 299];
    assert_eq!(locate(&f16(&[400.0], 1.0), &ids, 0, &mut ()), origin(Place::Embedding, 1, Cause::Model));
}

#[test]
fn an_edit_is_told_from_the_model() {
    let f16 = |mlp: &[f32], logits| Chain::new(DType::F16, mlp, logits);
    let found = |model: &Chain, tap: &mut dyn Tap| locate(model, &[1, 200, 3], 1, tap);
    // By the edit; after one; after one that changed nothing.
    let model = f16(&[0.0, 2.0], 1.0);
    assert_eq!(found(&model, &mut Times(400.0)), origin(at(0, Site::ResidPost), 1, Cause::Edit));
    assert_eq!(found(&model, &mut Times(200.0)), origin(at(1, Site::MlpOut), 1, Cause::AfterEdit));
    assert_eq!(found(&model, &mut Times(1.0)), None);
    let model = f16(&[0.0, 400.0], 1.0);
    assert_eq!(found(&model, &mut Times(1.0)), origin(at(1, Site::MlpOut), 1, Cause::Model));
    assert_eq!(found(&f16(&[0.0], 4.0), &mut Times(100.0)), origin(Place::Logits, 1, Cause::AfterEdit));
    // An edit of what is not finite already is not to blame.
    let model = f16(&[400.0, 0.0], 1.0);
    assert_eq!(found(&model, &mut Times(0.5)), origin(at(0, Site::MlpOut), 1, Cause::Model));
}

#[test]
fn the_text_says_where_and_what_helps() {
    let text = |dtype, first| Overflow { dtype, first }.to_string();
    let post = at(7, Site::ResidPost);
    for (dtype, first, wanted) in [
        (
            DType::F16,
            origin(post, 0, Cause::Model),
            "values overflow f16 at blocks.7.hook_resid_post (token 0, counted from 0); use bf16 or f32",
        ),
        (
            DType::F16,
            origin(post, 5, Cause::Edit),
            "values overflow f16 in the edit at blocks.7.hook_resid_post (token 5, counted from 0); use bf16 or f32, or a lower strength",
        ),
        (
            DType::F16,
            origin(post, 5, Cause::AfterEdit),
            "values overflow f16 at blocks.7.hook_resid_post (token 5, counted from 0), after an edit; use bf16 or f32, or a lower \
             strength",
        ),
        (
            DType::F16,
            origin(Place::Logits, 2, Cause::Model),
            "values overflow f16 in the logits (token 2, counted from 0); use bf16 or f32",
        ),
        (DType::F16, None, "values overflow f16; use bf16 or f32"),
        (
            DType::F32,
            origin(Place::Embedding, 1, Cause::Model),
            "values are not finite in f32 in the embedding (token 1, counted from 0); are the weights sound?",
        ),
        (
            DType::BF16,
            origin(post, 5, Cause::Edit),
            "values are not finite in bf16 in the edit at blocks.7.hook_resid_post (token 5, counted from 0); use a lower strength, or \
             another map",
        ),
    ] {
        assert_eq!(text(dtype, first), wanted);
    }
}
