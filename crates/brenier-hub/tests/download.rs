//! Downloads from a Hub on 127.0.0.1. No request goes anywhere else.

mod server;

use std::fs;
use std::path::{Path, PathBuf};

use brenier_hub::{HubError, HubOptions, Progress, Resolved, Token, resolve};
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
fn an_interrupted_download_goes_on_with_the_next_call() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    server
        .edit(|hub| hub.faults.extend([Fault::Cut(400), Fault::Cut(100), Fault::Cut(5000), Fault::Cut(900)]));
    let weights = &single()["model.safetensors"];
    // The first four files pass: their faults send all there is.
    server.edit(|hub| hub.faults.push_back(Fault::Cut(123_456)));
    let error = cache.refused(&server, None);
    for part in ["/org/tiny/resolve/", "model.safetensors: broke off after 123456 bytes", "run again"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(fs::read(cache.partial(weights)).expect("a part"), weights[..123_456]);
    cache.assert_no_weights();
    server.requests();
    cache.resolve(&server, None).expect("completed");
    let requests = server.requests();
    let bodies: Vec<&String> = requests.iter().filter(|line| line.starts_with("GET /org")).collect();
    assert_eq!(bodies.len(), 1, "{requests:?}");
    assert!(bodies[0].ends_with("/model.safetensors bytes=123456-"), "{requests:?}");
    cache.assert_holds(COMMIT, &single(), &TAKEN);
    assert!(!cache.partial(weights).exists());
}

/// What one call does about faults of the server while it sends the weights, with three retries.
fn with_faults(
    left: Option<&[u8]>,
    faults: &[Fault],
) -> (Cache, Result<Resolved, HubError>, Vec<String>, usize) {
    let (server, cache) = (Server::new(&single()), Cache::new());
    for _ in &TAKEN[..4] {
        server.edit(|hub| hub.faults.push_back(Fault::IgnoreRange));
    }
    server.edit(|hub| hub.faults.extend(faults));
    if let Some(left) = left {
        cache.write_partial(&single()["model.safetensors"], left);
    }
    let mut options = server.options(cache.0.path());
    options.retries = 3;
    options.timeout = std::time::Duration::from_millis(400);
    let mut retries = 0;
    let result = resolve(Path::new(NAME), None, &options, &mut |progress| {
        retries += usize::from(matches!(progress, Progress::Retry { name: "model.safetensors", .. }));
    });
    let fetched = server.fetched().into_iter().filter_map(|line| {
        Some(line.strip_prefix("model.safetensors")?.trim().trim_start_matches("bytes=").to_owned())
    });
    (cache, result, fetched.collect(), retries)
}

#[test]
fn a_connection_that_fails_is_taken_up_again() {
    let weights = &single()["model.safetensors"];
    let part = &weights[..50_000];
    for (left, faults, expected) in [
        (
            None,
            &[Fault::Cut(70_000), Fault::Cut(0), Fault::Cut(30_000)][..],
            &["", "70000-", "70000-", "100000-"][..],
        ),
        (Some(part), &[Fault::Cut(0), Fault::Status(500)], &["50000-", "50000-", "50000-"]),
        (Some(part), &[Fault::Silence(1000)], &["50000-", "51000-"]),
        (None, &[Fault::Silence(0), Fault::Status(429)], &["", "", ""]),
        // Bytes that arrive begin a new row of retries.
        (
            None,
            &[Fault::Cut(10), Fault::Cut(10), Fault::Cut(10), Fault::Cut(10), Fault::Cut(10)],
            &["", "10-", "20-", "30-", "40-", "50-"],
        ),
        (Some(part), &[Fault::IgnoreRange], &["50000-"]),
    ] {
        let (cache, result, fetched, retries) = with_faults(left, faults);
        result.expect("downloaded");
        assert_eq!(fetched, expected, "{faults:?}");
        assert_eq!(retries, expected.len() - 1, "{faults:?}");
        cache.assert_holds(COMMIT, &single(), &TAKEN);
    }
    let (cache, result, fetched, _) =
        with_faults(None, &[Fault::Cut(5), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)]);
    assert!(one_line(result.expect_err("three in a row")).contains("broke off after 5 bytes"));
    assert_eq!(fetched, ["", "5-", "5-", "5-"]);
    cache.assert_no_weights();
}

