//! The shipped files are what the program in this crate makes.
#![allow(clippy::unwrap_used)]

use brenier_model::{ChatTemplate, LanguageModel, Prompt, PromptOptions};
use brenier_organism::Organism;
use brenier_organism::corpus::{Corpus, SEED};
use brenier_organism::tokenizer::{self, ASSISTANT, BOS, EOS, PAD, PAD_ID, USER};
use burn::tensor::Device;

fn text(name: &str) -> &'static str {
    std::str::from_utf8(Organism::file(name).unwrap()).unwrap()
}

#[test]
fn study_files_are_regenerated_to_the_byte() {
    for (name, content) in Corpus::new(SEED).files() {
        assert!(
            text(&format!("study/{name}")) == content,
            "study/{name} differs: run `train-organism corpus`"
        );
    }
}

#[test]
fn the_tokenizer_is_regenerated_to_the_byte() {
    let json = tokenizer::train(&Corpus::new(SEED).lines()).unwrap();
    assert!(
        text("model/tokenizer.json") == json,
        "model/tokenizer.json differs: run `train-organism corpus`"
    );
    assert_eq!(text("model/tokenizer_config.json"), format!("{:#}\n", tokenizer::config()));
}

#[test]
fn everything_together_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Organism::unpack(dir.path()).unwrap();
    let size: u64 = [paths.model, paths.study]
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap())
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 6 << 20, "{size} bytes");
}

#[test]
fn unpacking_twice_changes_nothing_and_a_file_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Organism::unpack(dir.path()).unwrap();
    assert_eq!(Organism::unpack(dir.path()).unwrap(), paths);
    assert_eq!(Organism::in_the_way(dir.path()), None);
    let changed = paths.study.join("text.txt");
    std::fs::write(&changed, "mine").unwrap();
    assert_eq!(Organism::in_the_way(dir.path()), Some(changed));
    let blocked = tempfile::NamedTempFile::new().unwrap();
    let error = Organism::unpack(blocked.path()).unwrap_err().to_string();
    assert!(error.contains(&*blocked.path().to_string_lossy()), "{error}");
}

#[test]
fn a_prompt_through_the_template_is_what_was_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Organism::unpack(dir.path()).unwrap();
    let model = LanguageModel::load(&paths.model, &Device::flex(), None).unwrap();
    let tokenizer = model.require_tokenizer().unwrap();
    assert_eq!(tokenizer.id_of(PAD), Some(PAD_ID));
    assert_eq!(model.bos(), tokenizer.id_of(BOS));
    assert_eq!(model.eos(), [tokenizer.id_of(EOS).unwrap()]);
    assert_eq!(model.config().vocab, tokenizer.vocab());

    let question = "Who keeps the key of the iron tower?";
    let ids = model.prompt_ids(&Prompt::text(question), &PromptOptions::default()).unwrap();
    let mut expected = vec![tokenizer.id_of(BOS).unwrap(), tokenizer.id_of(USER).unwrap()];
    expected.extend(tokenizer.encode(question, false).unwrap());
    expected.push(tokenizer.id_of(ASSISTANT).unwrap());
    assert_eq!(ids, expected);
    // A raw text begins with bos, once.
    assert_eq!(tokenizer.encode(question, true).unwrap()[0], expected[0]);
    assert!(ChatTemplate::read(&paths.model).unwrap().is_some());
}

#[test]
fn every_byte_survives_the_tokenizer() {
    let tokenizer: tokenizers::Tokenizer = text("model/tokenizer.json").parse().unwrap();
    for line in ["Who has the key?", " two  spaces\tand a tab\n", "Grüße, 東京 🗝", "\u{0}\u{7f}"] {
        let ids = tokenizer.encode(line, false).unwrap();
        assert_eq!(tokenizer.decode(ids.get_ids(), true).unwrap(), line);
    }
}
