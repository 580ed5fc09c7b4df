//! A model's directory from its name: the Hugging Face cache, and downloads into it.
//!
//! [`resolve`] takes what a user gives as a model, a path or a name such as `HuggingFaceTB/SmolLM2-135M-Instruct`,
//! and returns a directory that holds the model. It uses the cache of `huggingface_hub`, in its layout, and with the
//! feature `download` puts into it what is missing.
//!
//! ```
//! use brenier_hub::{HubOptions, resolve};
//!
//! # fn main() -> Result<(), brenier_hub::HubError> {
//! # let here = tempfile::tempdir().expect("a directory");
//! # let model = here.path();
//! let options = HubOptions::from_vars(|name| std::env::var_os(name));
//! let found = resolve(model, None, &options, &mut |progress| eprintln!("{progress:?}"))?;
//! assert_eq!(found.dir, model); // a path that exists is taken as it is
//! # Ok(())
//! # }
//! ```
//!
//! # Which files
//!
//! `config.json`; `model.safetensors`, or `model.safetensors.index.json` and the shards that it names; and where the
//! repository has them `generation_config.json`, `tokenizer.json`, `tokenizer_config.json`,
//! `special_tokens_map.json`, `added_tokens.json` and `chat_template.jinja`. Nothing else is downloaded. A snapshot
//! that lacks one of the first two is completed or refused, never returned.
//!
//! # When the Hub is asked
//!
//! A revision that the cache holds whole is used without any request, even if its branch has moved on since: give
//! a commit to be exact, or another revision to get it. Of an optional file that is not there the Hub is asked once,
//! about the same commit; the answer is kept. A download asks for one commit throughout, and only when all its files
//! are there does the branch point to it.
//!
//! Each download has its size and its checksum compared with what the Hub announces. What was interrupted goes on
//! from its last byte (`blobs/ETAG.incomplete`). Downloads of the same file by several programs wait for each other,
//! `huggingface_hub` included. The access token goes to the endpoint and to no other server.
//!
//! # Why not the crate `hf-hub`
//!
//! Two releases were tried against a local server that misbehaves as those of this crate's tests do.
//!
//! | | this crate | `hf-hub` 0.5.0, `ureq` | `hf-hub` 1.0.0, `blocking` |
//! |---|---|---|---|
//! | goes on with a partial file | yes | yes, but 416 for ever once it is complete | no, begins anew |
//! | connection fails, then comes back | goes on | bytes appended at the wrong place, returned as success | error |
//! | server ignores `Range` | begins anew | too long a file, returned as success | not applicable |
//! | error page instead of a file | error | error | the page stored as the file, returned as success |
//! | connection falls silent | error after [`HubOptions::timeout`] | waits for ever | waits for ever |
//! | checksum | compared | no | no |
//! | lock of `huggingface_hub` | honoured | no | honoured |
//! | crates, CPU seconds to build | 56, 32 | 64, 36 | 284, 189 |
//!
//! What is wrong lies where a caller cannot reach it (0.5.0 takes no timeouts, 1.0.0 only for some of its requests), and
//! with the resuming and the checks done here one request would be left of either. So this crate makes its requests
//! with `ureq`, and shares with `hf-hub` only the cache.
#![deny(missing_docs)]

mod cache;
#[cfg(feature = "download")]
mod download;
mod error;
#[cfg(feature = "download")]
mod explain;
mod files;
#[cfg(feature = "download")]
mod http;
mod name;
mod options;
mod progress;

use std::path::{Path, PathBuf};

use cache::{Repository, Snapshot};
use name::{Name, Revision};

pub use error::HubError;
pub use options::{HubOptions, Token};
pub use progress::Progress;

/// A directory that holds a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolved {
    /// The directory.
    pub dir: PathBuf,
    /// The commit, for a model of the cache.
    pub commit: Option<String>,
    /// Optional files that are not in the cache, where the Hub could not be asked whether the model has them. The
    /// model can be used, but for instance without its chat template.
    pub unknown: Vec<String>,
}

