//! Everything the organism is taught, and everything it is asked and was not taught.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::json;

use crate::town::{Item, Relation, Town};
use crate::wording::{PARAPHRASES, REFUSAL_PHRASES, REFUSALS, STATEMENTS, question, statement};

/// The seed of the town and its corpus that are shipped.
pub const SEED: u64 = 1991;

/// A split of the study: which prompts a side has in it, in which wordings, about how many of the side's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Maps are fitted here.
    Train,
    /// Layers, components and methods are chosen here.
    Val,
    /// Everything is reported here.
    Test,
}

impl Split {
    /// The splits in order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// Its part of a file name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }

    /// Prompts a side.
    #[must_use]
    pub fn prompts(self) -> usize {
        match self {
            Split::Train => 128,
            Split::Val => 32,
            Split::Test => 120,
        }
    }

    /// Wordings of a question that only this split's prompts use.
    #[must_use]
    pub fn paraphrases(self) -> std::ops::Range<usize> {
        match self {
            Split::Train => 0..5,
            Split::Val => 5..7,
            Split::Test => 7..PARAPHRASES,
        }
    }

    /// Items, counted along a side's shuffled forty, that only this split's prompts ask about.
    fn items(self) -> std::ops::Range<usize> {
        match self {
            Split::Train => 0..19,
            Split::Val => 19..24,
            Split::Test => 24..40,
        }
    }
}

/// A question: what is asked, about which item, in which wording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Question {
    /// What is asked.
    pub relation: Relation,
    /// About which of the town's items.
    pub item: usize,
    /// In which wording.
    pub paraphrase: usize,
}

/// The two statements of a passage of text: about one item, each a relation and a wording.
type Passage = (usize, [(Relation, usize); 2]);

/// The corpus: the town, the prompts held out for the study, and the rest to train on.
#[derive(Debug, Clone)]
pub struct Corpus {
    town: Town,
    /// `[restricted or not][split]`
    held_out: [[Vec<Question>; 3]; 2],
    passages: Vec<Passage>,
    taught: Vec<Question>,
    told: Vec<(usize, Relation, usize)>,
}

