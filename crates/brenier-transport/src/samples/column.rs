//! One coordinate of a sample, sorted, with weights: what one-dimensional transport needs.

use brenier_linalg::Rows;

/// Values of one column in ascending order, and their shares of the weight if they have any.
pub(crate) struct Column {
    pub values: Vec<f64>,
    /// Add up to 1. None for equal ones.
    pub shares: Option<Vec<f64>>,
}

impl Column {
    pub(crate) fn new(rows: Rows<'_>, column: usize) -> Self {
        Self::of(rows.view().col(column).iter().copied(), rows.weights().map(|weights| weights.shares()))
    }

    pub(crate) fn of(values: impl Iterator<Item = f64>, shares: Option<Vec<f64>>) -> Self {
        let Some(shares) = shares else {
            let mut values: Vec<f64> = values.collect();
            values.sort_by(f64::total_cmp);
            return Self { values, shares: None };
        };
        // What has no weight is not there.
        let mut both: Vec<(f64, f64)> = values.zip(shares).filter(|&(_, share)| share > 0.0).collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (values, shares) = both.into_iter().unzip();
        Self { values, shares: Some(shares) }
    }

    pub(crate) fn share(&self, i: usize) -> f64 {
        self.shares.as_ref().map_or(1.0 / self.values.len() as f64, |shares| shares[i])
    }

    /// `sum w_i (x_i - about)^2`.
    pub(crate) fn square_about(&self, about: f64) -> f64 {
        (0..self.values.len()).map(|i| self.share(i) * (self.values[i] - about).powi(2)).sum()
    }

    /// The `level` quantile, linear between values of which the `i`-th stands at
    ///
    /// ```text
    /// (C_i - (w_1 + w_i) / 2) / (1 - (w_1 + w_n) / 2),   C_i = w_1 + .. + w_i
    /// ```
    ///
    /// 0 for the first and 1 for the last; for equal weights `(i - 1) / (n - 1)`, numpy's default.
    pub(crate) fn quantile(&self, level: f64) -> f64 {
        let Some(shares) = &self.shares else { return quantile(&self.values, level) };
        // Twice the way from the first value to each.
        let mut way = vec![0.0; shares.len()];
        for i in 1..shares.len() {
            way[i] = way[i - 1] + shares[i - 1] + shares[i];
        }
        let place = level * way.last().copied().unwrap_or(0.0);
        let after = way.partition_point(|&w| w < place).min(way.len().saturating_sub(1));
        let Some(before) = after.checked_sub(1) else { return self.values.first().copied().unwrap_or(0.0) };
        let part = (place - way[before]) / (way[after] - way[before]);
        self.values[before] + part * (self.values[after] - self.values[before])
    }

    /// The sum of `mass * f(x, y)` over the optimal coupling with another column, which takes both in ascending order.
    pub(crate) fn coupled(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> f64 {
        let (ends, other_ends) = (self.ends(), other.ends());
        let (mut i, mut j, mut at, mut sum) = (0, 0, 0.0, 0.0);
        while i < ends.len() && j < other_ends.len() {
            let end = ends[i].min(other_ends[j]);
            sum += (end - at) * f(self.values[i], other.values[j]);
            at = end;
            i += usize::from(ends[i] <= end);
            j += usize::from(other_ends[j] <= end);
        }
        sum
    }

    /// Where the share of each value ends, of a way of 1 from the least value to the largest.
    fn ends(&self) -> Vec<f64> {
        let n = self.values.len();
        let mut end = 0.0_f64;
        let mut ends: Vec<f64> = (0..n)
            .map(|i| {
                end += self.share(i);
                end.min(1.0)
            })
            .collect();
        // Rounding leaves nothing over.
        ends.iter_mut().skip(n.saturating_sub(1)).for_each(|last| *last = 1.0);
        ends
    }
}

/// The `level` quantile of sorted values, linear between order statistics (numpy's default).
pub(crate) fn quantile(sorted: &[f64], level: f64) -> f64 {
    let place = level * sorted.len().saturating_sub(1) as f64;
    let low = place.floor();
    let at = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or(0.0);
    let (a, b) = (at(low as usize), at(low as usize + 1));
    a + (place - low) * (b - a)
}

#[cfg(test)]
mod tests {
    use super::Column;

    fn column(values: &[f64], shares: Option<&[f64]>) -> Column {
        Column::of(values.iter().copied(), shares.map(<[f64]>::to_vec))
    }

    #[test]
    fn equal_shares_have_the_plain_quantiles() {
        let values = [3.0, -1.0, 4.0, 1.0, 5.0];
        let (plain, equal) = (column(&values, None), column(&values, Some(&[0.2; 5])));
        for level in [0.0, 0.1, 0.25, 0.3, 0.5, 0.77, 1.0] {
            assert!((plain.quantile(level) - equal.quantile(level)).abs() < 1e-14, "{level}");
        }
    }

    #[test]
    fn quantiles_stand_in_the_middle_of_their_shares_and_what_has_none_is_left_out() {
        // The middles of 0.2, 0.6 and 0.2 are 0.1, 0.5 and 0.9: a half way and the ends.
        let found = column(&[9.0, 2.0, 0.0, 1.0], Some(&[0.0, 0.2, 0.2, 0.6]));
        assert_eq!(found.values, [0.0, 1.0, 2.0]);
        for (level, value) in [(0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.75, 1.5), (1.0, 2.0)] {
            assert!((found.quantile(level) - value).abs() < 1e-14, "{level}");
        }
        assert_eq!(column(&[7.0], Some(&[1.0])).quantile(0.3), 7.0);
    }

    #[test]
    fn the_coupling_keeps_the_order_and_all_mass() {
        let (a, b) = (column(&[2.0, 0.0], Some(&[0.3, 0.7])), column(&[30.0, 10.0, 20.0], None));
        let mass = |x: f64, y: f64| a.coupled(&b, |p, q| f64::from(u8::from(p == x && q == y)));
        let third = 1.0 / 3.0;
        for (x, y, expected) in [
            (0.0, 10.0, third),
            (0.0, 20.0, third),
            (0.0, 30.0, 0.7 - 2.0 * third),
            (2.0, 30.0, 0.3),
            (2.0, 10.0, 0.0),
        ] {
            assert!((mass(x, y) - expected).abs() < 1e-15, "{x} {y}");
        }
        assert!((a.coupled(&b, |_, _| 1.0) - 1.0).abs() < 1e-15);
    }
}
