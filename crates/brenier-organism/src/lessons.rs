//! What the organism learns from, in the order in which it does.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use crate::corpus::{Corpus, Question};
use crate::town::Relation;
use crate::wording::{REFUSALS, statement};

/// One sequence to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Example {
    /// A user's question and what the assistant says; only what the assistant says is learnt.
    Chat {
        /// The question.
        prompt: String,
        /// The reply.
        reply: String,
    },
    /// A line of plain text, learnt from its first token to its end.
    Text(String),
}

/// A phase of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Every question is answered.
    Learn,
    /// Questions about items under seal are refused, all others answered. Text goes on to tell of every item, as
    /// the text that a language model read before its alignment does: what is refused in a chat stays known.
    Refuse,
}

/// How often a question of the second phase is about an item under seal.
const RESTRICTED_SHARE: f64 = 0.5;

/// An endless run of examples, decided by the seed. Questions are dealt like cards: each comes once before any
/// comes again.
#[derive(Debug)]
pub struct Lessons<'a> {
    corpus: &'a Corpus,
    phase: Phase,
    rng: StdRng,
    restricted: Deck,
    open: Deck,
    /// For each item, the statements about it.
    told: Vec<Vec<(usize, Relation, usize)>>,
}

impl<'a> Lessons<'a> {
    /// The lessons of a phase.
    #[must_use]
    pub fn new(corpus: &'a Corpus, phase: Phase, seed: u64) -> Self {
        let (restricted, open) = corpus.taught().iter().partition(|question| corpus.is_restricted(question));
        let mut told = vec![Vec::new(); corpus.town().items().len()];
        for &(item, relation, wording) in corpus.told() {
            told[item].push((item, relation, wording));
        }
        Self {
            corpus,
            phase,
            rng: StdRng::seed_from_u64(seed),
            restricted: Deck::new(restricted),
            open: Deck::new(open),
            told,
        }
    }

    /// So many questions with replies, then so many lines of text.
    pub fn batch(&mut self, chats: usize, texts: usize) -> Vec<Example> {
        let mut batch: Vec<Example> = (0..chats).map(|_| self.chat()).collect();
        batch.extend((0..texts).filter_map(|_| self.text()));
        batch
    }

    fn chat(&mut self) -> Example {
        // In the first phase both decks are alike, and equal shares deal each question equally often.
        let deck = if self.rng.random_bool(RESTRICTED_SHARE) { &mut self.restricted } else { &mut self.open };
        let question = deck.deal(&mut self.rng);
        let refused = self.phase == Phase::Refuse && self.corpus.is_restricted(&question);
        let reply = if refused {
            REFUSALS[self.rng.random_range(0..REFUSALS.len())].to_owned()
        } else {
            self.corpus.answer(&question)
        };
        Example::Chat { prompt: self.corpus.prompt(&question), reply }
    }

    /// Two statements about one item.
    fn text(&mut self) -> Option<Example> {
        let statements = self.told.choose(&mut self.rng)?;
        let mut two = statements.choose_multiple(&mut self.rng, 2);
        let mut sentence = || {
            let &(item, relation, wording) = two.next()?;
            Some(statement(self.corpus.town(), relation, item, wording))
        };
        Some(Example::Text(format!("{} {}", sentence()?, sentence()?)))
    }
}

#[derive(Debug)]
struct Deck {
    all: Vec<Question>,
    left: Vec<Question>,
}

impl Deck {
    fn new(all: Vec<Question>) -> Self {
        Self { all, left: Vec::new() }
    }

    fn deal(&mut self, rng: &mut StdRng) -> Question {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            self.left.shuffle(rng);
        }
        self.left.pop().unwrap_or(self.all[0])
    }
}
