//! The two halves of a low-rank map of rows: `z = B^T (x - c)`, and `x + w (grow (x - m) + constant + U z)`.
//!
//! Rows that lie one after the other in memory are taken a few at a time, so that what every row needs (the centre, the
//! directions) is read from a near cache; rows in columns, as faer's own matrices hold them, are taken column by column.
//! Sums run in a fixed order over fixed lanes, so the bits depend neither on the number of threads, nor on the
//! instruction set, nor on the layout, nor on what other rows there are.

use std::array::from_fn;
use std::ops::Range;

use faer::Mat;

use crate::lanes::{LANES, Lanes, Number, Wide, Work, work};

/// Above this rank matrix products are the faster way.
pub(crate) const LARGEST_RANK: usize = 16;

/// Rows that go through both halves before the next ones do, and so share what is in the second cache.
pub(crate) const GROUP: usize = 4;
/// Lanes of columns that a group goes through together: what they need stays in the first cache.
const TILE: usize = 32;

/// A vector of the rows' width, in whole lanes and a rest filled up with zeros.
pub(crate) struct Line<'a> {
    pub(crate) values: &'a [f64],
    whole: &'a [Lanes],
    rest: [Lanes; 1],
}

impl<'a> Line<'a> {
    pub(crate) fn new(values: &'a [f64]) -> Self {
        let (whole, short) = values.as_chunks();
        Self { values, whole, rest: [padded(short)] }
    }

    fn columns(matrix: &'a Mat<f64>) -> Vec<Self> {
        (0..matrix.ncols()).map(|k| Self::new(matrix.col_as_slice(k))).collect()
    }

    #[inline(always)]
    fn at(&self, tile: &Tile) -> &[Lanes] {
        match tile {
            Tile::Whole(lanes) => &self.whole[lanes.clone()],
            Tile::Rest => &self.rest,
        }
    }
}

enum Tile {
    Whole(Range<usize>),
    Rest,
}

fn tiles(width: usize) -> impl Iterator<Item = Tile> {
    let whole = width / LANES;
    let tile = move |start| Tile::Whole(start..whole.min(start + TILE));
    let rest = (!width.is_multiple_of(LANES)).then_some(Tile::Rest);
    (0..whole).step_by(TILE).map(tile).chain(rest)
}

#[inline(always)]
fn padded<T: Number>(short: &[T]) -> [T; LANES] {
    let mut lanes = [T::ZERO; LANES];
    lanes[..short.len()].copy_from_slice(short);
    lanes
}

/// `z = B^T (x - c)`.
pub(crate) struct Projection<'a> {
    pub(crate) center: Line<'a>,
    pub(crate) basis: Vec<Line<'a>>,
}

impl<'a> Projection<'a> {
    pub(crate) fn new(center: &'a [f64], basis: &'a Mat<f64>) -> Self {
        Self { center: Line::new(center), basis: Line::columns(basis) }
    }

    /// The number of coordinates.
    pub(crate) fn rank(&self) -> usize {
        self.basis.len()
    }

    /// Coordinates of rows that are each in one piece; `z`: `[n, K]`, row after row.
    pub(crate) fn of_rows<T: Number, R: AsRef<[T]>>(&self, rows: &[R], z: &mut [f64]) {
        if self.rank() == 0 {
            return;
        }
        for (rows, z) in rows.chunks(GROUP).zip(z.chunks_mut(GROUP * self.rank())) {
            let rows: Vec<&[T]> = rows.iter().map(AsRef::as_ref).collect();
            let mut sums = vec![[0.0; LANES]; z.len()];
            work(Sums { projection: self, rows: &rows, sums: &mut sums });
            for (z, sums) in z.iter_mut().zip(&sums) {
                *z = total(sums);
            }
        }
    }
}

/// The sum of the lanes in their order.
fn total(lanes: &Lanes) -> f64 {
    lanes[1..].iter().fold(lanes[0], |sum, lane| sum + lane)
}

