//! Map files: what is written is read, and nothing else is.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use brenier_files::WriteError;
use brenier_map::{Affine, Diagonal, FORMAT, LowRank, MapEntry, MapError, MapFile, RowMap};
use common::any_map;
use faer::Mat;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const NAME: &str = "blocks.5.hook_resid_post";

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("map.safetensors");
    (dir, path)
}

fn file_of(map: RowMap) -> MapFile {
    let certificate = serde_json::json!({"w2": [4.0, 0.25], "note": "\u{e9}"});
    let entry = MapEntry { map, certificate, method: "pca-ot".to_owned() };
    MapFile {
        entries: BTreeMap::from([(NAME.to_owned(), entry)]),
        metadata: BTreeMap::from([
            ("model".to_owned(), "abc".to_owned()),
            ("zeta".to_owned(), String::new()),
        ]),
    }
}

fn small() -> MapFile {
    let map = LowRank {
        scale: 1.0,
        mean: vec![1.0, 2.0],
        offset: vec![0.5, -0.5],
        u: Mat::from_fn(2, 1, |i, _| i as f64),
        v: Mat::from_fn(2, 1, |i, _| 1.0 - i as f64),
    };
    file_of(RowMap::new(Affine::LowRank(map)).unwrap())
}

fn written(file: &MapFile) -> Vec<u8> {
    let (_dir, path) = place();
    file.write(&path, false).unwrap();
    std::fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> Result<MapFile, MapError> {
    let (_dir, path) = place();
    std::fs::write(&path, bytes).unwrap();
    MapFile::read(&path)
}

/// The tensors and the metadata of a file, to be changed and written again.
struct Loose {
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
}

impl Loose {
    fn of(file: &MapFile) -> Self {
        let bytes = written(file);
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let parts = |(name, view): (&str, TensorView<'_>)| {
            (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        };
        Self { tensors: tensors.iter().map(parts).collect(), metadata: header.metadata().clone().unwrap() }
    }

    fn error(self) -> String {
        let views = self.tensors.iter().map(|(name, (dtype, shape, data))| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        let bytes = safetensors::serialize(views, Some(self.metadata)).unwrap();
        let error = read(&bytes).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        let (path, what) = error.split_once(": ").unwrap();
        assert!(path.ends_with("map.safetensors"), "{error}");
        what.to_owned()
    }
}

fn f64s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Equal maps, and equal bits: `==` takes 0 for -0.
fn same_bits(a: &MapFile, b: &MapFile) -> bool {
    a == b && written(a) == written(b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(maps in prop::collection::btree_map("[a-z.0-9 /]{0,8}", any_map(4), 1..4)) {
        let entry = |(at, (name, map)): (usize, (String, RowMap))| {
            let certificate = serde_json::json!({ "n": at });
            (name, MapEntry { map, certificate, method: format!("method {at}") })
        };
        let entries = maps.into_iter().enumerate().map(entry).collect();
        let file = MapFile { entries, metadata: BTreeMap::from([("k".to_owned(), "v\n\"".to_owned())]) };
        let back = read(&written(&file)).unwrap();
        prop_assert!(same_bits(&back, &file));
    }

    #[test]
    fn damage_never_panics(at in 0..1500_usize, byte in any::<u8>(), cut in 0..1500_usize) {
        let mut bytes = written(&small());
        let len = bytes.len();
        bytes[at % len] = byte;
        let _ = read(&bytes);
        bytes.truncate(cut % len);
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(read(&bytes).is_err());
    }
}

#[test]
fn every_bit_of_every_number_is_kept() {
    let weight = vec![-0.0, f64::MIN_POSITIVE / 8.0, f64::MAX, 0.1 + 0.2];
    let map = Diagonal { weight: weight.clone(), bias: vec![0.0; 4], range: None };
    let back = read(&written(&file_of(RowMap::new(Affine::Diagonal(map)).unwrap()))).unwrap();
    let Affine::Diagonal(back) = back.entries[NAME].map.affine().clone() else { panic!("not diagonal") };
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back.weight), bits(&weight));
}

#[test]
fn one_content_is_one_file_with_one_hash() {
    let bytes = written(&small());
    for _ in 0..8 {
        assert_eq!(written(&small()), bytes);
    }
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(small().sha256().unwrap(), hash);
}

#[test]
fn the_layout_is_as_documented() {
    let loose = Loose::of(&small());
    let shapes: Vec<_> =
        loose.tensors.iter().map(|(name, (_, shape, _))| (name.as_str(), shape.as_slice())).collect();
    let expected: [(&str, &[usize]); 5] = [
        ("blocks.5.hook_resid_post.mean", &[2]),
        ("blocks.5.hook_resid_post.offset", &[2]),
        ("blocks.5.hook_resid_post.scale", &[]),
        ("blocks.5.hook_resid_post.u", &[2, 1]),
        ("blocks.5.hook_resid_post.v", &[2, 1]),
    ];
    assert_eq!(shapes, expected);
    assert_eq!(loose.metadata["format"], FORMAT);
    let entries: serde_json::Value = serde_json::from_str(&loose.metadata["entries"]).unwrap();
    assert_eq!(entries[NAME]["kind"], "low-rank");
    assert_eq!(entries[NAME]["method"], "pca-ot");
}

#[test]
fn a_file_is_not_overwritten_unless_told() {
    let (dir, path) = place();
    std::fs::write(&path, b"precious").unwrap();
    let error = small().write(&path, false).unwrap_err();
    assert!(matches!(error, MapError::Write(WriteError::Exists { .. })), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    small().write(&path, true).unwrap();
    assert_eq!(MapFile::read(&path).unwrap(), small());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left behind");
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let (dir, path) = place();
    let mut reserved = small();
    reserved.metadata.insert("format".to_owned(), "x".to_owned());
    assert!(matches!(reserved.write(&path, false), Err(MapError::ReservedKey { .. })));
    assert!(matches!(MapFile::default().write(&path, false), Err(MapError::Layout { .. })));
    let nowhere = small().write(&dir.path().join("no/such/map"), false).unwrap_err();
    assert!(matches!(nowhere, MapError::Write(WriteError::NoDirectory { .. })), "{nowhere}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(matches!(MapFile::read(Path::new("no/such/map")), Err(MapError::Io { .. })));
}

#[cfg(unix)]
#[test]
fn others_may_read_a_map() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path) = place();
    small().write(&path, false).unwrap();
    let plain = dir.path().join("plain");
    std::fs::write(&plain, b"").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}

#[test]
fn every_truncation_is_refused_in_one_line() {
    let bytes = written(&small());
    for len in 0..bytes.len() {
        let error = read(&bytes[..len]).unwrap_err();
        assert!(matches!(error, MapError::Unreadable { .. }), "{len}: {error}");
        assert!(error.to_string().contains("it is truncated"), "{len}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(read(&longer).is_err());
}

#[test]
fn other_versions_and_other_files_are_told_apart() {
    let mut newer = Loose::of(&small());
    newer.metadata.insert("format".to_owned(), "brenier.map/2".to_owned());
    let message = newer.error();
    assert!(message.contains("`brenier.map/2`") && message.contains("`brenier.map/1`"), "{message}");

    let mut foreign = Loose::of(&small());
    foreign.metadata.insert("format".to_owned(), "pt".to_owned());
    assert!(foreign.error().contains("its format is `pt`"));

    let mut bare = Loose::of(&small());
    bare.metadata.clear();
    assert!(bare.error().contains("no `format`"));

    let mut headless = Loose::of(&small());
    headless.metadata.remove("entries");
    assert!(headless.error().contains("no `entries`"));

    let mut broken = Loose::of(&small());
    broken.metadata.insert("entries".to_owned(), "{".to_owned());
    assert!(broken.error().contains("`entries`"));

    let mut empty = Loose::of(&small());
    empty.metadata.insert("entries".to_owned(), "{}".to_owned());
    assert!(empty.error().contains("it holds no map"));
}

#[test]
fn tensors_that_make_no_map_are_named() {
    let part = |part: &str| format!("{NAME}.{part}");
    let change = |change: &dyn Fn(&mut Loose)| {
        let mut loose = Loose::of(&small());
        change(&mut loose);
        loose.error()
    };
    let set = |name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>| {
        change(&|loose| {
            loose.tensors.insert(part(name), (dtype, shape.to_vec(), data.clone()));
        })
    };
    let missing = change(&|loose| {
        loose.tensors.remove(&part("offset"));
    });
    assert!(missing.contains("tensor `blocks.5.hook_resid_post.offset` is missing"), "{missing}");
    let narrow = set("offset", Dtype::F32, &[2], vec![0; 8]);
    assert!(narrow.contains("`blocks.5.hook_resid_post.offset` is F32, but F64 was expected"), "{narrow}");
    let long = set("offset", Dtype::F64, &[3], f64s(&[0.0; 3]));
    assert!(long.contains("`offset` is of length 3, but of length 2 was expected"), "{long}");
    let wide = set("u", Dtype::F64, &[1, 2], f64s(&[0.0; 2]));
    assert!(wide.contains("`u` is 1 x 2, but 2 x 2 was expected"), "{wide}");
    let tall = set("v", Dtype::F64, &[1 << 60, 0], vec![]);
    assert!(tall.contains("`v` is 1152921504606846976 x 0, but 2 x 1 was expected"), "{tall}");
    let list = set("scale", Dtype::F64, &[1], f64s(&[1.0]));
    assert!(list.contains("`scale` is of length 1, but a number was expected"), "{list}");
    let cube = set("mean", Dtype::F64, &[1, 2], f64s(&[0.0; 2]));
    assert!(cube.contains("`mean` has 2 axes, but 1 was expected"), "{cube}");
    let none = set("mean", Dtype::F64, &[0], vec![]);
    assert!(none.contains("the width is 0"), "{none}");
    let nan = set("mean", Dtype::F64, &[2], f64s(&[0.0, f64::NAN]));
    assert!(nan.contains("entry `blocks.5.hook_resid_post`: map: `mean` holds NaN at [1]"), "{nan}");
    let left = set("gate.constant", Dtype::F64, &[], f64s(&[0.0]));
    assert!(left.contains("tensor `blocks.5.hook_resid_post.gate.constant` is no part"), "{left}");
    let kind = change(&|loose| {
        let entries = loose.metadata["entries"].replace("low-rank", "quadratic");
        loose.metadata.insert("entries".to_owned(), entries);
    });
    assert!(kind.contains("its kind is `quadratic`"), "{kind}");
}
