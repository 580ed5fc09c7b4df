//! Downloads into the cache.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use crate::cache::{Repository, Snapshot, create_parent};
use crate::error::{HubError, one_line};
use crate::explain::{explain, no_model};
use crate::files::{CONFIG, INDEX, OPTIONAL, SINGLE, shards};
use crate::http::{Client, Failure, Listing, Remote, pause, text};
use crate::name::{Commit, Revision};
use crate::options::HubOptions;
use crate::progress::Progress;
use crate::{Place, Resolved};

/// Downloads what `cached` lacks of a model, or all of it.
///
/// A snapshot that is a model stays the one that is used: the Hub is asked about its commit, and where it does not
/// answer, the snapshot is used as it is. Otherwise the Hub says which commit the revision is now.
pub(crate) fn complete(
    place: &Place<'_>,
    cached: Option<Snapshot>,
    options: &HubOptions,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Resolved, HubError> {
    let client = Client::new(options)?;
    let usable = cached.as_ref().filter(|snapshot| snapshot.is_model());
    let listing = match usable {
        Some(snapshot) => client.listing(place.name, &Revision::parse(snapshot.commit.as_str())?),
        None => client.listing(place.name, place.revision),
    };
    let listing = match (listing, cached) {
        (Ok(listing), _) => listing,
        (Err(_), Some(snapshot)) if snapshot.is_model() => return Ok(Resolved::from_cache(snapshot)),
        (Err(failure), cached) if failure.passes() => {
            let (verb, hint) = match failure {
                Failure::Network(_) => (
                    "cannot be reached: ",
                    "try again where there is a network; HTTPS_PROXY and SSL_CERT_FILE are heeded",
                ),
                _ => ("", "try again later"),
            };
            return Err(HubError::Unreachable {
                name: place.name.to_string(),
                revision: place.revision.to_string(),
                missing: place.missing(cached.as_ref()),
                reason: format!("{} {verb}{}", client.endpoint(), failure.reason()),
                hint,
            });
        }
        (Err(failure), _) => return Err(explain(place, &client, failure, &api_url(place, &client))),
    };
    let mut download = Download { place, client, commit: &listing.commit, progress, base: 0, total: 0 };
    let any = download.run(&listing)?;
    match place.repository.set_commit(place.revision, &listing.commit) {
        // All was there: a cache that cannot be written is good enough.
        Err(_) if !any => {}
        noted => noted?,
    }
    let snapshot = place.repository.snapshot(listing.commit)?;
    if !snapshot.is_model() {
        return Err(HubError::Missing {
            name: place.name.to_string(),
            revision: place.revision.to_string(),
            missing: place.missing(Some(&snapshot)),
            reason: "it was just downloaded".to_owned(),
            hint: "does another program delete from the cache?",
        });
    }
    Ok(Resolved::from_cache(snapshot))
}

fn api_url(place: &Place<'_>, client: &Client) -> String {
    format!("{}/api/models/{}", client.endpoint(), place.name)
}

/// One download.
struct Download<'a> {
    place: &'a Place<'a>,
    client: Client,
    commit: &'a Commit,
    progress: &'a mut dyn FnMut(Progress<'_>),
    /// Bytes of the files that are done.
    base: u64,
    /// Bytes of all files.
    total: u64,
}

/// Why a file did not come whole.
enum Stop {
    /// It can go on from the bytes that are here.
    Broken(Failure),
    Failed(Box<HubError>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure)
    }
}

