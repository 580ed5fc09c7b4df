//! Files opened for reading that must be regular files.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// Opens a regular file for reading.
///
/// For files that are mapped into memory or read more than once. A FIFO would block until somebody writes to it, so it
/// is refused before it is opened, as is every other kind.
///
/// # Errors
/// What is not a regular file; the system's refusal.
pub fn open(path: &Path) -> io::Result<File> {
    let regular = |found: &fs::Metadata| match found.is_file() {
        true => Ok(()),
        false if found.is_dir() => Err(io::Error::other("expected a file, found a directory")),
        false => Err(io::Error::other("expected a regular file, found a device, FIFO or socket")),
    };
    regular(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    // Once more for what was opened, should the name mean another file by now.
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file whole.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a regular file of UTF-8 text whole.
///
/// # Errors
/// As [`open`]; another encoding.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}
