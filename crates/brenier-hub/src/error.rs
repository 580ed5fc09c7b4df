//! What can be wrong with a name, a revision, the cache or the Hub's answers.

use std::path::PathBuf;

/// Errors of this crate. Each is one line: the name, file or address; what was expected and what was found; a hint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// What is neither a path that exists nor the name of a model.
    #[error(
        "`{given}` is neither a path that exists nor a model name: {reason}; \
         give the path of a model directory, or a name on the Hub as ORG/NAME"
    )]
    Name {
        /// What was given.
        given: String,
        /// Why it cannot be a name.
        reason: String,
    },
    /// What cannot be a revision.
    #[error("`{given}` cannot be a revision: {reason}; give a branch, a tag or a commit")]
    Revision {
        /// What was given.
        given: String,
        /// Why git has no such name.
        reason: String,
    },
    /// A revision that was asked of a path.
    #[error(
        "revision `{revision}` was asked of {}, which exists here and has no revisions; \
         leave the revision out, or give a name that is no path",
        path.display()
    )]
    RevisionOfPath {
        /// The path.
        path: PathBuf,
        /// The revision.
        revision: String,
    },
    /// A name without a cache to look for it.
    #[error(
        "{name}: no cache directory is known; set HF_HUB_CACHE, HF_HOME or HOME, or give a model directory"
    )]
    NoCache {
        /// The model's name.
        name: String,
    },
    /// A model that the cache lacks, wholly or in part, and that is not to be downloaded.
    #[error("{name}, revision {revision}: {missing}; {reason}; {hint}")]
    Missing {
        /// The model's name.
        name: String,
        /// The revision.
        revision: String,
        /// What is missing and where it was looked for.
        missing: String,
        /// Why it is not downloaded.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A model that the cache lacks, wholly or in part, while the Hub gives no answer.
    #[error("{name}, revision {revision}: {missing}; {reason}; {hint}")]
    Unreachable {
        /// The model's name.
        name: String,
        /// The revision.
        revision: String,
        /// What is missing and where it was looked for.
        missing: String,
        /// What became of the request.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A model that the Hub does not hand out: absent, private or gated.
    #[error("{name}: {reason}; {hint}")]
    Access {
        /// The model's name.
        name: String,
        /// What the Hub answered.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// A revision that the model does not have.
    #[error(
        "{name} has no revision `{revision}`; give a branch, a tag or a commit that its page on the Hub lists"
    )]
    NoRevision {
        /// The model's name.
        name: String,
        /// The revision.
        revision: String,
    },
    /// A repository without the files of a model.
    #[error("{name}, revision {revision}: {problem}; {hint}")]
    Repository {
        /// The model's name.
        name: String,
        /// The revision.
        revision: String,
        /// What is expected and what the repository holds.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// An answer that is not what a Hub answers, or a connection that does not hold.
    #[error("{name}: {url}: {problem}; {hint}")]
    Server {
        /// The model's name.
        name: String,
        /// Where the request went.
        url: String,
        /// What is wrong with the answer.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// A download that does not have the checksum that the Hub announced.
    #[error(
        "{name}, {file}: expected the checksum {expected}, found {found}; it was thrown away, download it again"
    )]
    Checksum {
        /// The model's name.
        name: String,
        /// The file.
        file: String,
        /// What the Hub announced.
        expected: String,
        /// What the bytes give.
        found: String,
    },
    /// An index of shards that cannot be read as one.
    #[error("{}: {problem}; delete the file and download the model again", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is expected and what it holds.
        problem: String,
    },
    /// A file of the cache that should name a commit.
    #[error("{}: expected a commit of 40 hexadecimal digits, found `{found}`; delete the file", path.display())]
    Reference {
        /// The file.
        path: PathBuf,
        /// How it begins.
        found: String,
    },
    /// An option that cannot be used.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// The field of [`HubOptions`](crate::HubOptions) and the variable it is read from.
        option: &'static str,
        /// What may stand there.
        expected: &'static str,
        /// What stands there; never a token.
        found: String,
    },
    /// A file that the system does not let us read or write.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl HubError {
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Foreign text as one line of printable characters, cut after some 200.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
