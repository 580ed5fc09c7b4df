//! Running the program, and making the files that it reads.
#![allow(clippy::unwrap_used, dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program with these arguments, in `dir`.
pub fn brenier(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_brenier")).args(args).current_dir(dir).output().unwrap()
}

/// Runs what must succeed and returns its stdout.
pub fn done(dir: &Path, args: &[&str]) -> String {
    let output = brenier(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    assert!(stderr.is_empty(), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must be refused: exit code 2, one line on stderr that holds all of `words`, nothing on stdout, and no
/// file made, changed or left behind in `dir`. Returns the line.
pub fn refused(dir: &Path, args: &[&str], words: &[&str]) -> String {
    let before = listing(dir);
    let output = brenier(dir, args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no `{word}` in: {stderr}");
    }
    assert_eq!(listing(dir), before, "{args:?}");
    stderr
}

/// Every file below a directory, with its content.
pub fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(listing(&path));
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// A copy of one of the golden models, which have no tokenizer.
pub fn model(dir: &Path, name: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models").join(name);
    let to = dir.join(name);
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if file != "expected.safetensors" {
            fs::copy(&path, to.join(file)).unwrap();
        }
    }
    to
}

/// A prompt file of token ids: `count` prompts, the i-th of `5 + i % 4` tokens.
pub fn ids(dir: &Path, name: &str, count: usize, first: usize) {
    let line = |i: usize| {
        let ids: Vec<usize> = (0..5 + i % 4).map(|token| 10 + (first + 7 * i + 13 * token) % 150).collect();
        format!("{{\"ids\": {ids:?}, \"name\": \"{name} {i}\"}}\n")
    };
    fs::write(dir.join(name), (0..count).map(line).collect::<String>()).unwrap();
}

/// A safetensors file with one f32 tensor.
pub fn tensor(path: &Path, name: &str, rows: &[Vec<f32>]) {
    let width = rows.first().map_or(0, Vec::len);
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let header = format!(
        "{{\"{name}\":{{\"dtype\":\"F32\",\"shape\":[{},{width}],\"data_offsets\":[0,{}]}}}}",
        rows.len(),
        bytes.len()
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(bytes);
    fs::write(path, file).unwrap();
}

/// Rows that vary in every column.
pub fn cloud(rows: usize, width: usize, shift: f32) -> Vec<Vec<f32>> {
    let value = |i: usize, j: usize| shift + ((i * 7 + j * 3 + i * j) as f32 * 0.7).sin();
    (0..rows).map(|i| (0..width).map(|j| value(i, j)).collect()).collect()
}
