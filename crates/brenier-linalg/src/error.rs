use thiserror::Error;

/// What can be wrong with the numbers given to this crate.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LinalgError {
    /// A NaN or an infinity among the input.
    #[error("row {row}, column {column} (counted from 0) is {value}; every value has to be finite")]
    NonFinite {
        /// Row of the first bad value, counted from 0.
        row: usize,
        /// Column of the first bad value, counted from 0.
        column: usize,
        /// The value itself.
        value: f64,
    },
    /// Too few samples for what was asked.
    #[error("{found} rows, but at least {needed} are needed")]
    TooFewRows {
        /// Rows needed.
        needed: usize,
        /// Rows given.
        found: usize,
    },
    /// A matrix without columns.
    #[error("rows of width 0: there is nothing to fit")]
    NoColumns,
    /// Rows of different widths, or a slice that does not hold whole rows.
    #[error("row {row} (counted from 0) has {found} values, but {expected} were expected")]
    RaggedRows {
        /// The first such row, counted from 0.
        row: usize,
        /// Its values.
        found: usize,
        /// Width of the rows.
        expected: usize,
    },
    /// Two matrices of rows whose widths differ.
    #[error("widths differ: {left} and {right} columns")]
    Widths {
        /// Columns of the first.
        left: usize,
        /// Columns of the second.
        right: usize,
    },
    /// A value too large for its square to be summed.
    #[error(
        "row {row}, column {column} (counted from 0) is {value:e}, beyond {limit:e}: sums of squares would overflow"
    )]
    Magnitude {
        /// Row of the first such value, counted from 0.
        row: usize,
        /// Column of the first such value, counted from 0.
        column: usize,
        /// The value itself.
        value: f64,
        /// The largest magnitude that is taken.
        limit: f64,
    },
    /// Moments that were to keep no row.
    #[error("a cap of 0 rows: moments have to keep at least one")]
    NoCap,
    /// Two moments that are shrunk to different numbers of rows.
    #[error("caps differ: {left} and {right} rows; only moments of one cap merge")]
    Caps {
        /// Cap of the first.
        left: usize,
        /// Cap of the second.
        right: usize,
    },
    /// Parts that no stream of rows leaves behind.
    #[error("moments: {part} is {}, but {expected} was expected", plain(*.found))]
    Moments {
        /// Which part, and where in it.
        part: String,
        /// Its value.
        found: f64,
        /// What it may be.
        expected: String,
    },
    /// A matrix that had to be square, or of a given size.
    #[error("expected a matrix of shape {expected:?}, found {found:?}")]
    Shape {
        /// Rows and columns expected.
        expected: (usize, usize),
        /// Rows and columns found.
        found: (usize, usize),
    },
    /// More components asked for than the data have.
    #[error(
        "{components} components asked for, but the {rows} pooled rows of width {width} have rank {rank}; ask for at most {rank}"
    )]
    ComponentsExceedRank {
        /// Components asked for.
        components: usize,
        /// Numerical rank of the centred rows.
        rank: usize,
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        width: usize,
    },
    /// A matrix that should be symmetric is not.
    #[error(
        "entries ({row}, {column}) and ({column}, {row}) differ by {difference:e}: the matrix is not symmetric"
    )]
    NotSymmetric {
        /// Row of the worst pair.
        row: usize,
        /// Column of the worst pair.
        column: usize,
        /// How far apart the two entries are.
        difference: f64,
    },
    /// A matrix that should be positive semi-definite is not.
    #[error(
        "smallest eigenvalue {smallest:e} beside a largest of {largest:e}: the matrix is not positive semi-definite"
    )]
    NotPositive {
        /// Smallest eigenvalue.
        smallest: f64,
        /// Largest eigenvalue.
        largest: f64,
    },
    /// A shrinkage intensity outside [0, 1].
    #[error("shrinkage {found} lies outside 0..=1")]
    Shrinkage {
        /// The value given.
        found: f64,
    },
    /// Weights that are not one a row.
    #[error("{weights} weights for {rows} rows; one a row is needed")]
    WeightCount {
        /// Number of rows.
        rows: usize,
        /// Number of weights.
        weights: usize,
    },
    /// A weight that is negative, a NaN or an infinity.
    #[error("the weight of row {row} (counted from 0) is {weight}; weights have to be finite and 0 or more")]
    Weight {
        /// Row of the first such weight, counted from 0.
        row: usize,
        /// The weight.
        weight: f64,
    },
    /// Weights that are all 0.
    #[error("the weights of all {rows} rows are 0: nothing is left to fit")]
    NoWeight {
        /// Number of rows.
        rows: usize,
    },
    /// Weights for moments of a stream, which keep none.
    #[error("moments take rows without weights; push each row as often as it counts")]
    WeightedMoments,
    /// An iteration of a decomposition did not converge (never seen on finite input).
    #[error("the {what} of a {size} x {size} matrix did not converge")]
    NoConvergence {
        /// Which decomposition.
        what: &'static str,
        /// Size of the matrix.
        size: usize,
    },
}

/// A number as short as it can be told: counts without a fraction, the rest with an exponent.
fn plain(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e16 { format!("{number}") } else { format!("{number:e}") }
}