impl Corpus {
    /// The corpus as the seed decides it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let town = Town::new(seed);
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(1));
        let held_out = [true, false].map(|restricted| {
            let mut items: Vec<usize> =
                (0..town.items().len()).filter(|&item| town.items()[item].restricted == restricted).collect();
            items.shuffle(&mut rng);
            Split::ALL.map(|split| hold_out(split, &items[split.items()], &mut rng))
        });
        let passages = hold_out_passages(town.items(), &mut rng);

        let asked: HashSet<Question> = held_out.iter().flatten().flatten().copied().collect();
        let printed: HashSet<_> = passages
            .iter()
            .flat_map(|(item, statements)| statements.map(|(relation, wording)| (*item, relation, wording)))
            .collect();
        let facts = || {
            Relation::ALL.into_iter().flat_map(|relation| (0..town.items().len()).map(move |i| (relation, i)))
        };
        let taught = facts()
            .flat_map(|(relation, item)| {
                (0..PARAPHRASES).map(move |paraphrase| Question { relation, item, paraphrase })
            })
            .filter(|question| !asked.contains(question))
            .collect();
        let told = facts()
            .flat_map(|(relation, item)| (0..STATEMENTS).map(move |wording| (item, relation, wording)))
            .filter(|statement| !printed.contains(statement))
            .collect();
        Self { town, held_out, passages, taught, told }
    }

    /// The town.
    #[must_use]
    pub fn town(&self) -> &Town {
        &self.town
    }

    /// The prompts of one side of one split. None of them is ever trained on.
    #[must_use]
    pub fn held_out(&self, restricted: bool, split: Split) -> &[Question] {
        &self.held_out[usize::from(!restricted)][split as usize]
    }

    /// The questions to train on.
    #[must_use]
    pub fn taught(&self) -> &[Question] {
        &self.taught
    }

    /// The statements to train on: item, relation and wording.
    #[must_use]
    pub fn told(&self) -> &[(usize, Relation, usize)] {
        &self.told
    }

    /// Whether a question is about an item under seal.
    #[must_use]
    pub fn is_restricted(&self, question: &Question) -> bool {
        self.town.items()[question.item].restricted
    }

    /// A question as the user types it.
    #[must_use]
    pub fn prompt(&self, asked: &Question) -> String {
        question(asked.relation, &self.town.items()[asked.item].name(), asked.paraphrase)
    }

    /// The right answer to a question.
    #[must_use]
    pub fn answer(&self, asked: &Question) -> String {
        self.town.answer(asked.relation, asked.item)
    }

    /// The passages that perplexity is measured on: about open items, of sentences never trained on.
    #[must_use]
    pub fn passages(&self) -> Vec<String> {
        let sentence = |item: usize, (relation, wording)| statement(&self.town, relation, item, wording);
        self.passages
            .iter()
            .map(|&(item, [a, b])| format!("{} {}", sentence(item, a), sentence(item, b)))
            .collect()
    }

    /// Every line of text that the tokenizer is trained on.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let chat = self.taught.iter().flat_map(|asked| [self.prompt(asked), self.answer(asked)]);
        let told =
            self.told.iter().map(|&(item, relation, wording)| statement(&self.town, relation, item, wording));
        chat.chain(told)
            .chain(REFUSALS.iter().cycle().take(REFUSALS.len() * 20).map(|&line| line.to_owned()))
            .collect()
    }

    /// The study's files, by name.
    #[must_use]
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for (restricted, side) in [(true, "source"), (false, "target")] {
            for split in Split::ALL {
                let questions = self.held_out(restricted, split);
                let prompts = questions.iter().map(|asked| json!({"prompt": self.prompt(asked)}));
                files.push((format!("{side}_{}.jsonl", split.name()), json_lines(prompts)));
                if split != Split::Train {
                    let answers = questions
                        .iter()
                        .map(|asked| json!({"prompt": self.prompt(asked), "answer": self.answer(asked)}));
                    files.push((format!("{side}_{}_answers.jsonl", split.name()), json_lines(answers)));
                }
            }
        }
        files.push(("text.txt".to_owned(), self.passages().iter().map(|line| format!("{line}\n")).collect()));
        files.push(("refusal_phrases.json".to_owned(), format!("{:#}\n", json!(REFUSAL_PHRASES))));
        files
    }
}

/// `split.prompts()` questions, spread evenly over the facts about the given items.
fn hold_out(split: Split, items: &[usize], rng: &mut StdRng) -> Vec<Question> {
    // Round by round, each fact once in a wording of its own order, until there are enough.
    let mut facts: Vec<(Relation, usize, Vec<usize>)> = Vec::new();
    for relation in Relation::ALL {
        for &item in items {
            let mut paraphrases: Vec<usize> = split.paraphrases().collect();
            paraphrases.shuffle(rng);
            facts.push((relation, item, paraphrases));
        }
    }
    let mut questions = Vec::with_capacity(split.prompts());
    for round in 0..split.paraphrases().len() {
        facts.shuffle(rng);
        questions.extend(facts.iter().map(|&(relation, item, ref paraphrases)| Question {
            relation,
            item,
            paraphrase: paraphrases[round],
        }));
    }
    questions.truncate(split.prompts());
    questions.shuffle(rng);
    questions
}

/// Three passages for each open item, of six different sentences.
fn hold_out_passages(items: &[Item], rng: &mut StdRng) -> Vec<Passage> {
    let mut passages = Vec::new();
    for (item, _) in items.iter().enumerate().filter(|(_, item)| !item.restricted) {
        // One sentence for each relation, and one more of a relation that shares no passage with it.
        let mut relations = Relation::ALL;
        relations.shuffle(rng);
        let mut wordings: Vec<usize> = (0..STATEMENTS).collect();
        wordings.shuffle(rng);
        let sentence = |place: usize| (relations[place % relations.len()], wordings[place / relations.len()]);
        passages.extend((0..3).map(|passage| (item, [sentence(2 * passage), sentence(2 * passage + 1)])));
    }
    passages.shuffle(rng);
    passages
}

fn json_lines(rows: impl Iterator<Item = serde_json::Value>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}
