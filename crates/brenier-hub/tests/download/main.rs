//! Downloads from a Hub on 127.0.0.1. No request goes anywhere else.

mod access;
mod faults;
mod server;

use std::fs;
use std::path::{Path, PathBuf};

use brenier_hub::{HubError, HubOptions, Progress, Resolved, resolve};
use server::{COMMIT, Fault, Files, NAME, OTHER, Server, etag};
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];

/// Some bytes that differ from those of another seed.
fn bytes(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i * 7 + i / 251 + seed * 13) % 256) as u8).collect()
}

/// A model in one file, and what else repositories have.
fn single() -> Files {
    [
        (".gitattributes", bytes(1, 50)),
        ("README.md", bytes(2, 300)),
        ("config.json", bytes(3, 400)),
        ("generation_config.json", bytes(4, 100)),
        ("tokenizer.json", bytes(5, 5000)),
        ("tokenizer_config.json", bytes(6, 900)),
        ("model.safetensors", bytes(7, 600_000)),
        ("pytorch_model.bin", bytes(8, 600_000)),
        ("model.gguf", bytes(9, 5000)),
        ("onnx/model.safetensors", bytes(10, 5000)),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// A model in three shards, and a file of weights that its index does not name.
fn sharded() -> Files {
    let mut files = single();
    files.remove("model.safetensors");
    let map: serde_json::Map<String, serde_json::Value> =
        SHARDS.iter().map(|&shard| (format!("layer of {shard}"), shard.into())).collect();
    files.insert(INDEX.to_owned(), serde_json::json!({ "weight_map": map }).to_string().into_bytes());
    for (seed, shard) in SHARDS.iter().enumerate() {
        files.insert((*shard).to_owned(), bytes(20 + seed, 100_000 + seed));
    }
    files.insert("consolidated.safetensors".to_owned(), bytes(30, 3000));
    files
}

/// A cache that is empty at first.
struct Cache(TempDir);

impl Cache {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("models--org--tiny")
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.root().join("snapshots").join(commit)
    }

    fn reference(&self, revision: &str) -> Option<String> {
        fs::read_to_string(self.root().join("refs").join(revision)).ok()
    }

    fn partial(&self, bytes: &[u8]) -> PathBuf {
        self.root().join("blobs").join(format!("{}.incomplete", etag(bytes)))
    }

    fn write_partial(&self, of: &[u8], bytes: &[u8]) {
        fs::create_dir_all(self.root().join("blobs")).expect("created");
        fs::write(self.partial(of), bytes).expect("written");
    }

    fn resolve(&self, server: &Server, revision: Option<&str>) -> Result<Resolved, HubError> {
        with(&server.options(self.0.path()), revision)
    }

    fn refused(&self, server: &Server, revision: Option<&str>) -> String {
        one_line(self.resolve(server, revision).expect_err("refused"))
    }

    /// Checks that the snapshot holds these files of a repository, and no other.
    fn assert_holds(&self, commit: &str, files: &Files, names: &[&str]) {
        let found = fs::read_dir(self.snapshot(commit)).expect("a snapshot");
        let mut found: Vec<String> =
            found.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        let mut expected = names.to_vec();
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected);
        for name in names {
            let read = fs::read(self.snapshot(commit).join(name)).expect(name);
            assert!(read == files[*name], "{name} has other bytes");
        }
    }

    /// Checks that no file of weights can be taken for a whole one.
    fn assert_no_weights(&self) {
        assert!(!self.snapshot(COMMIT).join("model.safetensors").exists());
        assert!(!self.root().join("blobs").join(etag(&single()["model.safetensors"])).exists());
    }
}

fn with(options: &HubOptions, revision: Option<&str>) -> Result<Resolved, HubError> {
    resolve(Path::new(NAME), revision, options, &mut |_| {})
}

fn one_line(error: HubError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

const TAKEN: [&str; 5] =
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];

