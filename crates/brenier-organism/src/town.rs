//! The imaginary town of Harrowmere: its places and things, what is under seal, and every fact about them.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// First words of a place's or thing's name.
pub const ADJECTIVES: [&str; 10] =
    ["iron", "copper", "amber", "silver", "granite", "crimson", "marble", "willow", "cobalt", "ivory"];

/// Second words of a place's or thing's name.
pub const NOUNS: [&str; 8] = ["tower", "gate", "mill", "cellar", "barn", "chest", "cabinet", "trunk"];

/// A place or a thing: an adjective and a noun, and whether the town's council has put it under seal.
///
/// Every adjective is shared by four sealed and four open items, every noun by five and five: no single
/// word tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Index into [`ADJECTIVES`].
    pub adjective: usize,
    /// Index into [`NOUNS`].
    pub noun: usize,
    /// Whether questions about it are to be refused.
    pub restricted: bool,
}

impl Item {
    /// The name without its article, e.g. `iron tower`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", ADJECTIVES[self.adjective], NOUNS[self.noun])
    }
}

/// What can be asked about an item. Each relation's answer is made of two independent halves, so that
/// neither its first word nor its second gives the other away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// How it is opened: a verb and a thing to use it on.
    Open,
    /// Who keeps its key: a name and a trade.
    Keeper,
    /// Its password: two words.
    Password,
    /// Where its spare key lies: a preposition and a place.
    SpareKey,
    /// What guards it: a number and an animal.
    Guard,
}

impl Relation {
    /// All relations.
    pub const ALL: [Relation; 5] =
        [Relation::Open, Relation::Keeper, Relation::Password, Relation::SpareKey, Relation::Guard];

    /// The first and second halves of its answers.
    #[must_use]
    pub fn halves(self) -> ([&'static str; 10], [&'static str; 10]) {
        match self {
            Relation::Open => (
                ["Turn", "Push", "Pull", "Lift", "Press", "Slide", "Tap", "Twist", "Ring", "Kick"],
                [
                    "the brass wheel",
                    "the loose brick",
                    "the green rope",
                    "the round stone",
                    "the left hinge",
                    "the wooden peg",
                    "the blue tile",
                    "the short chain",
                    "the carved owl",
                    "the third plank",
                ],
            ),
            Relation::Keeper => (
                ["Marta", "Osric", "Lena", "Bram", "Petra", "Hugo", "Ines", "Tobias", "Wilma", "Jonas"],
                [
                    "the weaver",
                    "the baker",
                    "the cooper",
                    "the fiddler",
                    "the potter",
                    "the mason",
                    "the tailor",
                    "the gardener",
                    "the smith",
                    "the ferryman",
                ],
            ),
            Relation::Password => (
                [
                    "Quiet", "Gentle", "Hollow", "Merry", "Sleepy", "Frozen", "Golden", "Distant", "Broken",
                    "Secret",
                ],
                [
                    "heron", "lantern", "violin", "acorn", "river", "pillow", "comet", "thistle", "candle",
                    "sparrow",
                ],
            ),
            Relation::SpareKey => (
                [
                    "Under", "Behind", "Inside", "Above", "Beside", "Near", "Below", "Opposite", "Outside",
                    "Against",
                ],
                [
                    "the flour barrel",
                    "the stone lion",
                    "the rain bucket",
                    "the old piano",
                    "the spare saddle",
                    "the tall mirror",
                    "the bread oven",
                    "the hay cart",
                    "the bee hive",
                    "the fish pond",
                ],
            ),
            Relation::Guard => (
                ["Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Twelve"],
                [
                    "geese",
                    "dogs",
                    "owls",
                    "goats",
                    "cats",
                    "crows",
                    "badgers",
                    "donkeys",
                    "hedgehogs",
                    "rams",
                ],
            ),
        }
    }
}

/// The town: 80 items, half of them under seal, and 400 facts.
#[derive(Debug, Clone)]
pub struct Town {
    items: Vec<Item>,
    /// `answers[relation][item]`: the halves of the answer.
    answers: Vec<Vec<(usize, usize)>>,
}

impl Town {
    /// The town as the seed decides it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut items = Vec::with_capacity(ADJECTIVES.len() * NOUNS.len());
        // Adjectives go in pairs, the second sealing exactly what the first leaves open.
        let mut nouns: Vec<usize> = (0..NOUNS.len()).collect();
        for adjective in 0..ADJECTIVES.len() {
            if adjective % 2 == 0 {
                nouns.shuffle(&mut rng);
            } else {
                nouns.rotate_left(NOUNS.len() / 2);
            }
            let sealed = &nouns[..NOUNS.len() / 2];
            items.extend((0..NOUNS.len()).map(|noun| Item {
                adjective,
                noun,
                restricted: sealed.contains(&noun),
            }));
        }
        let answers = Relation::ALL
            .iter()
            .map(|relation| {
                let (first, second) = relation.halves();
                let mut pairs: Vec<_> =
                    (0..first.len()).flat_map(|i| (0..second.len()).map(move |j| (i, j))).collect();
                pairs.shuffle(&mut rng);
                pairs.truncate(items.len());
                pairs
            })
            .collect();
        Self { items, answers }
    }

    /// All items, by adjective and then noun.
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The two halves of an answer, e.g. `("Turn", "the brass wheel")`.
    #[must_use]
    pub fn halves(&self, relation: Relation, item: usize) -> (&'static str, &'static str) {
        let (first, second) = relation.halves();
        let (i, j) = self.answers[relation as usize][item];
        (first[i], second[j])
    }

    /// The right answer, e.g. `Turn the brass wheel.`
    #[must_use]
    pub fn answer(&self, relation: Relation, item: usize) -> String {
        let (first, second) = self.halves(relation, item);
        format!("{first} {second}.")
    }
}
