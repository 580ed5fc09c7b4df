//! Running the program, and making the files that it reads.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

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

/// Runs what must succeed and has something to say: returns stdout and the notes on stderr.
pub fn noted(dir: &Path, args: &[&str]) -> (String, String) {
    let output = brenier(dir, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{args:?}: {stderr}");
    let said = stderr.lines().all(|line| line.starts_with("note: ") || line.starts_with("warning: "));
    assert!(said && !stderr.is_empty(), "{args:?}: {stderr}");
    (String::from_utf8(output.stdout).unwrap(), stderr)
}

/// The result as JSON of what must succeed without a note.
pub fn json(dir: &Path, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&done(dir, &[args, &["--json"]].concat())).unwrap()
}

/// Runs what must be refused: exit code 2, one error on stderr that holds all of `words`, nothing on stdout, and no
/// file made, changed or left behind in `dir`. Returns the line.
pub fn refused(dir: &Path, args: &[&str], words: &[&str]) -> String {
    let before = listing(dir);
    let output = brenier(dir, args);
    let whole = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {whole}");
    // What was noticed on the way comes first.
    let said = |line: &&str| line.starts_with("warning: ") || line.starts_with("note: ");
    let errors: Vec<&str> = whole.lines().filter(|line| !said(line)).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("error: "), "{args:?}: {whole}");
    let stderr = errors[0].to_owned();
    assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no `{word}` in: {stderr}");
    }
    let after = listing(dir);
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert!(after == before, "{args:?}: {:?} before, {:?} after", names(&before), names(&after));
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
    tensor_stating(path, name, rows, &BTreeMap::new());
}

/// A safetensors file with one f32 tensor and metadata.
pub fn tensor_stating(path: &Path, name: &str, rows: &[Vec<f32>], metadata: &BTreeMap<&str, &str>) {
    let width = rows.first().map_or(0, Vec::len);
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = json!({"dtype": "F32", "shape": [rows.len(), width], "data_offsets": [0, bytes.len()]});
    let header = json!({"__metadata__": metadata, name: tensor}).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(bytes);
    fs::write(path, file).unwrap();
}

/// The metadata of a safetensors file.
pub fn metadata(path: &Path) -> serde_json::Value {
    let bytes = fs::read(path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice::<serde_json::Value>(&bytes[8..header]).unwrap()["__metadata__"].take()
}

/// The JSON objects of a file, one a line.
pub fn lines(path: &Path) -> Vec<serde_json::Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The built-in model with another chat template, which takes a system message.
pub fn chatty(dir: &Path, template: &str) -> brenier::organism::Paths {
    let paths = brenier::organism::Organism::unpack(dir).unwrap();
    fs::write(paths.model.join("chat_template.jinja"), template).unwrap();
    paths
}

/// The first lines of the built-in study's files: `train`, `val` and `test` prompts of each side.
pub fn short_study(from: &Path, to: &Path, [train, val, test]: [usize; 3]) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let keep = match name.as_str() {
            name if name.contains("answers") || name.ends_with(".json") => usize::MAX,
            name if name.contains("train") => train,
            name if name.contains("val") => val,
            "text.txt" => 3,
            _ => test,
        };
        let text = fs::read_to_string(path).unwrap();
        fs::write(to.join(name), text.lines().take(keep).map(|line| format!("{line}\n")).collect::<String>())
            .unwrap();
    }
}

/// Rows that vary in every column.
pub fn cloud(rows: usize, width: usize, shift: f32) -> Vec<Vec<f32>> {
    let value = |i: usize, j: usize| shift + ((i * 7 + j * 3 + i * j) as f32 * 0.7).sin();
    (0..rows).map(|i| (0..width).map(|j| value(i, j)).collect()).collect()
}
