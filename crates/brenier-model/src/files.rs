//! Text files and standard input, read whole; hashes.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::ModelError;
use crate::error::excerpt;

/// SHA-256 of bytes, in lower-case hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// [`ModelError::Io`]; what is not a regular file, whose content may be another the next time it is read.
pub fn sha256_file(path: impl AsRef<Path>) -> Result<String, ModelError> {
    let path = path.as_ref();
    let mut file = brenier_files::open(path).map_err(ModelError::io(path))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(ModelError::io(path))?;
    Ok(hex(&hash.finalize()))
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A text file in memory, with its name for errors.
pub(crate) struct TextFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl TextFile {
    /// Reads a file, or standard input for `-`. A byte order mark is dropped.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes).map_err(ModelError::io(path))?;
            bytes
        } else {
            std::fs::read(path).map_err(ModelError::io(path))?
        };
        Self::from_bytes(path, bytes)
    }

    pub(crate) fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, ModelError> {
        let path = path.to_owned();
        match String::from_utf8(bytes) {
            Ok(text) => {
                let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
                Ok(Self { path, text })
            }
            Err(e) => {
                let sound = e.utf8_error().valid_up_to();
                let bytes = e.as_bytes();
                let line = 1 + bytes.iter().take(sound).filter(|b| **b == b'\n').count();
                let found = bytes.get(sound).map_or(String::new(), |b| format!("the byte 0x{b:02x}"));
                let expected = "UTF-8 text".to_owned();
                let hint = "save the file as UTF-8".to_owned();
                Err(ModelError::Line { path, line, expected, found, hint })
            }
        }
    }

    /// Lines that are not blank, numbered from 1, without their line ends.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        lines.enumerate().map(|(i, line)| (i + 1, line)).filter(|(_, line)| !line.trim().is_empty())
    }

    /// An error about a line.
    pub(crate) fn at(&self, line: usize, expected: &str, found: &str, hint: &str) -> ModelError {
        ModelError::Line {
            path: self.path.clone(),
            line,
            expected: expected.to_owned(),
            found: excerpt(found),
            hint: hint.to_owned(),
        }
    }

    /// The items, or the error that there are none.
    pub(crate) fn not_empty<T>(&self, items: Vec<T>, expected: &str) -> Result<Vec<T>, ModelError> {
        if items.is_empty() {
            return Err(ModelError::Empty { path: self.path.clone(), expected: expected.to_owned() });
        }
        Ok(items)
    }
}
