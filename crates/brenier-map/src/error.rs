//! What can be wrong with a map or its file.

use std::path::PathBuf;

/// Errors of maps and map files. Each says what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// A part of a map whose size does not fit the others.
    #[error("map: `{part}` is {}, but {} was expected", shape_in_words(.found), shape_in_words(.expected))]
    Shape {
        /// Name of the part, as in the file.
        part: &'static str,
        /// Its expected shape.
        expected: Vec<usize>,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A map of rows without coordinates.
    #[error("map: the width is 0, but at least 1 was expected")]
    ZeroWidth,
    /// A NaN or an infinity in a map.
    #[error("map: `{part}` holds {value} at {index:?}: only finite numbers make a map")]
    NonFinite {
        /// Name of the part, as in the file.
        part: &'static str,
        /// Where in the part: empty for a number, one index for a vector, row and column for a matrix.
        index: Vec<usize>,
        /// The value.
        value: f64,
    },
    /// A matrix that has to be symmetric and is not.
    #[error("map: `{part}` holds {} at [{row}, {column}] and {} at [{column}, {row}]: it has to be symmetric", .values[0], .values[1])]
    Asymmetric {
        /// Name of the part, as in the file.
        part: &'static str,
        /// Row of the first of the two values.
        row: usize,
        /// Its column.
        column: usize,
        /// The values.
        values: [f64; 2],
    },
    /// A number outside the values it may take.
    #[error("`{part}` is {value}, but {expected} was expected")]
    OutOfRange {
        /// Name of the part, as in the file.
        part: &'static str,
        /// The value.
        value: f64,
        /// The values allowed, in words.
        expected: &'static str,
    },
    /// A row of finite numbers that the map takes beyond the range of its type.
    #[error(
        "row {row}, column {column} (counted from 0) would leave the range of {number}; hint: take a smaller strength or rows of a wider type"
    )]
    Overflow {
        /// Row, counted from 0.
        row: usize,
        /// Column, counted from 0.
        column: usize,
        /// The type of the rows.
        number: &'static str,
    },
    /// Rows that cannot be seen as a matrix where they lie.
    #[error(
        "the rows do not lie in regular steps; hint: copy them into an array of whole rows, one after the other"
    )]
    Steps,
    /// Rows of another width than the map's.
    #[error("the rows are {found} wide, but the map is for a width of {expected}")]
    Width {
        /// Width of the map.
        expected: usize,
        /// Width of the rows.
        found: usize,
    },
    /// A map that is not affine where an affine one is needed.
    #[error("cannot {operation} a map with a {cause}: that takes an affine map")]
    NotAffine {
        /// What was asked for.
        operation: &'static str,
        /// What makes the map non-affine: its gate, its range, or that it is a mixture of several pieces.
        cause: &'static str,
    },
    /// A map without an inverse.
    #[error(
        "the map has no inverse: it takes some direction to {smallest:e} of its length, {tolerance:e} or less is rounding"
    )]
    Singular {
        /// Size of the smallest pivot or singular value.
        smallest: f64,
        /// The bound below which it counts as zero.
        tolerance: f64,
    },
    /// A file that cannot be written.
    #[error("{0}")]
    Write(#[from] brenier_files::WriteError),
    /// A file that the operating system does not let us read.
    #[error("{}: cannot read: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Bytes that are no file of the kind expected, or a damaged one.
    #[error("{}: not a readable {what} file: {}", .path.display(), plain(.reason))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What it was to hold: `map`, or what another format holds.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of another version of the format.
    #[error("{}: the {what} file has format `{}`, but this program reads `{expected}`; make the file again or use a program that reads it", .path.display(), plain(.found))]
    Version {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// The format that this crate reads.
        expected: &'static str,
        /// The file's format.
        found: String,
    },
    /// A map in a file that is none.
    #[error("{}: entry `{}`: {source}", .path.display(), plain(.entry))]
    Entry {
        /// The file.
        path: PathBuf,
        /// Name of the entry.
        entry: String,
        /// What is wrong with the map.
        source: Box<MapError>,
    },
    /// A key of the metadata that the format keeps for itself.
    #[error("metadata key `{key}` belongs to the file format: use another")]
    ReservedKey {
        /// The key.
        key: String,
    },
    /// A file that cannot be laid out.
    #[error("cannot lay out the {what} file: {reason}")]
    Layout {
        /// What it was to hold.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

pub(crate) fn shape_in_words(shape: &[usize]) -> String {
    match shape {
        [] => "a number".to_owned(),
        [n] => format!("of length {n}"),
        dims => dims.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x "),
    }
}

/// Text from a file, in one line and without orders to a terminal.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