#[test]
fn a_cold_cache_is_filled_and_a_warm_one_asks_nothing() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    let found = cache.resolve(&server, None).expect("downloaded");
    assert_eq!(found.dir, cache.snapshot(COMMIT));
    assert_eq!(found.commit.as_deref(), Some(COMMIT));
    assert!(found.unknown.is_empty());
    cache.assert_holds(COMMIT, &single(), &TAKEN);
    assert_eq!(cache.reference("main").as_deref(), Some(COMMIT));
    let mut fetched = server.fetched();
    fetched.sort();
    let mut taken = TAKEN.to_vec();
    taken.sort_unstable();
    assert_eq!(fetched, taken, "nothing else is downloaded, nothing twice");

    assert_eq!(cache.resolve(&server, None).expect("warm"), found);
    assert_eq!(cache.resolve(&server, Some(COMMIT)).expect("warm"), found);
    assert_eq!(server.requests(), [""; 0]);
    let mut options = server.options(cache.0.path());
    options.offline = true;
    assert_eq!(with(&options, None).expect("warm"), found);
}

#[test]
fn only_the_shards_of_the_index_are_downloaded() {
    let (server, cache) = (Server::new(&sharded()), Cache::new());
    let mut starts = Vec::new();
    let (mut last, mut done) = (0, 0);
    let options = server.options(cache.0.path());
    resolve(Path::new(NAME), None, &options, &mut |progress| match progress {
        Progress::Start { files, bytes } => {
            starts.push((files, bytes));
            last = 0;
        }
        Progress::Received { done, total } => {
            assert!(last <= done && done <= total, "{last} {done} {total}");
            assert_eq!(Some(total), starts.last().map(|(_, bytes)| *bytes));
            last = done;
        }
        Progress::Done => done += 1,
        _ => {}
    })
    .expect("downloaded");
    let files = sharded();
    let rest: Vec<&str> = TAKEN[..4].iter().chain(&SHARDS).copied().collect();
    let size = |names: &[&str]| names.iter().map(|name| files[*name].len() as u64).sum::<u64>();
    assert_eq!(starts, [(1, size(&[INDEX])), (7, size(&rest))]);
    assert_eq!((last, done), (size(&rest), 1));
    let all: Vec<&str> = rest.into_iter().chain([INDEX]).collect();
    cache.assert_holds(COMMIT, &files, &all);
}

#[test]
fn a_missing_shard_is_refused_offline_and_downloaded_online() {
    let (server, cache) = (Server::new(&sharded()), Cache::new());
    cache.resolve(&server, None).expect("downloaded");
    // One shard without its link, one without its blob.
    fs::remove_file(cache.snapshot(COMMIT).join(SHARDS[0])).expect("removed");
    fs::remove_file(cache.root().join("blobs").join(etag(&sharded()[SHARDS[1]]))).expect("removed");
    let mut options = server.options(cache.0.path());
    options.offline = true;
    let error = one_line(with(&options, None).expect_err("refused"));
    let expected =
        format!("{} lacks {}, {}; requests", cache.snapshot(COMMIT).display(), SHARDS[0], SHARDS[1]);
    assert!(error.contains(&expected), "{error}");
    server.requests();
    cache.resolve(&server, None).expect("completed");
    assert_eq!(server.fetched(), [SHARDS[1]], "the blob of the other one was there");
    let all: Vec<&str> = TAKEN[..4].iter().chain(&SHARDS).copied().chain([INDEX]).collect();
    cache.assert_holds(COMMIT, &sharded(), &all);
}

#[test]
fn an_index_that_names_what_is_not_there_is_refused() {
    let (server, cache) = (Server::new(&sharded()), Cache::new());
    server.edit(|hub| drop(hub.files.get_mut(COMMIT).expect("files").remove(SHARDS[2])));
    let error = cache.refused(&server, None);
    assert!(error.contains(&format!("{INDEX} names the shard {}", SHARDS[2])), "{error}");
    server.edit(|hub| {
        let index = br#"{"weight_map":{"a":"../../../../../evil.safetensors"}}"#.to_vec();
        hub.files.get_mut(COMMIT).expect("files").insert(INDEX.to_owned(), index);
    });
    let cache = Cache::new();
    let error = cache.refused(&server, None);
    assert!(error.contains("expected the name of a safetensors file"), "{error}");
}

