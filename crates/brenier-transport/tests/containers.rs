//! Three lines for the rows of every container: fit, apply, save.
#![allow(clippy::unwrap_used)]

use brenier_transport::{
    GaussianOtMap, MapError, RowMajor, RowSource, RowsMut, TransportError, matrix_of_rows,
};
use faer::Mat;

const D: usize = 5;

fn value(i: usize, j: usize, by: f64) -> f64 {
    ((i * 7 + j * 3 + 1) as f64 * by).sin()
}

/// The rows of 30 and 20 samples, one after the other.
fn values(n: usize, by: f64) -> Vec<f64> {
    (0..n * D).map(|at| value(at / D, at % D, by)).collect()
}

/// Fits, maps and reads back; the rows as they are then.
fn three_lines<R: RowSource + RowsMut>(source: &R, target: &R, mut rows: R) -> R {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("map.safetensors");
    let fit = GaussianOtMap::fit(source, target).unwrap();
    fit.apply(&mut rows).unwrap();
    fit.save(&path).unwrap();
    let read = GaussianOtMap::load(&path).unwrap();
    assert_eq!((read.map(), read.certificate().method), (fit.map(), fit.certificate().method));
    assert!(fit.save(&path).is_err(), "an existing file is not overwritten");
    rows
}

/// What the rows of the container are after the map, in f64, against those of faer's matrix.
fn near(found: &impl RowSource, expected: &Mat<f64>, within: f64) {
    let found = found.rows().widened();
    let off = (found.as_ref() - expected.as_ref()).norm_max();
    assert!(found.as_ref().shape() == expected.shape() && off < within, "off by {off:e}");
}

#[test]
fn containers_hold_the_same_rows() {
    let (s, t) = (values(30, 0.7), values(20, 1.1));
    let short = |values: &[f64]| values.iter().map(|x| *x as f32).collect::<Vec<f32>>();
    let wide = |values: &[f64]| Mat::from_fn(values.len() / D, D, |i, j| values[i * D + j]);
    let expected = three_lines(&wide(&s), &wide(&t), wide(&s));
    // The map moves: a container that is mapped as a copy would stay as it was.
    assert!((&expected - wide(&s)).norm_max() > 0.01);

    let narrow = |values: &[f64]| Mat::from_fn(values.len() / D, D, |i, j| values[i * D + j] as f32);
    near(&three_lines(&narrow(&s), &narrow(&t), narrow(&s)), &expected, 1e-5);

    let array =
        |values: &[f64]| ndarray::Array2::from_shape_vec((values.len() / D, D), values.to_vec()).unwrap();
    near(&three_lines(&array(&s), &array(&t), array(&s)), &expected, 1e-12);
    let array32 =
        |values: &[f64]| ndarray::Array2::from_shape_vec((values.len() / D, D), short(values)).unwrap();
    near(&three_lines(&array32(&s), &array32(&t), array32(&s)), &expected, 1e-5);
    // In columns.
    let turned =
        |values: &[f64]| array(values).reversed_axes().as_standard_layout().into_owned().reversed_axes();
    near(&three_lines(&turned(&s), &turned(&t), turned(&s)), &expected, 1e-12);

    let matrix = |values: &[f64]| nalgebra::DMatrix::from_row_slice(values.len() / D, D, values);
    near(&three_lines(&matrix(&s), &matrix(&t), matrix(&s)), &expected, 1e-12);
    let matrix32 = |values: &[f64]| nalgebra::DMatrix::from_row_slice(values.len() / D, D, &short(values));
    near(&three_lines(&matrix32(&s), &matrix32(&t), matrix32(&s)), &expected, 1e-5);

    // Slices with a width, and vectors of rows.
    let (s32, t32) = (short(&s), short(&t));
    let fit = GaussianOtMap::fit(RowMajor::new(&s32, D).unwrap(), RowMajor::new(&t32, D).unwrap()).unwrap();
    let mut rows = s32.clone();
    fit.apply(&mut (rows.as_mut_slice(), D)).unwrap();
    near(&RowMajor::new(&rows, D).unwrap(), &expected, 1e-5);
    let nested = |values: &[f32]| values.chunks(D).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let again =
        GaussianOtMap::fit(matrix_of_rows(&nested(&s32)).unwrap(), matrix_of_rows(&nested(&t32)).unwrap());
    assert_eq!(again.unwrap().map(), fit.map());
}

#[test]
fn views_in_steps_are_copied_to_read_and_refused_to_write() {
    let every_other = |n: usize, by: f64| {
        ndarray::Array2::from_shape_fn((n, 2 * D), |(i, j)| value(i, j / 2, by) + (j % 2) as f64)
    };
    let (s, t) = (every_other(30, 0.7), every_other(20, 1.1));
    let (s, t) = (s.slice(ndarray::s![.., ..;2]), t.slice(ndarray::s![.., ..;2]));
    let fit = GaussianOtMap::fit(s, t).unwrap();
    let (from, to) = (values(30, 0.7), values(20, 1.1));
    let (from, to) = (RowMajor::new(&from, D).unwrap(), RowMajor::new(&to, D).unwrap());
    assert_eq!(fit.map(), GaussianOtMap::fit(from, to).unwrap().map());

    let mut whole = every_other(3, 0.2);
    let kept = whole.clone();
    let refused = fit.apply(&mut whole.slice_mut(ndarray::s![.., ..;2])).unwrap_err();
    assert!(matches!(refused, TransportError::Map(MapError::Steps)), "{refused}");
    // Rows from the last to the first lie in order, but not in this one.
    let mut square = ndarray::Array2::from_shape_fn((D, D), |(i, j)| value(i, j, 0.2));
    assert!(fit.apply(&mut square.slice_mut(ndarray::s![..;-1, ..])).is_err());
    assert!(fit.apply(&mut ([0.0_f32; 7].as_mut_slice(), D)).is_err(), "no whole rows");
    assert_eq!(whole, kept);
}
