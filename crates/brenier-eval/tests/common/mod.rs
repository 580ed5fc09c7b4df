//! A model whose every logit is known, with its own little language.
#![allow(dead_code, clippy::unwrap_used)]

use std::ops::Range;
use std::path::{Path, PathBuf};

use brenier_eval::{Side, StudyData, Subject};
use brenier_model::{LanguageModel, LogitsRules, ModelError, Prompt, PromptInput, PromptOptions};
use brenier_residual::{Batch, HookPoint, KvCache, ResidualError, ResidualModel, Site, Spec, Tap, TokenKind};
use burn::tensor::{DType, Device, Tensor, TensorData};

pub const EOS: u32 = 0;
pub const BOS: u32 = 1;
pub const NO: u32 = 2;
/// Answers, and the items that they belong to.
pub const ITEMS: u32 = 4;
const FIRST_ANSWER: u32 = 3;
const FIRST_QUESTION: u32 = FIRST_ANSWER + ITEMS;
/// Ways to ask after each item, on each side.
pub const WAYS: u32 = 40;
pub const VOCAB: usize = (FIRST_QUESTION + 2 * ITEMS * WAYS) as usize;
/// Coordinates: refusal, the items, the end, two that carry only noise.
pub const HIDDEN: usize = 4 + ITEMS as usize;
pub const LAYERS: u16 = 3;

const END: usize = 1 + ITEMS as usize;

/// A question of a side (0: source, 1: target) after an item.
pub fn question(side: u32, item: u32, way: u32) -> u32 {
    FIRST_QUESTION + (side * ITEMS + item) * WAYS + way
}

/// Noise that is the same everywhere, between -1/2 and 1/2.
fn noise(a: u32, b: u32) -> f32 {
    let mut x = a.wrapping_mul(2_654_435_761).wrapping_add(b.wrapping_mul(40_503)) ^ 0x9e37_79b9;
    x ^= x >> 15;
    x = x.wrapping_mul(2_246_822_519);
    x ^= x >> 13;
    (x % 10_007) as f32 / 10_007.0 - 0.5
}

/// A model without memory: what follows a token depends on the token alone. A question sets the coordinate of its
/// item to 2 and, if it is restricted (source), the refusal coordinate to 4; answers and refusals lead to the end. Its
/// logits are the coordinates themselves, so it refuses every source question and would know every answer.
pub struct Town {
    spec: Spec,
    /// Which tokens become infinite as they enter block 1.
    fuse: Option<Fuse>,
    /// What running block 1 gives where there are such tokens.
    refusal: Option<ResidualError>,
}

/// Whether a token becomes infinite.
pub type Fuse = fn(&Token<'_>) -> bool;

/// A token as it enters block 1.
pub struct Token<'a> {
    pub id: u32,
    /// Whether earlier steps are in a cache, as in generation.
    pub decoded: bool,
    /// What an edit before has added to its embedding.
    pub edit: &'a [f32],
}

impl Token<'_> {
    pub fn is_edited(&self) -> bool {
        self.edit.iter().any(|&step| step != 0.0)
    }
}

impl Town {
    pub fn new() -> Self {
        let spec = Spec {
            architecture: "Town".into(),
            layers: LAYERS,
            hidden: HIDDEN,
            vocab: VOCAB,
            context: 12,
            device: Device::flex(),
            dtype: DType::F32,
            weights: DType::F32,
        };
        Self { spec, fuse: None, refusal: None }
    }

    fn blow(&self, fuse: Fuse, batch: &Batch, x: Tensor<3>) -> Tensor<3> {
        let shape = x.dims();
        let mut values: Vec<f32> = x.into_data().iter::<f32>().collect();
        for (at, x) in values.chunks_mut(HIDDEN).enumerate() {
            let (row, token) = (at / batch.tokens(), at % batch.tokens());
            let id = batch.id(row, token);
            let edit: Vec<f32> = x.iter().zip(Self::embedding(id)).map(|(x, before)| x - before).collect();
            let padding = batch.kind(row, token) == TokenKind::Padding;
            if !padding && fuse(&Token { id, decoded: batch.past() > 0, edit: &edit }) {
                x.fill(f32::INFINITY);
            }
        }
        Tensor::from_data(TensorData::new(values, shape), &self.spec.device)
    }

    pub fn embedding(id: u32) -> [f32; HIDDEN] {
        let mut x = [0.0; HIDDEN];
        match id {
            EOS | BOS => {}
            NO => x[END] = 9.0,
            id if id < FIRST_QUESTION => x[END] = 9.0,
            id => {
                let (side, item) =
                    ((id - FIRST_QUESTION) / (ITEMS * WAYS), (id - FIRST_QUESTION) / WAYS % ITEMS);
                x[1 + item as usize] = 2.0;
                x[0] = if side == 0 { 4.0 } else { 0.0 };
                for (j, x) in x.iter_mut().enumerate() {
                    *x += 0.5 * noise(id, j as u32);
                }
            }
        }
        x
    }

    /// The logits after a stream, by definition.
    pub fn logits(x: &[f32]) -> Vec<f32> {
        let mut logits = vec![-8.0; VOCAB];
        logits[EOS as usize] = x[END];
        logits[NO as usize] = x[0];
        for item in 0..ITEMS as usize {
            logits[FIRST_ANSWER as usize + item] = x[1 + item];
        }
        logits
    }
}