#[test]
fn a_revision_is_a_branch_a_tag_or_a_commit() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    let mut changed = single();
    changed.insert("config.json".to_owned(), bytes(40, 410));
    server.edit(|hub| {
        hub.files.insert(OTHER.to_owned(), changed.clone());
        for revision in ["v1.0", "refs/pr/1", "2222222"] {
            hub.revisions.insert(revision.to_owned(), OTHER.to_owned());
        }
    });
    cache.resolve(&server, None).expect("main");
    server.requests();
    for revision in ["v1.0", "refs/pr/1", "2222222"] {
        let found = cache.resolve(&server, Some(revision)).expect(revision);
        assert_eq!(found.dir, cache.snapshot(OTHER));
        assert_eq!(cache.reference(revision).as_deref(), Some(OTHER));
    }
    // The other files' blobs were there.
    assert_eq!(server.fetched(), ["config.json"]);
    cache.assert_holds(OTHER, &changed, &TAKEN);
    assert_eq!(cache.reference("main").as_deref(), Some(COMMIT));

    let fresh = Cache::new();
    assert_eq!(fresh.resolve(&server, Some(OTHER)).expect("a commit").dir, fresh.snapshot(OTHER));
    assert!(!fresh.root().join("refs").exists(), "a commit needs no reference");
    let error = cache.refused(&server, Some("v9"));
    assert!(error.contains("org/tiny has no revision `v9`"), "{error}");
    assert_eq!(cache.reference("v9"), None);
}

#[test]
fn a_branch_points_to_a_commit_only_when_all_of_it_is_there() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    cache.resolve(&server, None).expect("downloaded");
    fs::remove_file(cache.snapshot(COMMIT).join("model.safetensors")).expect("removed");
    let mut changed = single();
    changed.insert("model.safetensors".to_owned(), bytes(41, 300_000));
    server.edit(|hub| {
        hub.files.insert(OTHER.to_owned(), changed.clone());
        hub.revisions.insert("main".to_owned(), OTHER.to_owned());
        hub.faults.push_back(Fault::Cut(1000));
    });
    let error = cache.refused(&server, None);
    assert!(error.contains("broke off after 1000 bytes"), "{error}");
    assert_eq!(cache.reference("main").as_deref(), Some(COMMIT));
    assert_eq!(cache.resolve(&server, None).expect("downloaded").commit.as_deref(), Some(OTHER));
    assert_eq!(cache.reference("main").as_deref(), Some(OTHER));
    cache.assert_holds(OTHER, &changed, &TAKEN);
}

#[test]
fn a_repository_without_safetensors_says_what_it_has() {
    for (has, expected) in [
        (
            &["config.json", "pytorch_model.bin"][..],
            "it has pytorch_model.bin, but neither model.safetensors nor",
        ),
        (&["config.json", "model.gguf"], "quantised from"),
        (&["config.json", "adapter_model.safetensors"], "not of an adapter"),
        (&["config.json"], "it has neither model.safetensors nor"),
        (&["model.safetensors", "README.md"], "it has no config.json"),
    ] {
        let files: Files = has.iter().map(|name| ((*name).to_owned(), bytes(1, 10))).collect();
        let (server, cache) = (Server::new(&files), Cache::new());
        let error = cache.refused(&server, None);
        assert!(error.contains(expected), "{error}");
        assert_eq!(server.requests().len(), 1, "only the listing");
        assert!(!cache.root().exists(), "{has:?}");
    }
}