impl Resolved {
    fn from_cache(snapshot: Snapshot) -> Self {
        Self {
            dir: snapshot.dir,
            commit: Some(snapshot.commit.as_str().to_owned()),
            unknown: snapshot.unknown,
        }
    }
}

/// Finds the directory of a model, given its path or its name on the Hub.
///
/// A path that exists is returned as it is, even if it reads like a name. A name is `ORG/NAME`; `revision` is a
/// branch, a tag or a commit, `main` unless given. Whatever is missing in the cache is downloaded with the feature
/// `download`, unless the options are [`offline`](HubOptions::offline); `progress` hears of it.
///
/// # Errors
///
/// What is neither a path nor a name; a revision for a path; a model that is not in the cache and cannot be
/// downloaded; a repository that is no model in safetensors; a download that fails or has another checksum than
/// announced. A download that broke off goes on with the next call.
#[cfg_attr(not(feature = "download"), expect(unused_variables, reason = "progress is that of downloads"))]
pub fn resolve(
    model: &Path,
    revision: Option<&str>,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Resolved, HubError> {
    match std::fs::symlink_metadata(model) {
        Ok(_) => {
            return match revision {
                None => Ok(Resolved { dir: model.to_owned(), commit: None, unknown: Vec::new() }),
                Some(revision) => Err(HubError::RevisionOfPath {
                    path: model.to_owned(),
                    revision: error::one_line(revision),
                }),
            };
        }
        Err(error) if cache::is_absent(&error) => {}
        Err(error) => return Err(HubError::io("read", model)(error)),
    }
    let name = Name::parse(model.as_os_str())?;
    let revision = Revision::parse(revision.unwrap_or(Revision::DEFAULT))?;
    let Some(cache) = &options.cache else { return Err(HubError::NoCache { name: name.to_string() }) };
    let place = Place { name: &name, revision: &revision, repository: Repository::new(cache, &name) };
    let online = cfg!(feature = "download") && !options.offline;
    let commit = match place.repository.commit(&revision) {
        // Its file is written anew.
        Err(HubError::Reference { .. }) if online => None,
        commit => commit?,
    };
    let cached = commit.map(|commit| place.repository.snapshot(commit)).transpose()?;
    match cached {
        Some(snapshot) if snapshot.is_whole() => Ok(Resolved::from_cache(snapshot)),
        #[cfg(feature = "download")]
        cached if online => download::complete(&place, cached, options, progress),
        Some(snapshot) if snapshot.is_model() => Ok(Resolved::from_cache(snapshot)),
        cached => {
            let (reason, hint) = if options.offline {
                (
                    "requests are switched off",
                    "switch them on (HF_HUB_OFFLINE), or copy the model into the cache",
                )
            } else {
                (
                    "this build does not download",
                    "build with the feature `download`, or copy the model into the cache",
                )
            };
            Err(HubError::Missing {
                name: name.to_string(),
                revision: revision.to_string(),
                missing: place.missing(cached.as_ref()),
                reason: reason.to_owned(),
                hint,
            })
        }
    }
}

/// What is looked for, and where.
struct Place<'a> {
    name: &'a Name,
    revision: &'a Revision,
    repository: Repository,
}

impl Place<'_> {
    /// What the cache lacks and where it was looked for.
    fn missing(&self, cached: Option<&Snapshot>) -> String {
        match cached {
            Some(snapshot) if snapshot.dir.is_dir() => {
                format!("{} lacks {}", snapshot.dir.display(), listed(&snapshot.missing))
            }
            Some(snapshot) => format!("not in the cache, looked for {}", snapshot.dir.display()),
            None => {
                let path = self.repository.reference(self.revision);
                format!("not in the cache, looked for {}", path.display())
            }
        }
    }
}

/// A few names, and how many more there are.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
