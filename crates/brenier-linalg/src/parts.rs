use crate::error::LinalgError;
use crate::streaming::{LIMIT, Moments};

/// How far the bound may stand above what was removed, relatively: both are sums, one term a shrink and one a row of
/// the factor.
const SLACK: f64 = 1e-9;

/// The state of [`Moments`] in the open, to be kept somewhere and made into the same moments again.
///
/// ```
/// use brenier_linalg::{Moments, Rows};
/// use faer::mat;
///
/// let mut moments = Moments::new(2, 3)?;
/// moments.push(Rows::new(mat![[1.0, 2.0], [3.0, 5.0]].as_ref())?)?;
/// let mut parts = moments.clone().into_parts();
/// assert_eq!(Moments::from_parts(parts.clone())?, moments);
///
/// parts.count = 1; // one row has no scatter, and so no row in its factor
/// assert!(Moments::from_parts(parts).is_err());
/// # Ok::<(), brenier_linalg::LinalgError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MomentsParts {
    /// Number of rows to which the factor is shrunk; 1 or more.
    pub cap: usize,
    /// Number of rows taken in, n.
    pub count: usize,
    /// The mean row, `[d]`.
    pub mean: Vec<f64>,
    /// The factor `R` of the scatter, `[r, d]`, row after row, `r <= 2 min(cap, d)`.
    pub rows: Vec<f64>,
    /// By how much the scatter `R^T R` may be short along any direction.
    pub delta: f64,
    /// By how much its trace is short.
    pub removed: f64,
}

impl Moments {
    /// The state itself.
    pub fn into_parts(self) -> MomentsParts {
        let Self { cap, count, mean, rows, delta, removed } = self;
        MomentsParts { cap, count, mean, rows, delta, removed }
    }

    /// Moments of the state that [`into_parts`](Self::into_parts) gave: the same bits, which go on as if they had
    /// never been apart. What no stream can leave behind is refused:
    ///
    /// - a width or a cap of 0, a value that is not finite or beyond what [`push`](Self::push) takes;
    /// - a factor of broken rows, of more than `2 min(cap, d)` of them, or of `n` or more (the mean takes one up);
    /// - a loss below 0, or one where nothing can have been lost (`d <= cap`, or `n <= 2 cap + 1`), or outside
    ///   `(cap + 1) delta <= removed <= 2 cap delta`.
    ///
    /// # Errors
    /// [`LinalgError::NoColumns`], [`LinalgError::NoCap`], and [`LinalgError::Moments`] naming the part.
    pub fn from_parts(parts: MomentsParts) -> Result<Self, LinalgError> {
        let MomentsParts { cap, count, mean, rows, delta, removed } = parts;
        let d = mean.len();
        if d == 0 {
            return Err(LinalgError::NoColumns);
        }
        if cap == 0 {
            return Err(LinalgError::NoCap);
        }
        let most = if count == 0 { 0.0 } else { LIMIT * (1.0 + SLACK) };
        if let Some(j) = mean.iter().position(|x| x.is_nan() || x.abs() > most) {
            return refuse(
                format!("mean, column {j} (counted from 0),"),
                mean[j],
                format!("at most {most:e} in magnitude"),
            );
        }
        if rows.len() % d != 0 {
            return refuse("the factor's length", rows.len() as f64, format!("a multiple of the width {d}"));
        }
        let r = rows.len() / d;
        let fit = cap.min(d).saturating_mul(2).min(count.saturating_sub(1));
        if r > fit {
            let what = format!("at most {fit} (a cap of {cap}, a width of {d}, a count of {count})");
            return refuse("the number of factor rows", r as f64, what);
        }
        // The scatter of n rows of such size has at most (2 LIMIT)^2 n on its diagonal.
        let most = 2.0 * LIMIT * (count as f64).sqrt();
        if let Some(at) = rows.iter().position(|x| x.is_nan() || x.abs() > most) {
            let part = format!("factor row {}, column {} (counted from 0),", at / d, at % d);
            return refuse(part, rows[at], format!("at most {most:e} in magnitude"));
        }
        let exact = d <= cap || count <= cap.saturating_mul(2).saturating_add(1);
        for (part, value) in [("delta", delta), ("the trace removed", removed)] {
            if !(value.is_finite() && value >= 0.0) {
                return refuse(part, value, "a finite number of 0 or more".to_owned());
            }
            if exact && value > 0.0 {
                let what = format!("0 for {count} rows of width {d} and a cap of {cap}");
                return refuse(part, value, what);
            }
        }
        let (low, high) = ((cap as f64 + 1.0) * delta, 2.0 * cap as f64 * delta);
        // Rows so small that their squares lose digits may have lost these anywhere.
        let least = f64::MIN_POSITIVE;
        if removed + least < low * (1.0 - SLACK) || removed > high * (1.0 + SLACK) + least {
            let what = format!("{low:e} to {high:e} for this delta and cap");
            return refuse("the trace removed", removed, what);
        }
        Ok(Self { cap, count, mean, rows, delta, removed })
    }
}

fn refuse<T>(part: impl Into<String>, found: f64, expected: String) -> Result<T, LinalgError> {
    Err(LinalgError::Moments { part: part.into(), found, expected })
}
