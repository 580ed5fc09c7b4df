//! Activation files: round trips, files of others, broken files.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use brenier_capture::{ActivationFile, Activations, CaptureError, RowIndex, RowMatrix, Rows, common_tensors};
use brenier_files::WriteError;
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::{Dtype, tensor::TensorView};

fn bytes<T, const N: usize>(values: &[T], to: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(to).collect()
}

fn foreign(dir: &Path, name: &str, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> PathBuf {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let path = dir.join(name);
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

fn sample() -> Activations {
    let single = RowMatrix::from_fn(3, 2, |i, j| (i as f32 + 0.25) / (j as f32 + 3.0));
    let double = RowMatrix::from_fn(3, 4, |i, j| (i as f64 + 0.1) / (j as f64 + 7.0));
    Activations {
        tensors: BTreeMap::from([
            ("blocks.0.hook_resid_post".to_owned(), Rows::F32(single)),
            ("mine".to_owned(), Rows::F64(double)),
        ]),
        rows: Some(RowIndex { prompt: vec![0, 0, 1], position: vec![4, 5, 2] }),
        metadata: BTreeMap::from([
            ("model_sha256".to_owned(), "abc".to_owned()),
            ("b".to_owned(), "\"x\"\n".to_owned()),
        ]),
    }
}

#[test]
fn what_is_written_is_read_and_twice_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("a.safetensors"), dir.path().join("b.safetensors"));
    let mut wanted = sample();
    wanted.write(&one, false).unwrap();
    wanted.write(&two, false).unwrap();
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    wanted.metadata.insert("format".to_owned(), brenier_capture::FORMAT.to_owned());
    assert_eq!(Activations::read(&one).unwrap(), wanted);
    // Others read it too, and f64 has stayed f64.
    let raw = fs::read(&one).unwrap();
    let other = safetensors::SafeTensors::deserialize(&raw).unwrap();
    assert_eq!(other.tensor("mine").unwrap().dtype(), Dtype::F64);
    assert_eq!(other.tensor("rows.prompt").unwrap().shape(), [3]);
}

#[test]
fn an_existing_file_is_kept_without_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(sample().write(&path, false), Err(CaptureError::Write(WriteError::Exists { .. }))));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    sample().write(&path, true).unwrap();
    assert!(Activations::read(&path).is_ok());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(matches!(
        sample().write(&dir.path().join("no/where.safetensors"), false),
        Err(CaptureError::Write(WriteError::NoDirectory { .. }))
    ));
}

#[test]
fn files_of_others_are_read_in_every_float_type() {
    let dir = tempfile::tempdir().unwrap();
    let values = [1.5f32, -2.25, 0.0, 1024.0, -0.125, 3.0];
    let shape = vec![2, 3];
    let path = foreign(
        dir.path(),
        "foreign.safetensors",
        &[
            ("f32", Dtype::F32, shape.clone(), bytes(&values, |v| v.to_le_bytes())),
            ("f64", Dtype::F64, shape.clone(), bytes(&values, |v| f64::from(*v).to_le_bytes())),
            ("f16", Dtype::F16, shape.clone(), bytes(&values, |v| f16::from_f32(*v).to_le_bytes())),
            ("bf16", Dtype::BF16, shape, bytes(&values, |v| bf16::from_f32(*v).to_le_bytes())),
            ("labels", Dtype::I64, vec![2], bytes(&[0i64, 1], |v| v.to_le_bytes())),
        ],
    );
    let file = ActivationFile::open(&path).unwrap();
    assert_eq!(file.names(), ["bf16", "f16", "f32", "f64"]);
    let wanted = RowMatrix::from_fn(2, 3, |i, j| f64::from(values[i * 3 + j]));
    for name in file.names() {
        assert_eq!(file.rows(name).unwrap().to_f64(), wanted, "{name}");
    }
    assert!(matches!(file.rows("f64").unwrap(), Rows::F64(_)));
    let missing = file.rows("f8").unwrap_err().to_string();
    assert!(missing.contains("`f8`") && missing.contains("bf16, f16, f32, f64"), "{missing}");
}

#[test]
fn broken_files_get_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.safetensors");
    sample().write(&good, false).unwrap();
    let whole = fs::read(&good).unwrap();
    let message = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let text = Activations::read(&path).unwrap_err().to_string();
        assert!(text.contains(name) && !text.contains('\n'), "{text}");
        text
    };
    for cut in [0, 5, 40, whole.len() / 2, whole.len() - 1] {
        assert!(message("cut.safetensors", &whole[..cut]).contains("truncated"), "{cut}");
    }
    message("text.safetensors", b"once upon a time there was a file that was no tensor file at all");
    let three = foreign(dir.path(), "three.safetensors", &[("x", Dtype::F32, vec![1, 2, 1], vec![0; 8])]);
    let text = ActivationFile::open(&three).unwrap_err().to_string();
    assert!(text.contains("`x`") && text.contains("[n, d]") && text.contains("[1, 2, 1]"), "{text}");
    let labels = foreign(dir.path(), "labels.safetensors", &[("y", Dtype::I64, vec![1], vec![0; 8])]);
    let text = ActivationFile::open(&labels).unwrap_err().to_string();
    assert!(text.contains("no activations") && text.contains("y (I64"), "{text}");
    let empty = foreign(dir.path(), "empty.safetensors", &[("x", Dtype::F32, vec![0, 4], vec![])]);
    assert!(matches!(ActivationFile::open(&empty), Err(CaptureError::EmptyTensor { .. })));
    assert!(matches!(ActivationFile::open(dir.path()), Err(CaptureError::Incomplete { .. })));
    assert!(matches!(ActivationFile::open(&dir.path().join("none")), Err(CaptureError::Io { .. })));
}

#[test]
fn nothing_in_common_names_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = |name| [(name, Dtype::F32, vec![1, 1], vec![0; 4])];
    let a = ActivationFile::open(&foreign(dir.path(), "a.safetensors", &tensor("left"))).unwrap();
    let b = ActivationFile::open(&foreign(dir.path(), "b.safetensors", &tensor("right"))).unwrap();
    let text = common_tensors(&a, &b).unwrap_err().to_string();
    for part in ["a.safetensors has left", "b.safetensors has right"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(common_tensors(&a, &a).unwrap(), ["left"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No sequence of bytes makes the reader panic.
    #[test]
    fn any_bytes_are_read_or_refused(flips in prop::collection::vec((0usize..600, any::<u8>()), 0..8), cut in 0usize..700) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        sample().write(&path, false).unwrap();
        let mut content = fs::read(&path).unwrap();
        for (at, value) in flips {
            if let Some(byte) = content.get_mut(at) {
                *byte = value;
            }
        }
        content.truncate(cut.min(content.len()));
        fs::write(&path, content).unwrap();
        let _ = Activations::read(&path);
    }
}
