//! Shares of a list of prompts, for several processes.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::CaptureError;

/// One of `of` shares of a list, counted from 0: a run of neighbours, as long as that of any other share or one longer.
///
/// ```
/// use brenier_capture::Share;
///
/// let share: Share = "1/3".parse()?;
/// assert_eq!(share.range(10), 3..6);
/// assert_eq!(Share::default().range(10), 0..10);
/// assert!("3/3".parse::<Share>().is_err());
/// # Ok::<(), brenier_capture::CaptureError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Share {
    index: u32,
    of: u32,
}

impl Share {
    /// Share `index` of `of`, counted from 0; `None` where there is no such share.
    #[must_use]
    pub fn new(index: u32, of: u32) -> Option<Self> {
        (index < of).then_some(Self { index, of })
    }

    /// Which share, from 0.
    #[must_use]
    pub fn index(self) -> u32 {
        self.index
    }

    /// Number of shares.
    #[must_use]
    pub fn of(self) -> u32 {
        self.of
    }

    /// The share of `count` things.
    #[must_use]
    pub fn range(self, count: usize) -> Range<usize> {
        // In 128 bits: the product of a count and a number of shares may be beyond usize.
        let cut = |index: u32| (count as u128 * u128::from(index) / u128::from(self.of)) as usize;
        cut(self.index)..cut(self.index + 1)
    }
}

/// All of it.
impl Default for Share {
    fn default() -> Self {
        Self { index: 0, of: 1 }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Share {
    type Err = CaptureError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (index, of) = text.split_once('/')?;
            let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
            Self::new(number(index)?, number(of)?)
        };
        parse().ok_or_else(|| CaptureError::UnknownShare { name: text.to_owned() })
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl TryFrom<String> for Share {
    type Error = CaptureError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_spellings_are_refused() {
        for text in ["", "1", "/", "1/", "/2", "2/2", "-1/2", "+0/2", "0/0", "0/2/3", "0 /2", "0/4294967296"]
        {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
        assert_eq!("7/12".parse::<Share>().unwrap().to_string(), "7/12");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn shares_are_even_and_make_the_whole(count in 0usize..1000, of in 1u32..50) {
            let ranges: Vec<_> = (0..of).map(|index| Share::new(index, of).unwrap().range(count)).collect();
            prop_assert_eq!(ranges.first().unwrap().start, 0);
            prop_assert_eq!(ranges.last().unwrap().end, count);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
            let even = count / of as usize;
            prop_assert!(ranges.iter().all(|range| range.len() == even || range.len() == even + 1));
        }
    }
}