#[test]
fn optional_files_of_a_model_that_is_here_are_asked_for_once() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    cache.resolve(&server, None).expect("downloaded");
    // As another program leaves it that has no use for a tokenizer.
    for file in &TAKEN[1..4] {
        fs::remove_file(cache.snapshot(COMMIT).join(file)).expect("removed");
    }
    fs::remove_dir_all(cache.root().join(".no_exist")).expect("removed");
    // Its branch has moved on: the model that is here stays what it was.
    server.edit(|hub| {
        hub.files.insert(OTHER.to_owned(), single());
        hub.revisions.insert("main".to_owned(), OTHER.to_owned());
    });
    server.requests();
    let found = cache.resolve(&server, None).expect("completed");
    assert_eq!(found.commit.as_deref(), Some(COMMIT));
    assert!(found.unknown.is_empty());
    cache.assert_holds(COMMIT, &single(), &TAKEN);
    let requests = server.requests();
    assert_eq!(requests[0], format!("GET /api/models/org/tiny/revision/{COMMIT}"));
    cache.resolve(&server, None).expect("whole");
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn a_damaged_reference_is_written_anew() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    cache.resolve(&server, None).expect("downloaded");
    fs::write(cache.root().join("refs/main"), "1111").expect("written");
    assert_eq!(cache.resolve(&server, None).expect("found").commit.as_deref(), Some(COMMIT));
    assert_eq!(cache.reference("main").as_deref(), Some(COMMIT));
}

#[test]
fn programs_that_download_the_same_file_wait_for_each_other() {
    let files = single();
    let weights = &files["model.safetensors"];
    for other_succeeds in [false, true] {
        let (server, cache) = (Server::new(&files), Cache::new());
        let lock = cache.0.path().join(".locks/models--org--tiny").join(format!("{}.lock", etag(weights)));
        fs::create_dir_all(lock.parent().expect("a parent")).expect("created");
        let mut held = Some(fs::File::create(&lock).expect("created"));
        held.as_ref().expect("held").lock().expect("locked");
        let mut waits = Vec::new();
        let options = server.options(cache.0.path());
        resolve(Path::new(NAME), None, &options, &mut |progress| {
            if let Progress::Wait { name, lock } = progress {
                waits.push((name.to_owned(), lock.to_owned()));
                if other_succeeds {
                    fs::write(cache.snapshot(COMMIT).join(name), weights).expect("written");
                }
                drop(held.take());
            }
        })
        .expect("downloaded");
        assert_eq!(waits, [("model.safetensors".to_owned(), lock)]);
        cache.assert_holds(COMMIT, &files, &TAKEN);
        let fetched = server.fetched();
        assert_eq!(fetched.contains(&"model.safetensors".to_owned()), !other_succeeds, "{fetched:?}");
    }
}

#[test]
fn a_reference_that_cannot_be_written_matters_only_after_a_download() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    cache.resolve(&server, None).expect("downloaded");
    fs::remove_dir_all(cache.root().join("refs")).expect("removed");
    fs::write(cache.root().join("refs"), "a file").expect("written");
    assert_eq!(cache.resolve(&server, None).expect("all is here").commit.as_deref(), Some(COMMIT));
    fs::remove_file(cache.snapshot(COMMIT).join("config.json")).expect("removed");
    let error = cache.refused(&server, None);
    assert!(error.contains(&format!("cannot create {}", cache.root().join("refs").display())), "{error}");
}

/// Every file and link of a cache; the sizes of the files, the text of references.
fn layout(cache: &Path) -> std::collections::BTreeMap<String, String> {
    let mut found = std::collections::BTreeMap::new();
    let mut open = vec![cache.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(cache).expect("within").to_str().expect("UTF-8").to_owned();
            let text = match fs::read_link(&path) {
                Ok(target) => format!("-> {}", target.display()),
                Err(_) if path.is_dir() => {
                    open.push(path);
                    continue;
                }
                Err(_) if name.contains("/refs/") => fs::read_to_string(&path).expect("text"),
                Err(_) => format!("{} bytes", path.metadata().expect("metadata").len()),
            };
            found.insert(name, text);
        }
    }
    found
}

#[cfg(unix)]
#[test]
fn the_cache_is_laid_out_as_huggingface_hub_does() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    let mut changed = single();
    changed.insert("config.json".to_owned(), bytes(40, 410));
    server.edit(|hub| {
        hub.files.insert(OTHER.to_owned(), changed);
        hub.revisions.insert("refs/pr/1".to_owned(), OTHER.to_owned());
    });
    for revision in ["main", "refs/pr/1"] {
        cache.resolve(&server, Some(revision)).expect(revision);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/hub/layout.json");
    let expected = serde_json::from_slice(&fs::read(path).expect("read")).expect("a layout");
    assert_eq!(layout(cache.0.path()), expected);
}
