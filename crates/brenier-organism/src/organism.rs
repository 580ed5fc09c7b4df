//! The shipped files.

use std::path::{Path, PathBuf};

use brenier_files::Existing;

use crate::OrganismError;

/// The shipped organism: its model and its study.
///
/// ```
/// use brenier_organism::Organism;
///
/// let dir = tempfile::tempdir()?;
/// let paths = Organism::unpack(dir.path())?;
/// assert!(paths.model.join("config.json").exists());
/// assert!(paths.study.join("source_train.jsonl").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Organism;

/// Where the organism was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// A model directory in Hugging Face layout.
    pub model: PathBuf,
    /// A data directory as `brenier study --data` reads it.
    pub study: PathBuf,
}

/// Directory, name and content of each file.
macro_rules! files {
    ($($dir:literal / $name:literal),* $(,)?) => {
        [$(($dir, $name, include_bytes!(concat!("../data/", $dir, "/", $name)).as_slice())),*]
    };
}

const FILES: [(&str, &str, &[u8]); 17] = files![
    "model" / "config.json",
    "model" / "generation_config.json",
    "model" / "model.safetensors",
    "model" / "tokenizer.json",
    "model" / "tokenizer_config.json",
    "study" / "source_train.jsonl",
    "study" / "source_val.jsonl",
    "study" / "source_val_answers.jsonl",
    "study" / "source_test.jsonl",
    "study" / "source_test_answers.jsonl",
    "study" / "target_train.jsonl",
    "study" / "target_val.jsonl",
    "study" / "target_val_answers.jsonl",
    "study" / "target_test.jsonl",
    "study" / "target_test_answers.jsonl",
    "study" / "text.txt",
    "study" / "refusal_phrases.json",
];

impl Organism {
    /// Writes the organism to `dir/model` and `dir/study`, which are made where they are missing. Files of these
    /// names that are there are replaced.
    ///
    /// # Errors
    /// [`OrganismError::Write`] names what could not be written.
    pub fn unpack(dir: &Path) -> Result<Paths, OrganismError> {
        let paths = Paths { model: dir.join("model"), study: dir.join("study") };
        for dir in [&paths.model, &paths.study] {
            brenier_files::create_dir(dir)?;
        }
        for (sub, name, content) in FILES {
            brenier_files::write_bytes(&dir.join(sub).join(name), Existing::Replace, content)?;
        }
        Ok(paths)
    }

    /// A file in `dir` that unpacking would replace by one with another content.
    #[must_use]
    pub fn in_the_way(dir: &Path) -> Option<PathBuf> {
        let paths = FILES.iter().map(|(sub, name, content)| (dir.join(sub).join(name), *content));
        let other =
            |path: &Path, content: &[u8]| brenier_files::read(path).map_or(true, |found| found != content);
        paths
            .filter(|(path, content)| std::fs::symlink_metadata(path).is_ok() && other(path, content))
            .map(|(path, _)| path)
            .next()
    }

    /// The content of a shipped file, e.g. `study/text.txt`.
    #[must_use]
    pub fn file(name: &str) -> Option<&'static [u8]> {
        let (dir, name) = name.split_once('/')?;
        FILES.iter().find(|file| (file.0, file.1) == (dir, name)).map(|file| file.2)
    }
}