#[test]
fn what_an_earlier_try_left_is_used_if_it_is_sound() {
    let weights = single()["model.safetensors"].clone();
    let longer = [&weights[..], b"more"].concat();
    let mut garbled = weights[..50_000].to_vec();
    garbled[0] ^= 1;
    let mut garbled_whole = weights.clone();
    garbled_whole[0] ^= 1;
    for (left, expected) in [
        (&weights[..], &[][..]),
        (b"", &[""]),
        (&longer, &[""]),
        (&garbled, &["50000-", ""]),
        (&garbled_whole, &[""]),
    ] {
        let (cache, result, fetched, _) = with_faults(Some(left), &[]);
        result.expect("downloaded");
        assert_eq!(fetched, expected);
        cache.assert_holds(COMMIT, &single(), &TAKEN);
    }
}

#[test]
fn wrong_bytes_never_become_a_file() {
    for (fault, expected) in [
        (Fault::Garble, "model.safetensors: expected the checksum"),
        (Fault::Status(403), "answered 403 Forbidden: something is wrong"),
        (Fault::Status(404), "answered 404 Not Found: something is wrong"),
    ] {
        let (cache, result, ..) = with_faults(None, &[fault]);
        let error = one_line(result.expect_err("refused"));
        assert!(error.contains(expected), "{error}");
        cache.assert_no_weights();
        assert_eq!(cache.reference("main"), None);
    }
    let part = &single()["model.safetensors"][..50_000];
    let (cache, result, ..) = with_faults(Some(part), &[Fault::OtherRange]);
    let error = one_line(result.expect_err("refused"));
    assert!(error.contains("expected bytes from 50000 on, found `bytes 49999-599999/600000`"), "{error}");
    cache.assert_no_weights();
    assert_eq!(fs::read(cache.partial(&single()["model.safetensors"])).expect("a part"), part);
}

#[test]
fn a_blob_that_was_damaged_is_downloaded_again() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    cache.resolve(&server, None).expect("downloaded");
    let blob = cache.root().join("blobs").join(etag(&single()["config.json"]));
    fs::write(&blob, bytes(50, 400)).expect("written");
    fs::remove_file(cache.snapshot(COMMIT).join("config.json")).expect("removed");
    cache.resolve(&server, None).expect("completed");
    cache.assert_holds(COMMIT, &single(), &TAKEN);
}

#[test]
fn large_files_come_from_another_server_without_the_token() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    let storage = server.with_storage();
    server.edit(|hub| hub.token = Some("hf_secret".to_owned()));
    let mut options = server.options(cache.0.path());
    options.token = Token::new("hf_secret");
    with(&options, None).expect("downloaded");
    cache.assert_holds(COMMIT, &single(), &TAKEN);
    let there = storage.requests();
    assert_eq!(there.len(), 2, "{there:?}");
    assert!(there.iter().all(|line| line.starts_with("GET ") && !line.contains("secret")), "{there:?}");
    let here = server.requests();
    assert!(here.iter().all(|line| line.ends_with(" hf_secret")), "{here:?}");
}

#[test]
fn a_renamed_model_is_followed() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    server.edit(|hub| hub.former = Some("old/name".to_owned()));
    let found = resolve(Path::new("old/name"), None, &server.options(cache.0.path()), &mut |_| {});
    let dir = cache.0.path().join("models--old--name/snapshots").join(COMMIT);
    assert_eq!(found.expect("downloaded").dir, dir);
    assert_eq!(fs::read(dir.join("model.safetensors")).expect("weights"), single()["model.safetensors"]);
}