impl Download<'_> {
    /// Downloads what a commit lacks. Returns whether it lacked anything.
    fn run(&mut self, listing: &Listing) -> Result<bool, HubError> {
        let has = |name: &str| listing.files.iter().any(|file| file == name);
        if !has(CONFIG) || !(has(SINGLE) || has(INDEX)) {
            return Err(no_model(self.place, listing));
        }
        let mut any = false;
        let mut wanted = vec![CONFIG.to_owned()];
        for name in OPTIONAL {
            if has(name) {
                wanted.push(name.to_owned());
            } else {
                self.repository().mark_no_exist(self.commit, name);
            }
        }
        if has(SINGLE) {
            wanted.push(SINGLE.to_owned());
        } else {
            // The index first: it says what else there is.
            any |= self.fetch_all(&[INDEX.to_owned()])?;
            let shards = shards(&self.path(INDEX))?;
            if let Some(shard) = shards.iter().find(|shard| !has(shard)) {
                return Err(HubError::Repository {
                    name: self.place.name.to_string(),
                    revision: self.place.revision.to_string(),
                    problem: format!("{INDEX} names the shard {shard}, which the repository lacks"),
                    hint: "tell its authors, or give another revision".to_owned(),
                });
            }
            wanted.extend(shards);
        }
        any |= self.fetch_all(&wanted)?;
        if any {
            (self.progress)(Progress::Done);
        }
        Ok(any)
    }

    /// Downloads those files that are not there. Returns whether there were any.
    fn fetch_all(&mut self, names: &[String]) -> Result<bool, HubError> {
        let remotes = names
            .iter()
            .filter(|name| !self.path(name).is_file())
            .map(|name| self.describe(name))
            .collect::<Result<Vec<_>, _>>()?;
        if remotes.is_empty() {
            return Ok(false);
        }
        self.base = 0;
        self.total = remotes.iter().filter_map(|remote| remote.size).sum();
        (self.progress)(Progress::Start { files: remotes.len(), bytes: self.total });
        remotes.iter().try_for_each(|remote| self.fetch(remote))?;
        Ok(true)
    }

    fn repository(&self) -> &Repository {
        &self.place.repository
    }

    fn path(&self, name: &str) -> PathBuf {
        self.repository().snapshot_dir(self.commit).join(name)
    }

    fn describe(&self, file: &str) -> Result<Remote, HubError> {
        self.client
            .describe(self.place.name, self.commit, file)
            .map_err(|failure| self.explain(failure, file))
    }

    fn explain(&self, failure: Failure, file: &str) -> HubError {
        let url = self.client.file_url(self.place.name, self.commit, file);
        explain(self.place, &self.client, failure, &url)
    }

    /// Puts a file into the snapshot: from a blob that another commit brought, from the Hub otherwise.
    fn fetch(&mut self, remote: &Remote) -> Result<(), HubError> {
        let name = remote.name.as_str();
        (self.progress)(Progress::File { name });
        let progress = &mut self.progress;
        let wait = |lock: &Path| progress(Progress::Wait { name, lock });
        // Held until the end of the function.
        let _lock = self.place.repository.lock(&remote.etag, wait)?;
        let blob = self.repository().blob(&remote.etag);
        // Another program may have brought it meanwhile.
        if !self.path(name).is_file() {
            if !(blob.is_file() && self.check(&blob, remote)?.is_ok()) {
                self.download(remote, &blob)?;
            }
            self.repository().link(self.commit, name, &remote.etag)?;
        }
        self.base += fs::metadata(&blob).map_or(0, |metadata| metadata.len());
        (self.progress)(Progress::Received { done: self.base, total: self.total.max(self.base) });
        Ok(())
    }

    /// Downloads a blob beside its place, then renames it. What an earlier try left is gone on with, and thrown away
    /// where the whole then has another checksum than the Hub says.
    fn download(&mut self, remote: &Remote, blob: &Path) -> Result<(), HubError> {
        create_parent(blob)?;
        let partial = blob.with_file_name(format!("{}.incomplete", remote.etag));
        let file = OpenOptions::new().create(true).append(true).open(&partial);
        let mut file = file.map_err(HubError::io("write", &partial))?;
        let mut resumed = file.metadata().map_err(HubError::io("read", &partial))?.len() > 0;
        loop {
            self.receive(remote, &mut file, &partial)?;
            match self.check(&partial, remote)? {
                Ok(()) => break,
                Err(_) if resumed => {
                    resumed = false;
                    file.set_len(0).map_err(HubError::io("write", &partial))?;
                }
                Err(found) => {
                    drop(fs::remove_file(&partial));
                    return Err(HubError::Checksum {
                        name: self.place.name.to_string(),
                        file: remote.name.clone(),
                        expected: remote.etag.clone(),
                        found,
                    });
                }
            }
        }
        file.sync_all().map_err(HubError::io("write", &partial))?;
        fs::rename(&partial, blob).map_err(HubError::io("create", blob))
    }

    /// Appends to a file until it is whole, over as many connections as that takes.
    fn receive(&mut self, remote: &Remote, file: &mut File, path: &Path) -> Result<(), HubError> {
        let mut have = file.metadata().map_err(HubError::io("read", path))?.len();
        if remote.size.is_some_and(|size| have > size) {
            file.set_len(0).map_err(HubError::io("write", path))?;
            have = 0;
        }
        let (mut failures, mut most) = (0, have);
        while remote.size != Some(have) {
            let failure = match self.stream(remote, file, path, &mut have) {
                Ok(()) if remote.size.is_none_or(|size| size == have) => return Ok(()),
                Ok(()) => Failure::Network("the connection ended early".to_owned()),
                Err(Stop::Broken(failure)) if failure.passes() => failure,
                Err(Stop::Broken(failure)) => return Err(self.explain(failure, &remote.name)),
                Err(Stop::Failed(error)) => return Err(*error),
            };
            if have > most {
                (failures, most) = (0, have);
            }
            if failures == self.client.retries() {
                return Err(HubError::Server {
                    name: self.place.name.to_string(),
                    url: self.client.file_url(self.place.name, self.commit, &remote.name),
                    problem: format!("broke off after {have} bytes: {}", failure.reason()),
                    hint: "run again, it goes on from there".to_owned(),
                });
            }
            (self.progress)(Progress::Retry { name: &remote.name, reason: &failure.reason() });
            std::thread::sleep(pause(failures));
            failures += 1;
        }
        Ok(())
    }

    /// Appends what one connection gives. `have` is the file's length.
    fn stream(&mut self, remote: &Remote, file: &mut File, path: &Path, have: &mut u64) -> Result<(), Stop> {
        let response = self.client.open(self.place.name, self.commit, &remote.name, *have)?;
        let begins = match response.status() {
            StatusCode::RANGE_NOT_SATISFIABLE if remote.size.is_none() => return Ok(()),
            StatusCode::PARTIAL_CONTENT => {
                let range = text(response.headers(), "content-range").unwrap_or_default();
                match range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.parse().ok()) {
                    Some(begin) if begin == *have => begin,
                    _ => {
                        let found = one_line(range);
                        return Err(Failure::Answer(format!(
                            "expected bytes from {have} on, found `{found}`"
                        ))
                        .into());
                    }
                }
            }
            // All of it, or a refusal of the rest: from the beginning.
            _ => 0,
        };
        if begins != *have {
            file.set_len(0).map_err(|source| Stop::Failed(Box::new(HubError::io("write", path)(source))))?;
            *have = 0;
        }
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(Failure::Network("it has no more bytes; the file begins anew".to_owned()).into());
        }
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Network(one_line(&error.to_string())).into()),
            };
            if remote.size.is_some_and(|size| *have + read as u64 > size) {
                return Err(Failure::Answer("sends more bytes than it announced".to_owned()).into());
            }
            file.write_all(&buffer[..read])
                .map_err(|source| Stop::Failed(Box::new(HubError::io("write", path)(source))))?;
            *have += read as u64;
            let done = self.base + *have;
            (self.progress)(Progress::Received { done, total: self.total.max(done) });
        }
    }

    /// Whether a file is what the Hub announced; if not, its checksum. An ETag of 64 digits is the SHA-256 of the
    /// bytes, one of 40 the SHA-1 of the git object, or on some mirrors of the bytes; of others only the size is
    /// compared.
    fn check(&mut self, path: &Path, remote: &Remote) -> Result<Result<(), String>, HubError> {
        (self.progress)(Progress::Check { name: &remote.name });
        let length = fs::metadata(path).map_err(HubError::io("read", path))?.len();
        if remote.size.is_some_and(|size| size != length) {
            return Ok(Err(format!("{length} bytes")));
        }
        let digits = |n| remote.etag.len() == n && remote.etag.bytes().all(|b| b.is_ascii_hexdigit());
        let found = if digits(64) {
            vec![hash(path, Sha256::new())?]
        } else if digits(40) {
            vec![hash(path, Sha1::new_with_prefix(format!("blob {length}\0")))?, hash(path, Sha1::new())?]
        } else {
            return Ok(Ok(()));
        };
        match found.iter().any(|found| found.eq_ignore_ascii_case(&remote.etag)) {
            true => Ok(Ok(())),
            false => Ok(Err(found.into_iter().next().unwrap_or_default())),
        }
    }
}

fn hash<D: Digest>(path: &Path, mut digest: D) -> Result<String, HubError> {
    let mut file = File::open(path).map_err(HubError::io("read", path))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(HubError::io("read", path))? {
            0 => return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => digest.update(&buffer[..read]),
        }
    }
}
