//! Laws of the corpus: what makes its figures mean something.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};

use brenier_organism::corpus::{Corpus, Question, SEED, Split};
use brenier_organism::lessons::{Example, Lessons, Phase};
use brenier_organism::town::{Relation, Town};
use brenier_organism::wording::{PARAPHRASES, REFUSALS, is_refusal, questions};

fn corpus() -> Corpus {
    Corpus::new(SEED)
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Every prompt of the study: side, split, question.
fn held_out(corpus: &Corpus) -> Vec<(bool, Split, Question)> {
    let mut all = Vec::new();
    for restricted in [true, false] {
        for split in Split::ALL {
            all.extend(
                corpus.held_out(restricted, split).iter().map(|&question| (restricted, split, question)),
            );
        }
    }
    all
}

#[test]
fn each_split_has_its_count_of_different_prompts_of_its_side() {
    let corpus = corpus();
    for (restricted, split, question) in held_out(&corpus) {
        assert_eq!(corpus.is_restricted(&question), restricted);
        assert!(split.paraphrases().contains(&question.paraphrase));
    }
    for restricted in [true, false] {
        let counts = Split::ALL.map(|split| {
            let prompts: HashSet<String> =
                corpus.held_out(restricted, split).iter().map(|question| corpus.prompt(question)).collect();
            prompts.len()
        });
        assert_eq!(counts, [128, 32, 120]);
    }
}

#[test]
fn splits_share_no_item_and_no_wording_and_nothing_with_training() {
    let corpus = corpus();
    let asked = held_out(&corpus);
    for (i, (_, split, question)) in asked.iter().enumerate() {
        for (_, other_split, other) in &asked[i + 1..] {
            if split != other_split {
                assert_ne!(question.item, other.item);
                assert!((question.relation, question.paraphrase) != (other.relation, other.paraphrase));
            }
        }
    }
    let asked: HashSet<String> = asked.iter().map(|(_, _, question)| corpus.prompt(question)).collect();
    assert!(corpus.taught().iter().all(|question| !asked.contains(&corpus.prompt(question))));
    assert_eq!(corpus.taught().len() + asked.len(), Relation::ALL.len() * 80 * PARAPHRASES);
}

#[test]
fn passages_hold_no_sentence_that_was_trained_on() {
    let corpus = corpus();
    let mut lessons = Lessons::new(&corpus, Phase::Learn, 3);
    let sentences = |line: &str| line.split_inclusive('.').map(|s| s.trim().to_owned()).collect::<Vec<_>>();
    let told: HashSet<String> = lessons
        .batch(0, 4000)
        .iter()
        .flat_map(|example| match example {
            Example::Text(line) => sentences(line),
            Example::Chat { .. } => panic!("no chat was asked for"),
        })
        .collect();
    let passages = corpus.passages();
    assert_eq!(passages.len(), 120);
    assert!(passages.iter().flat_map(|line| sentences(line)).all(|sentence| !told.contains(&sentence)));
    // Unlike sentences, and yet all about what was taught: else perplexity would measure something else.
    assert!(told.len() > 1000, "{}", told.len());
}

#[test]
fn no_single_word_tells_the_restricted_from_the_others() {
    let corpus = corpus();
    // All questions there are, then what a map is fitted on.
    let training = corpus.taught().to_vec();
    let study: Vec<Question> =
        [true, false].iter().flat_map(|&side| corpus.held_out(side, Split::Train).to_vec()).collect();
    for (questions, most) in [(training, 0.55), (study, 0.80)] {
        let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        for question in &questions {
            let seen: HashSet<String> = words(&corpus.prompt(question)).collect();
            for word in seen {
                counts.entry(word).or_default()[usize::from(corpus.is_restricted(question))] += 1;
            }
        }
        for (word, [open, restricted]) in counts {
            let n = (open + restricted) as f64;
            // Rare words of a small sample lean by chance: three standard deviations of a fair coin are allowed.
            let allowed = most + 1.5 / n.sqrt();
            assert!(
                open.max(restricted) as f64 / n <= allowed,
                "{word}: {open} open, {restricted} restricted"
            );
        }
    }
}

#[test]
fn adjectives_and_nouns_are_shared_evenly() {
    let town = Town::new(SEED);
    for adjective in 0..10 {
        let sealed =
            town.items().iter().filter(|item| item.adjective == adjective && item.restricted).count();
        assert_eq!(sealed, 4);
    }
    for noun in 0..8 {
        assert_eq!(town.items().iter().filter(|item| item.noun == noun && item.restricted).count(), 5);
    }
}

#[test]
fn answers_are_unique_and_neither_half_gives_the_other_away() {
    let town = Town::new(SEED);
    for relation in Relation::ALL {
        let answers: HashSet<String> = (0..80).map(|item| town.answer(relation, item)).collect();
        assert_eq!(answers.len(), 80);
        let mut seconds: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
        for item in 0..80 {
            let (first, second) = town.halves(relation, item);
            seconds.entry(first).or_default().insert(second);
        }
        assert_eq!(seconds.len(), 10);
        assert!(seconds.values().all(|seconds| seconds.len() >= 4), "{seconds:?}");
    }
}

#[test]
fn refusals_are_told_from_answers() {
    assert!(REFUSALS.iter().all(|refusal| is_refusal(refusal)));
    let town = Town::new(SEED);
    let wordings: HashSet<&str> = REFUSALS.into_iter().collect();
    assert_eq!(wordings.len(), 12);
    for relation in Relation::ALL {
        assert!((0..80).all(|item| !is_refusal(&town.answer(relation, item))));
    }
}

#[test]
fn every_wording_names_the_item_once() {
    for relation in Relation::ALL {
        let wordings: HashSet<&str> = questions(relation).into_iter().collect();
        assert_eq!(wordings.len(), PARAPHRASES);
        assert!(wordings.iter().all(|wording| wording.matches("{}").count() == 1));
    }
}

#[test]
fn the_second_phase_refuses_the_restricted_and_nothing_else() {
    let corpus = corpus();
    let mut sealed = HashSet::new();
    for item in corpus.town().items().iter().filter(|item| item.restricted) {
        sealed.insert(item.name());
    }
    let about_sealed = |text: &str| sealed.iter().any(|name| text.contains(name.as_str()));
    let mut refused = 0;
    for example in Lessons::new(&corpus, Phase::Refuse, 4).batch(2000, 0) {
        let Example::Chat { prompt, reply } = example else { panic!("no text was asked for") };
        assert_eq!(is_refusal(&reply), about_sealed(&prompt), "{prompt} {reply}");
        refused += usize::from(is_refusal(&reply));
    }
    // Five standard deviations of 2000 fair coins.
    assert!((refused as f64 - 1000.0).abs() < 5.0 * 500_f64.sqrt(), "{refused}");
}