#[test]
fn a_private_or_gated_model_says_what_to_do() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    server.edit(|hub| hub.token = Some("hf_good".to_owned()));
    let error = cache.refused(&server, None);
    assert!(
        error.contains("private or gated") && error.contains("`hf auth login` or set HF_TOKEN"),
        "{error}"
    );

    let mut options = server.options(cache.0.path());
    options.token = Token::new("hf_bad");
    let error = one_line(with(&options, None).expect_err("refused"));
    assert!(error.contains("does not accept the access token") && !error.contains("hf_bad"), "{error}");

    // The Hub describes a gated model to everybody.
    server.edit(|hub| hub.refused = Some("hf_good".to_owned()));
    options.token = Token::new("hf_good");
    let error = one_line(with(&options, None).expect_err("refused"));
    let page = format!("ask for access at {}/org/tiny", server.endpoint);
    assert!(error.contains("gated") && error.contains(&page) && !error.contains("hf_good"), "{error}");
    assert_eq!(cache.reference("main"), None);

    // The token of a file, with the white space that editors leave.
    server.edit(|hub| hub.refused = None);
    let file = cache.0.path().join("token");
    options.token = None;
    options.token_file = Some(file.clone());
    let error = one_line(with(&options, None).expect_err("no such file, no token"));
    assert!(error.contains("private or gated"), "{error}");
    fs::write(&file, " hf_good\n").expect("written");
    with(&options, None).expect("downloaded");
    cache.assert_holds(COMMIT, &single(), &TAKEN);
}

#[test]
fn options_that_cannot_be_used_are_refused_by_name() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    let refused = |change: &dyn Fn(&mut HubOptions)| {
        let mut options = server.options(cache.0.path());
        change(&mut options);
        one_line(with(&options, None).expect_err("refused"))
    };
    let error = refused(&|options| options.token = Token::new("hf_a\nX-Evil: 1"));
    assert!(error.contains("HF_TOKEN") && !error.contains("Evil"), "{error}");
    for endpoint in ["", "huggingface.co", "ftp://127.0.0.1"] {
        let error = refused(&|options| options.endpoint = endpoint.to_owned());
        assert!(error.contains("HF_ENDPOINT"), "{error}");
    }
    let file = cache.0.path().join("ca.pem");
    let error = refused(&|options| options.ca_file = Some(file.clone()));
    assert!(error.contains("cannot read") && error.contains("ca.pem"), "{error}");
    fs::write(&file, "no certificate").expect("written");
    let error = refused(&|options| options.ca_file = Some(file.clone()));
    assert!(error.contains("SSL_CERT_FILE"), "{error}");
    assert_eq!(server.requests(), [""; 0]);
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
fn a_hub_that_is_not_reached_is_named_with_what_is_missing() {
    let cache = Cache::new();
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut options = HubOptions::new(cache.0.path());
    options.endpoint = format!("http://{port}");
    let error = one_line(with(&options, None).expect_err("refused"));
    let place = cache.root().join("refs/main");
    for part in ["not in the cache", &place.display().to_string(), &options.endpoint, "cannot be reached"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!cache.root().exists());

    // A model that is here is used, and says what could not be asked.
    let server = Server::new(&single());
    cache.resolve(&server, None).expect("downloaded");
    fs::remove_dir_all(cache.root().join(".no_exist")).expect("removed");
    let found = with(&options, None).expect("here");
    assert_eq!(found.unknown, ["special_tokens_map.json", "added_tokens.json", "chat_template.jinja"]);
    // One that is not whole is not.
    fs::remove_file(cache.snapshot(COMMIT).join("model.safetensors")).expect("removed");
    let error = one_line(with(&options, None).expect_err("refused"));
    assert!(error.contains("lacks model.safetensors") && error.contains("cannot be reached"), "{error}");
}

