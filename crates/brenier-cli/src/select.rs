//! Small languages of the command line: layers, dtype, batch.

use std::fmt;
use std::str::FromStr;

use brenier::DType;

use crate::values::count;

/// Which layers: `all`, numbers and ranges (`3,5-9`), or a range of relative depth (`40%-60%`); parts are joined
/// by commas.
#[derive(Debug, Clone, PartialEq)]
pub struct Layers(Vec<Part>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    All,
    Range(u16, u16),
    /// From floor(low L) to floor(high L) of L layers, the bounds in percent.
    Depth(f64, f64),
}

impl Layers {
    /// The chosen layers of a model of `layers` layers, ascending.
    pub fn of(&self, layers: u16) -> Result<Vec<u16>, String> {
        if layers == 0 {
            return Err("the model has no layer".to_owned());
        }
        for part in &self.0 {
            if let Part::Range(_, last) = *part
                && last >= layers
            {
                return Err(format!(
                    "--layers {self}: there is no layer {last}, the last of {layers} is {} (counted from 0)",
                    layers - 1
                ));
            }
        }
        Ok((0..layers).filter(|&layer| self.holds(layer, layers)).collect())
    }

    /// Whether everything is chosen.
    pub fn is_all(&self) -> bool {
        self.0.contains(&Part::All)
    }

    fn holds(&self, layer: u16, layers: u16) -> bool {
        // A bound of a depth as a layer; never beyond the last, and so no depth is empty.
        let at = |percent: f64| ((percent * f64::from(layers) / 100.0) as u16).min(layers - 1);
        self.0.iter().any(|part| match *part {
            Part::All => true,
            Part::Range(first, last) => (first..=last).contains(&layer),
            Part::Depth(low, high) => (at(low)..=at(high)).contains(&layer),
        })
    }
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |part: &str| {
            format!(
                "`{part}` is no choice of layers: expected all, a number, a range as 5-9, or a depth as 40%-60%"
            )
        };
        text.split(',')
            .map(|part| {
                let part = part.trim();
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let parsed = match (first.strip_suffix('%'), last.strip_suffix('%')) {
                    _ if part == "all" => Some(Part::All),
                    (Some(low), Some(high)) => {
                        percent(low).zip(percent(high)).map(|(low, high)| Part::Depth(low, high))
                    }
                    (None, None) => first
                        .parse()
                        .ok()
                        .zip(last.parse().ok())
                        .map(|(first, last)| Part::Range(first, last)),
                    _ => None,
                };
                match parsed {
                    Some(Part::Range(first, last)) if first > last => Err(bad(part)),
                    Some(Part::Depth(low, high)) if low > high => Err(bad(part)),
                    Some(parsed) => Ok(parsed),
                    None => Err(bad(part)),
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "," })?;
            match *part {
                Part::All => f.write_str("all")?,
                Part::Range(first, last) if first == last => write!(f, "{first}")?,
                Part::Range(first, last) => write!(f, "{first}-{last}")?,
                Part::Depth(low, high) => write!(f, "{low}%-{high}%")?,
            }
        }
        Ok(())
    }
}

fn percent(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| (0.0..=100.0).contains(value))
}

/// The dtype of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    Auto,
    F32,
    Bf16,
    F16,
}

impl Dtype {
    /// `None` leaves the choice to the model.
    pub fn wanted(self) -> Option<DType> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(DType::F32),
            Self::Bf16 => Some(DType::BF16),
            Self::F16 => Some(DType::F16),
        }
    }
}

impl FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            _ => Err("expected auto, f32, bf16 or f16".to_owned()),
        }
    }
}

/// How many prompts are computed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    Auto,
    Rows(usize),
}

impl Batch {
    /// `None` sizes batches by their tokens.
    pub fn rows(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Rows(rows) => Some(rows),
        }
    }
}

impl FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => match count::<1, 65_536>(text) {
                Ok(rows) => Ok(Self::Rows(rows)),
                Err(expected) => Err(format!("{expected}, or auto")),
            },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn layers(text: &str, of: u16) -> Result<Vec<u16>, String> {
        text.parse::<Layers>()?.of(of)
    }

    #[test]
    fn layers_are_numbers_ranges_and_depths() {
        assert_eq!(layers("all", 3), Ok(vec![0, 1, 2]));
        assert_eq!(layers("3,5-7", 10), Ok(vec![3, 5, 6, 7]));
        assert_eq!(layers("7,5-7", 10), Ok(vec![5, 6, 7]));
        assert_eq!(layers("40%-60%", 10), Ok(vec![4, 5, 6]));
        assert_eq!(layers("40%-60%", 3), Ok(vec![1]));
        assert_eq!(layers("100%-100%", 8), Ok(vec![7]));
    }

    #[test]
    fn layers_that_are_not_there_are_refused() {
        for text in ["", "x", "5-3", "3-", "-3", "40%-60", "60%-40%", "3,,4", "120%-130%", "70000"] {
            assert!(text.parse::<Layers>().is_err(), "{text}");
        }
        assert!(layers("10", 10).unwrap_err().contains("no layer 10"));
    }

    #[test]
    fn a_choice_prints_as_it_was_given() {
        for text in ["all", "3,5-9", "40%-60%", "0"] {
            assert_eq!(text.parse::<Layers>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_batch_has_rows() {
        assert_eq!("auto".parse(), Ok(Batch::Auto));
        assert_eq!("8".parse(), Ok(Batch::Rows(8)));
        assert!("0".parse::<Batch>().is_err());
    }
}