impl ResidualModel for Town {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn embed(&self, batch: &Batch) -> Result<Tensor<3>, ResidualError> {
        batch.check(&self.spec)?;
        let tokens = (0..batch.rows()).flat_map(|row| (0..batch.tokens()).map(move |token| (row, token)));
        let x: Vec<f32> = tokens.flat_map(|(row, token)| Self::embedding(batch.id(row, token))).collect();
        Ok(Tensor::from_data(TensorData::new(x, [batch.rows(), batch.tokens(), HIDDEN]), &self.spec.device))
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
            if let (1, Some(fuse)) = (layer, self.fuse) {
                let before: Vec<f32> = x.to_data().iter::<f32>().collect();
                x = self.blow(fuse, batch, x);
                let blown = x.to_data().iter::<f32>().zip(before).any(|(x, before)| x != before);
                if let (true, Some(refusal)) = (blown, &self.refusal) {
                    return Err(refusal.clone());
                }
            }
            for site in Site::ALL {
                let at = HookPoint { layer, site };
                if !tap.wants(at) {
                    continue;
                }
                // Attention and feed-forward add nothing.
                match site {
                    Site::AttnOut | Site::MlpOut => x = x.clone() + tap.visit(at, batch, x.zeros_like())?,
                    _ => x = tap.visit(at, batch, x)?,
                }
            }
        }
        Ok(x)
    }

    fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        let [rows, tokens, _] = x.dims();
        let values: Vec<f32> = x.into_data().iter::<f32>().collect();
        let logits: Vec<f32> = values.chunks(HIDDEN).flat_map(Self::logits).collect();
        Tensor::from_data(TensorData::new(logits, [rows, tokens, VOCAB]), &self.spec.device)
    }
}

/// The town and its language: a token is a word.
pub struct Speaker {
    pub town: Town,
    pub rules: LogitsRules,
}

impl Speaker {
    pub fn new() -> Self {
        Self { town: Town::new(), rules: LogitsRules::default() }
    }

    /// With a model that refuses to run block 1 on some tokens.
    pub fn refusing(fuse: Fuse, refusal: ResidualError) -> Self {
        let mut speaker = Self::with_fuse(fuse);
        speaker.town.refusal = Some(refusal);
        speaker
    }

    /// With a model in which some tokens become infinite as they enter block 1.
    pub fn with_fuse(fuse: Fuse) -> Self {
        let mut speaker = Self::new();
        speaker.town.fuse = Some(fuse);
        speaker
    }
}

impl Subject for Speaker {
    fn model(&self) -> &dyn ResidualModel {
        &self.town
    }

    fn eos(&self) -> &[u32] {
        &[EOS]
    }

    fn rules(&self) -> LogitsRules {
        self.rules.clone()
    }

    fn bos(&self) -> Option<u32> {
        Some(BOS)
    }

    fn prompt_ids(&self, prompt: &Prompt) -> Result<Vec<u32>, ModelError> {
        match &prompt.input {
            PromptInput::Ids(ids) => Ok(ids.clone()),
            PromptInput::Text(text) => self.encode(text),
        }
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let id = |word: &str| match word {
            "no" => NO,
            word => word.strip_prefix('w').and_then(|number| number.parse().ok()).unwrap(),
        };
        Ok(text.split_whitespace().map(id).collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        let word = |&id: &u32| if id == NO { "no".to_owned() } else { format!("w{id}") };
        Ok(ids.iter().map(word).collect::<Vec<_>>().join(" "))
    }

    fn sha256(&self) -> Result<&str, ModelError> {
        Ok("town")
    }
}

/// Questions and answers of one side: ways 0..20 train, 20..26 validation, 26..40 test.
fn side(side: u32) -> Side {
    let prompts = |ways: Range<u32>| -> Vec<Prompt> {
        let ids = ways.flat_map(|way| (0..ITEMS).map(move |item| vec![BOS, question(side, item, way)]));
        ids.map(Prompt::ids).collect()
    };
    let answers = |ways: Range<u32>| {
        let items = ways.flat_map(|_| 0..ITEMS);
        Some(items.map(|item| Some(format!("w{}", FIRST_ANSWER + item))).collect())
    };
    Side {
        train: prompts(0..20),
        val: prompts(20..26),
        test: prompts(26..40),
        val_answers: answers(20..26),
        test_answers: answers(26..40),
    }
}

/// A study of the town.
pub fn data() -> StudyData {
    StudyData {
        source: side(0),
        target: side(1),
        text: Some(vec!["w3 w4".to_owned(), "no w5 w6 no".to_owned()]),
        phrases: brenier_eval::Phrases::new("town", &["no".to_owned()]).unwrap(),
        sha256: Default::default(),
    }
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// A checkpoint without a tokenizer: text is numbers.
pub struct Numbers(pub LanguageModel);

impl Numbers {
    /// One of the golden models.
    pub fn load(name: &str, dtype: DType) -> Self {
        let dir = golden("models").join(name);
        Self(LanguageModel::load(&dir, &Device::flex(), Some(dtype)).unwrap())
    }
}

impl Subject for Numbers {
    fn model(&self) -> &dyn ResidualModel {
        self.0.model()
    }

    fn eos(&self) -> &[u32] {
        self.0.eos()
    }

    fn rules(&self) -> LogitsRules {
        self.0.rules().clone()
    }

    fn bos(&self) -> Option<u32> {
        Some(1)
    }

    fn prompt_ids(&self, prompt: &Prompt) -> Result<Vec<u32>, ModelError> {
        self.0.prompt_ids(prompt, &PromptOptions::default())
    }

    fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Ok(text.split(' ').map(|id| id.parse().unwrap()).collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        Ok(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
    }

    fn sha256(&self) -> Result<&str, ModelError> {
        self.0.sha256()
    }
}