#[test]
fn a_busy_hub_is_asked_again() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    server.edit(|hub| hub.listing_faults.extend([503, 429]));
    let mut options = server.options(cache.0.path());
    options.retries = 1;
    let error = one_line(with(&options, None).expect_err("twice in a row"));
    assert!(error.contains("answered 429 Too Many Requests: busy; try again later"), "{error}");
    server.edit(|hub| hub.listing_faults.push_back(500));
    with(&options, None).expect("downloaded");
    cache.assert_holds(COMMIT, &single(), &TAKEN);
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
fn answers_that_are_not_a_hubs_are_refused() {
    for listing in [
        "<html>log in to the network</html>",
        "{}",
        r#"{"sha":"../../../evil","siblings":[]}"#,
        r#"{"sha":"main","siblings":[{"rfilename":"config.json"}]}"#,
    ] {
        let (server, cache) = (Server::new(&single()), Cache::new());
        server.edit(|hub| hub.listing = Some(listing.to_owned()));
        let error = cache.refused(&server, None);
        assert!(error.contains("expected the Hub's description") && error.contains("HF_ENDPOINT"), "{error}");
        assert!(!cache.root().exists());
    }
    for tag in ["", "..", "../../evil", "a/b"] {
        let (server, cache) = (Server::new(&single()), Cache::new());
        server.edit(|hub| hub.etag = Some(tag.to_owned()));
        let error = cache.refused(&server, None);
        assert!(error.contains(&format!("expected an ETag, found `{tag}`")), "{error}");
        assert!(!cache.0.path().join("evil").exists());
    }
}

#[test]
fn a_size_that_is_not_announced_is_not_needed() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    server.edit(|hub| hub.hides_size = true);
    cache.resolve(&server, None).expect("downloaded");
    cache.assert_holds(COMMIT, &single(), &TAKEN);
    let cache = Cache::new();
    cache.write_partial(&single()["model.safetensors"], &single()["model.safetensors"]);
    cache.resolve(&server, None).expect("downloaded");
    cache.assert_holds(COMMIT, &single(), &TAKEN);
}

#[test]
fn names_and_revisions_are_checked_before_any_request() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    let options = server.options(cache.0.path());
    for name in ["tiny", "../tiny", "org/tiny/x", "org/ti%2fny", "org/tiny?x", "org/tiny#x", "org/.."] {
        let error = resolve(Path::new(name), None, &options, &mut |_| {}).expect_err(name);
        assert!(matches!(error, HubError::Name { .. }), "{error}");
    }
    for revision in ["", "../x", "a/../../x", "a b", "a?b", "/x"] {
        let error = with(&options, Some(revision)).expect_err(revision);
        assert!(matches!(error, HubError::Revision { .. }), "{error}");
    }
    assert_eq!(server.requests(), [""; 0]);
    let error = resolve(Path::new("org/other"), None, &options, &mut |_| {}).expect_err("absent");
    assert!(one_line(error).contains("no such model"));
}

#[test]
fn programs_that_download_the_same_file_wait_for_each_other() {
    let (server, cache) = (Server::new(&single()), Cache::new());
    let weights = &single()["model.safetensors"];
    let lock = cache.0.path().join(".locks/models--org--tiny").join(format!("{}.lock", etag(weights)));
    fs::create_dir_all(lock.parent().expect("a parent")).expect("created");
    let mut held = Some(fs::File::create(&lock).expect("created"));
    held.as_ref().expect("held").lock().expect("locked");
    let mut waits = Vec::new();
    let options = server.options(cache.0.path());
    resolve(Path::new(NAME), None, &options, &mut |progress| {
        if let Progress::Wait { name, lock } = progress {
            waits.push((name.to_owned(), lock.to_owned()));
            drop(held.take());
        }
    })
    .expect("downloaded");
    assert_eq!(waits, [("model.safetensors".to_owned(), lock)]);
    cache.assert_holds(COMMIT, &single(), &TAKEN);
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