struct Sums<'a, T> {
    projection: &'a Projection<'a>,
    rows: &'a [&'a [T]],
    /// `[n, K]`, row after row.
    sums: &'a mut [Lanes],
}

impl<T: Number> Work for Sums<'_, T> {
    #[inline(always)]
    fn on<S: Wide>(self, simd: S) {
        let rank = self.projection.rank();
        let (pairs, single) = self.rows.as_chunks::<2>();
        for tile in tiles(self.projection.center.values.len()) {
            let (sums_of_pairs, sums_of_single) = self.sums.split_at_mut(2 * rank * pairs.len());
            for (rows, sums) in pairs.iter().zip(sums_of_pairs.chunks_exact_mut(2 * rank)) {
                let (first, second) = sums.split_at_mut(rank);
                self.projection.add_tile(simd, *rows, &tile, [first, second]);
            }
            if let [row] = single {
                self.projection.add_tile(simd, [*row], &tile, [sums_of_single]);
            }
        }
    }
}

impl Projection<'_> {
    #[inline(always)]
    fn add_tile<S: Wide, T: Number, const R: usize>(
        &self,
        simd: S,
        rows: [&[T]; R],
        tile: &Tile,
        sums: [&mut [Lanes]; R],
    ) {
        let rows = rows.map(<[T]>::as_chunks::<LANES>);
        let rests: [_; R] = match tile {
            Tile::Whole(_) => [[T::ZERO; LANES]; R],
            Tile::Rest => rows.map(|(_, short)| padded(short)),
        };
        let x: [_; R] = from_fn(|i| match tile {
            Tile::Whole(lanes) => &rows[i].0[lanes.clone()],
            Tile::Rest => std::slice::from_ref(&rests[i]),
        });
        let center = self.center.at(tile);
        let (pairs, single) = self.basis.as_chunks::<2>();
        for (k, [one, two]) in pairs.iter().enumerate() {
            let mut partial: [[Lanes; 2]; R] = from_fn(|i| [sums[i][2 * k], sums[i][2 * k + 1]]);
            inner_products(simd, x, center, [one.at(tile), two.at(tile)], &mut partial);
            for i in 0..R {
                [sums[i][2 * k], sums[i][2 * k + 1]] = partial[i];
            }
        }
        if let [line] = single {
            let k = self.rank() - 1;
            let mut partial: [[Lanes; 1]; R] = from_fn(|i| [sums[i][k]]);
            inner_products(simd, x, center, [line.at(tile)], &mut partial);
            for i in 0..R {
                [sums[i][k]] = partial[i];
            }
        }
    }
}

/// Adds `(x - c) b` to the sums of every row and direction, lane by lane.
#[inline(always)]
fn inner_products<S: Wide, T: Number, const R: usize, const K: usize>(
    simd: S,
    rows: [&[[T; LANES]]; R],
    center: &[Lanes],
    basis: [&[Lanes]; K],
    sums: &mut [[Lanes; K]; R],
) {
    let len = center.len();
    let (rows, basis) = (rows.map(|row| &row[..len]), basis.map(|line| &line[..len]));
    let mut held: [[S::Vector; K]; R] = from_fn(|i| from_fn(|k| simd.load(&sums[i][k])));
    for j in 0..len {
        let center = simd.load(&center[j]);
        let basis: [S::Vector; K] = from_fn(|k| simd.load(&basis[k][j]));
        for i in 0..R {
            let x = simd.sub(T::load(simd, &rows[i][j]), center);
            for k in 0..K {
                held[i][k] = simd.add(held[i][k], simd.mul(x, basis[k]));
            }
        }
    }
    for i in 0..R {
        for k in 0..K {
            sums[i][k] = simd.store(held[i][k]);
        }
    }
}

