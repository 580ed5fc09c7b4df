//! Numbers, dates and pairs on the command line.

use std::fmt;
use std::str::FromStr;

use chrono::{NaiveDate, NaiveDateTime, Timelike};

/// A whole number from `LOW` to `HIGH`, for clap's `value_parser`.
pub fn count<const LOW: usize, const HIGH: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (LOW..=HIGH).contains(&number) => Ok(number),
        _ => Err(format!("expected a whole number, {LOW} or more, at most {HIGH}")),
    }
}

/// A number of folds.
pub fn folds(text: &str) -> Result<usize, String> {
    count::<2, 10_000>(text).map_err(|_| "expected a number of folds, 2 or more, at most 10000".to_owned())
}

/// How strongly a map acts, which is computed in f32.
pub fn strength(text: &str) -> Result<f64, String> {
    number(text, "a finite number", |x| (x as f32).is_finite())
}

/// What logits are divided by; 0 is greedy.
pub fn temperature(text: &str) -> Result<f64, String> {
    number(text, "a finite number of 0 or more", |x| x.is_finite() && x >= 0.0)
}

/// A share of probability that is not nothing.
pub fn share(text: &str) -> Result<f64, String> {
    number(text, "a number above 0, at most 1", |x| x > 0.0 && x <= 1.0)
}

fn number(text: &str, expected: &str, fits: impl Fn(f64) -> bool) -> Result<f64, String> {
    text.parse().ok().filter(|&x| fits(x)).ok_or_else(|| format!("expected {expected}"))
}

/// Two quantiles, `LOW,HIGH`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantiles(pub f64, pub f64);

impl FromStr for Quantiles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text.split_once(',').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
        match pair {
            Some((low, high)) if 0.0 <= low && low < high && high <= 1.0 => Ok(Self(low, high)),
            _ => Err("expected two numbers from 0 to 1, the first the smaller, such as 0.1,0.9".to_owned()),
        }
    }
}

/// A date that prompts are rendered with, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date(pub NaiveDateTime);

impl Date {
    /// The local time.
    pub fn now() -> Self {
        let now = chrono::Local::now().naive_local();
        Self(now.with_nanosecond(0).unwrap_or(now))
    }
}

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let midnight = |date: NaiveDate| date.and_hms_opt(0, 0, 0);
        // chrono alone would take 2026-1-2 and +2026-01-02.
        let exact = |date: &Self| {
            let whole = date.to_string();
            whole == text || whole.strip_suffix("T00:00:00") == Some(text)
        };
        NaiveDateTime::parse_from_str(text, FORMAT)
            .ok()
            .or_else(|| midnight(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?))
            .map(Self)
            .filter(exact)
            .ok_or_else(|| "expected a date such as 2026-01-31 or 2026-01-31T12:00:00".to_owned())
    }
}

const FORMAT: &str = "%Y-%m-%dT%H:%M:%S";

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format(FORMAT))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_they_are_written() {
        for (text, whole) in
            [("2026-01-31", "2026-01-31T00:00:00"), ("2024-02-29T23:59:59", "2024-02-29T23:59:59")]
        {
            assert_eq!(text.parse::<Date>().unwrap().to_string(), whole);
        }
        let now = Date::now();
        assert_eq!(now.to_string().parse(), Ok(now));
        for text in [
            "",
            "today",
            "2026-02-29",
            "2026-13-01",
            "2026-1-2",
            "26-01-02",
            "2026-01-31T24:00:00",
            "2026-01-31 12:00:00",
            "2026-01-31T12:00",
            "2026-01-31T12:00:00Z",
            "+2026-01-31",
        ] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        assert_eq!(count::<1, 5>("5"), Ok(5));
        for text in ["0", "6", "-1", "1.5", "", "99999999999999999999"] {
            assert!(count::<1, 5>(text).unwrap_err().contains("1 or more, at most 5"), "{text}");
        }
        assert_eq!((strength("-2.5"), temperature("0"), share("1")), (Ok(-2.5), Ok(0.0), Ok(1.0)));
        assert!(["NaN", "inf", "-inf", "1e39", "x", ""].iter().all(|text| strength(text).is_err()));
        assert!(["NaN", "inf", "-1", "-0.1"].iter().all(|text| temperature(text).is_err()));
        assert!(["NaN", "0", "1.1", "-1"].iter().all(|text| share(text).is_err()));
        assert_eq!("0,1".parse(), Ok(Quantiles(0.0, 1.0)));
        for text in ["", "0", "0,", "1,0", "0,0", "0,1,2", "NaN,1", "-1,1", "0,2"] {
            assert!(text.parse::<Quantiles>().is_err(), "{text}");
        }
    }
}
