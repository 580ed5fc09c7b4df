//! What is done of a long output, kept until all of it is.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::target::{Target, resolve};
use crate::{Existing, WriteError};

/// A file of lines beside an output, `OUTPUT.partial`, to which each result is appended when it is there. The output itself
/// is [written](crate::write()) when all are; a run that was interrupted finds here what it need not do again.
///
/// One process has a journal at a time.
///
/// ```
/// use brenier_files::Journal;
///
/// let dir = tempfile::tempdir()?;
/// let out = dir.path().join("texts.jsonl");
/// let (mut journal, lines) = Journal::beside(&out)?.expect("the output is a file");
/// assert!(lines.is_empty());
/// journal.append("one")?;
/// drop(journal);
///
/// let (journal, lines) = Journal::beside(&out)?.expect("the output is a file");
/// assert_eq!(lines, ["one"]);
/// journal.remove()?;
/// assert!(!dir.path().join("texts.jsonl.partial").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal of an output, which is made where there is none, and gives its lines. What follows the last
    /// complete line was being written when the process ended: it is cut off. `None` for an output that is no file.
    ///
    /// # Errors
    /// [`WriteError::Io`], also where another process has the journal open.
    pub fn beside(output: &Path) -> Result<Option<(Self, Vec<String>)>, WriteError> {
        let Target::File { at, .. } = resolve(output, Existing::Replace)? else { return Ok(None) };
        let mut path = at.into_os_string();
        path.push(".partial");
        let path = PathBuf::from(path);
        let opened = Self::open(&path).map_err(|source| WriteError::Io { path: path.clone(), source })?;
        Ok(Some((Self { path, file: opened.0 }, opened.1)))
    }

    fn open(path: &Path) -> io::Result<(File, Vec<String>)> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another run is writing this output")
            }
            TryLockError::Error(error) => error,
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        file.set_len(complete as u64)?;
        file.seek(SeekFrom::End(0))?;
        let text = String::from_utf8_lossy(&bytes[..complete]);
        Ok((file, text.lines().map(str::to_owned).collect()))
    }

    /// The journal's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line, which must hold no line break.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn append(&mut self, line: &str) -> Result<(), WriteError> {
        let io = |source| WriteError::Io { path: self.path.clone(), source };
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(io)
    }

    /// Forgets all lines.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn clear(&mut self) -> Result<(), WriteError> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cleared.map(drop).map_err(|source| WriteError::Io { path: self.path.clone(), source })
    }

    /// Removes the journal: the output is complete.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn remove(self) -> Result<(), WriteError> {
        std::fs::remove_file(&self.path).map_err(|source| WriteError::Io { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_that_was_being_written_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (out, partial) = (dir.path().join("out"), dir.path().join("out.partial"));
        std::fs::write(&partial, "one\ntwo\nthr").unwrap();
        let (mut journal, lines) = Journal::beside(&out).unwrap().unwrap();
        assert_eq!(lines, ["one", "two"]);
        journal.append("three").unwrap();
        assert_eq!(std::fs::read_to_string(&partial).unwrap(), "one\ntwo\nthree\n");
        journal.clear().unwrap();
        journal.append("1").unwrap();
        assert_eq!(std::fs::read_to_string(&partial).unwrap(), "1\n");
    }

    #[test]
    fn one_process_has_it_at_a_time_and_devices_have_none() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let first = Journal::beside(&out).unwrap();
        let error = Journal::beside(&out).unwrap_err().to_string();
        assert!(error.contains("out.partial") && error.contains("another run"), "{error}");
        drop(first);
        assert!(Journal::beside(&out).is_ok());
        assert!(Journal::beside(Path::new("-")).unwrap().is_none());
        #[cfg(unix)]
        assert!(Journal::beside(Path::new("/dev/null")).unwrap().is_none());
    }
}