/// `x + w (grow (x - m) + constant + U z)`; a row of weight 0 keeps every bit.
pub(crate) struct Step<'a> {
    pub(crate) grow: f64,
    pub(crate) mean: Line<'a>,
    pub(crate) constant: Line<'a>,
    /// Not more than [`LARGEST_RANK`].
    pub(crate) u: Vec<Line<'a>>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(grow: f64, mean: &'a [f64], constant: &'a [f64], u: &'a Mat<f64>) -> Self {
        let (mean, constant) = (Line::new(mean), Line::new(constant));
        Self { grow, mean, constant, u: Line::columns(u) }
    }

    /// Moves rows that are each in one piece, while those that are `next` come near; `z`: `[n, K]`, row after row.
    pub(crate) fn move_rows<T: Number>(
        &self,
        rows: &mut [&mut [T]],
        next: &[&mut [T]],
        z: &[f64],
        weight: &[f64],
    ) {
        let rank = self.u.len();
        let moving = rows.iter_mut().enumerate().zip(weight).filter(|&(_, &weight)| weight != 0.0);
        let mut moving: Vec<Moving<'_, T>> = moving
            .map(|((i, row), &weight)| Moving { row, z: &z[i * rank..(i + 1) * rank], weight })
            .collect();
        work(Moves { step: self, moving: &mut moving, next });
    }
}

struct Moving<'a, T> {
    row: &'a mut [T],
    z: &'a [f64],
    weight: f64,
}

struct Moves<'a, 'b, 'c, T> {
    step: &'a Step<'a>,
    moving: &'a mut [Moving<'b, T>],
    next: &'a [&'c mut [T]],
}

impl<T: Number> Work for Moves<'_, '_, '_, T> {
    #[inline(always)]
    fn on<S: Wide>(self, simd: S) {
        let (pairs, single) = self.moving.as_chunks_mut::<2>();
        for tile in tiles(self.step.constant.values.len()) {
            // Memory is idle while a row that is near moves: without this it would be waited for afterwards.
            if let Tile::Whole(lanes) = &tile {
                for row in self.next {
                    simd.fetch(&row[lanes.start * LANES..lanes.end * LANES]);
                }
            }
            for pair in &mut *pairs {
                self.step.move_tile(simd, pair, &tile);
            }
            if let [row] = &mut *single {
                self.step.move_tile(simd, std::array::from_mut(row), &tile);
            }
        }
    }
}

impl Step<'_> {
    #[inline(always)]
    fn move_tile<S: Wide, T: Number, const R: usize>(
        &self,
        simd: S,
        moving: &mut [Moving<'_, T>; R],
        tile: &Tile,
    ) {
        let weight = from_fn(|i| moving[i].weight);
        let mut u: [&[Lanes]; LARGEST_RANK] = [&[]; LARGEST_RANK];
        let mut z = [[0.0; R]; LARGEST_RANK];
        for (k, line) in self.u.iter().enumerate() {
            u[k] = line.at(tile);
            z[k] = from_fn(|i| moving[i].z[k]);
        }
        match tile {
            Tile::Whole(lanes) => {
                let rows = moving.each_mut().map(|moving| &mut moving.row.as_chunks_mut().0[lanes.clone()]);
                self.displace(simd, rows, tile, &u, &z, weight);
            }
            Tile::Rest => {
                let mut rests: [[T; LANES]; R] = from_fn(|i| padded(moving[i].row.as_chunks::<LANES>().1));
                let rows = rests.each_mut().map(std::slice::from_mut);
                self.displace(simd, rows, tile, &u, &z, weight);
                for (moving, rest) in moving.iter_mut().zip(&rests) {
                    let short = moving.row.as_chunks_mut::<LANES>().1;
                    short.copy_from_slice(&rest[..short.len()]);
                }
            }
        }
    }

    /// The ranks that are met most get loops of their own.
    #[inline(always)]
    fn displace<S: Wide, T: Number, const R: usize>(
        &self,
        simd: S,
        rows: [&mut [[T; LANES]]; R],
        tile: &Tile,
        u: &[&[Lanes]; LARGEST_RANK],
        z: &[[f64; R]; LARGEST_RANK],
        weight: [f64; R],
    ) {
        let constant = self.constant.at(tile);
        let grow = (self.grow != 0.0).then(|| (self.grow, self.mean.at(tile)));
        match (self.u.len(), grow) {
            (1, None) => displace(simd, rows, constant, None, &[u[0]], &[z[0]], weight),
            (2, None) => displace(simd, rows, constant, None, &[u[0], u[1]], &[z[0], z[1]], weight),
            (rank, grow) => displace(simd, rows, constant, grow, &u[..rank], &z[..rank], weight),
        }
    }
}

