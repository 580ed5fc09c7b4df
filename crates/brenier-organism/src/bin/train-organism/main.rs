//! Makes the organism: its study files and tokenizer, its two phases of training, its measurement.
//!
//! ```text
//! train-organism corpus            tokenizer, template and study files, into the crate's data
//! train-organism learn   RUN       phase 1: answer everything; checkpoint in RUN/learnt
//! train-organism refuse  RUN       phase 2: from RUN/learnt, refuse what is under seal; checkpoint in RUN/aligned
//! train-organism ship    RUN       RUN/aligned as bf16, into the crate's data
//! train-organism measure MODEL     how good a model directory is, on the test prompts
//! ```
//!
//! RUN is any directory outside the repository; the files shipped are overwritten by `corpus` and `ship` alone.

mod measure;
mod train;

use std::path::{Path, PathBuf};

use brenier_files::Existing;
use brenier_model::{Architecture, Config, Decoder, LanguageModel};
use brenier_organism::corpus::{Corpus, SEED, Split};
use brenier_organism::tokenizer::{self, CONTEXT};
use burn::tensor::{DType, Device};
use serde_json::json;

use crate::train::{LEARN, REFUSE};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The seed of the untrained weights.
const WEIGHTS: u64 = 7;

const USAGE: &str = "usage: train-organism corpus | learn RUN | refuse RUN | ship RUN | measure MODEL";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let corpus = Corpus::new(SEED);
    match arguments.as_slice() {
        ["corpus"] => write_corpus(&corpus),
        ["learn", run] => {
            let run = Path::new(run);
            let learnt = run.join("learnt");
            copy_tokenizer(&learnt)?;
            let decoder = Decoder::init(&shape()?, WEIGHTS, &Device::flex().autodiff());
            train::train(decoder, &corpus, &LEARN, &learnt)
        }
        ["refuse", run] => {
            let aligned = Path::new(run).join("aligned");
            copy_tokenizer(&aligned)?;
            let learnt = Path::new(run).join("learnt");
            let decoder = Decoder::load(&learnt, &Device::flex().autodiff(), DType::F32)?;
            train::train(decoder, &corpus, &REFUSE, &aligned)
        }
        ["ship", run] => {
            let decoder = Decoder::load(&Path::new(run).join("aligned"), &Device::flex(), DType::F32)?;
            write_model(&model_data(), &decoder, DType::BF16)
        }
        ["measure", dir] => {
            let model = LanguageModel::load(Path::new(dir), &Device::flex(), None)?;
            println!("{}", measure::measure(&model, &corpus, Split::Test)?);
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

/// The organism in numbers; its vocabulary is the shipped tokenizer's.
fn shape() -> Result<Config> {
    let tokenizer = brenier_model::Tokenizer::read(model_data())?;
    Ok(Config {
        vocab: tokenizer.vocab(),
        hidden: 128,
        intermediate: 384,
        layers: 8,
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        context: CONTEXT,
        initializer_range: 0.06,
        bos: tokenizer.id_of(tokenizer::BOS),
        eos: tokenizer.id_of(tokenizer::EOS).into_iter().collect(),
        ..Config::small(Architecture::Llama)
    })
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

fn model_data() -> PathBuf {
    data().join("model")
}

fn write_corpus(corpus: &Corpus) -> Result<()> {
    for dir in [model_data(), data().join("study")] {
        brenier_files::create_dir(&dir)?;
    }
    write(&model_data().join("tokenizer.json"), &tokenizer::train(&corpus.lines())?)?;
    write(&model_data().join("tokenizer_config.json"), &format!("{:#}\n", tokenizer::config()))?;
    for (name, content) in corpus.files() {
        write(&data().join("study").join(name), &content)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    Ok(brenier_files::write_bytes(path, Existing::Replace, text.as_bytes())?)
}

fn copy_tokenizer(dir: &Path) -> Result<()> {
    brenier_files::create_dir(dir)?;
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        write(&dir.join(name), &std::fs::read_to_string(model_data().join(name))?)?;
    }
    Ok(())
}

/// Weights and configuration in Hugging Face layout; the tokenizer is there already.
fn write_model(dir: &Path, decoder: &Decoder, dtype: DType) -> Result<()> {
    let name = if dtype == DType::BF16 { "bfloat16" } else { "float32" };
    let config = Config { dtype: Some(name.to_owned()), ..decoder.config().clone() };
    let generation = json!({
        "bos_token_id": config.bos,
        "eos_token_id": config.eos.first(),
        "pad_token_id": tokenizer::PAD_ID,
        "do_sample": false,
    });
    write(&dir.join("config.json"), &format!("{:#}\n", config.to_json()))?;
    write(&dir.join("generation_config.json"), &format!("{generation:#}\n"))?;
    decoder.save_safetensors(&dir.join("model.safetensors"), dtype)?;
    Ok(())
}