#[inline(always)]
fn displace<S: Wide, T: Number, const R: usize>(
    simd: S,
    rows: [&mut [[T; LANES]]; R],
    constant: &[Lanes],
    grow: Option<(f64, &[Lanes])>,
    u: &[&[Lanes]],
    z: &[[f64; R]],
    weight: [f64; R],
) {
    let len = constant.len();
    let rows = rows.map(|row| &mut row[..len]);
    let weight = weight.map(|weight| simd.splat(weight));
    for j in 0..len {
        let mut moved = [simd.load(&constant[j]); R];
        if let Some((grow, mean)) = grow {
            let mean = simd.load(&mean[j]);
            for i in 0..R {
                let centred = simd.sub(T::load(simd, &rows[i][j]), mean);
                moved[i] = simd.add(simd.mul(simd.splat(grow), centred), moved[i]);
            }
        }
        for (u, z) in u.iter().zip(z) {
            let u = simd.load(&u[j]);
            for i in 0..R {
                moved[i] = simd.add(moved[i], simd.mul(simd.splat(z[i]), u));
            }
        }
        for i in 0..R {
            let x = T::load(simd, &rows[i][j]);
            rows[i][j] = T::store(simd, simd.add(x, simd.mul(weight[i], moved[i])));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Portable;

    #[test]
    fn the_instruction_set_changes_no_bit() {
        for (d, rank) in [(5, 1), (64, 2), (300, 5), (609, 3)] {
            let wave = |i: usize, j: usize, by: f64| ((i * 31 + j * 17 + 1) as f64 * by).sin();
            let (mean, constant): (Vec<f64>, Vec<f64>) =
                (0..d).map(|j| (wave(j, 0, 0.3), wave(j, 1, 0.4))).unzip();
            let basis = Mat::from_fn(d, rank, |i, j| wave(i, j, 0.5));
            let projection = Projection::new(&mean, &basis);
            let rows: Vec<Vec<f32>> =
                (0..3).map(|i| (0..d).map(|j| wave(i, j, 0.7) as f32).collect()).collect();
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let mut sums = [vec![[0.0; LANES]; 3 * rank], vec![[0.0; LANES]; 3 * rank]];
            let [best, plain] = &mut sums;
            work(Sums { projection: &projection, rows: &rows, sums: best });
            Sums { projection: &projection, rows: &rows, sums: plain }.on(Portable);
            assert_eq!(best, plain);

            let z: Vec<f64> = best.iter().map(total).collect();
            for grow in [0.0, -0.3] {
                let step = Step::new(grow, &mean, &constant, &basis);
                let moved = |portable: bool| {
                    let mut rows: Vec<Vec<f32>> = rows.iter().map(|row| row.to_vec()).collect();
                    let mut moving: Vec<Moving<'_, f32>> = rows
                        .iter_mut()
                        .zip(z.chunks_exact(rank))
                        .map(|(row, z)| Moving { row, z, weight: 0.8 })
                        .collect();
                    let moves = Moves { step: &step, moving: &mut moving, next: &[] };
                    if portable {
                        moves.on(Portable)
                    } else {
                        work(moves)
                    }
                    rows
                };
                assert_eq!(moved(true), moved(false));
            }
        }
    }
}
