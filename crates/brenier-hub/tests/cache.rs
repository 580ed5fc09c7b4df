//! Finding a model that is here, without any request.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use brenier_hub::{HubError, HubOptions, Resolved, Token, resolve};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OPTIONAL: [&str; 6] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
];

/// A cache with one snapshot of `org/tiny`.
struct Cache(TempDir);

impl Cache {
    fn new(files: &[&str]) -> Self {
        let cache = Self(tempfile::tempdir().expect("a directory"));
        cache.write("refs/main", COMMIT);
        for file in files {
            cache.write(&format!("snapshots/{COMMIT}/{file}"), "{}");
        }
        cache
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("models--org--tiny")
    }

    fn snapshot(&self) -> PathBuf {
        self.root().join("snapshots").join(COMMIT)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.root().join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    fn index(&self, shards: &[&str]) {
        let map: serde_json::Map<String, serde_json::Value> =
            shards.iter().enumerate().map(|(i, &shard)| (format!("tensor{i}"), shard.into())).collect();
        let text = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
        self.write(&format!("snapshots/{COMMIT}/model.safetensors.index.json"), &text);
    }

    fn resolve(&self, revision: Option<&str>) -> Result<Resolved, HubError> {
        offline(Path::new("org/tiny"), revision, self.0.path())
    }

    fn refused(&self, revision: Option<&str>) -> String {
        one_line(self.resolve(revision).expect_err("refused"))
    }
}

fn offline(model: &Path, revision: Option<&str>, cache: &Path) -> Result<Resolved, HubError> {
    let mut options = HubOptions::new(cache);
    options.offline = true;
    resolve(model, revision, &options, &mut |progress| panic!("{progress:?} without a request"))
}

fn one_line(error: HubError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn a_whole_snapshot_is_found_by_branch_tag_and_commit() {
    let cache = Cache::new(&["config.json", "model.safetensors"]);
    OPTIONAL.iter().for_each(|file| cache.write(&format!("snapshots/{COMMIT}/{file}"), "{}"));
    cache.write("refs/v1.0", &format!("{COMMIT}\n"));
    cache.write("refs/refs/pr/1", COMMIT);
    for revision in [None, Some("main"), Some("v1.0"), Some("refs/pr/1"), Some(COMMIT)] {
        let found = cache.resolve(revision).expect("found");
        assert_eq!(found.dir, cache.snapshot(), "{revision:?}");
        assert_eq!(found.commit.as_deref(), Some(COMMIT));
        assert!(found.unknown.is_empty(), "{:?}", found.unknown);
    }
}

#[test]
fn what_is_not_there_is_said_with_its_place() {
    let cache = Cache::new(&["config.json", "model.safetensors"]);
    let error = cache.refused(Some("v2.0"));
    let place = cache.root().join("refs/v2.0");
    for part in ["org/tiny, revision v2.0", "not in the cache", &place.display().to_string(), "switched off"]
    {
        assert!(error.contains(part), "{error}");
    }
    let other = "f".repeat(40);
    let error = cache.refused(Some(&other));
    let place = cache.root().join("snapshots").join(&other);
    assert!(error.contains(&format!("looked for {}", place.display())), "{error}");
    // A directory of the same name is no reference.
    fs::create_dir_all(cache.root().join("refs/refs/pr")).expect("created");
    assert!(cache.refused(Some("refs")).contains("not in the cache"));
}

#[test]
fn a_snapshot_without_its_shards_is_refused() {
    let cache = Cache::new(&["config.json", "model-00001-of-00005.safetensors"]);
    let shards: Vec<String> = (1..=5).map(|n| format!("model-0000{n}-of-00005.safetensors")).collect();
    cache.index(&shards.iter().map(String::as_str).collect::<Vec<_>>());
    let error = cache.refused(None);
    let expected = format!("{} lacks {} and 1 more", cache.snapshot().display(), shards[1..4].join(", "));
    assert!(error.contains(&expected), "{error}");
    for shard in &shards[1..] {
        cache.write(&format!("snapshots/{COMMIT}/{shard}"), "");
    }
    assert_eq!(cache.resolve(None).expect("whole").dir, cache.snapshot());
}

#[test]
fn a_snapshot_without_weights_or_configuration_is_refused() {
    let cache = Cache::new(&["config.json", "tokenizer.json", "pytorch_model.bin"]);
    assert!(cache.refused(None).contains("lacks model.safetensors"));
    let cache = Cache::new(&["model.safetensors"]);
    assert!(cache.refused(None).contains("lacks config.json"));
    let cache = Cache::new(&[]);
    assert!(cache.refused(None).contains("not in the cache"));
}

#[cfg(unix)]
#[test]
fn a_link_without_its_blob_is_no_file() {
    let cache = Cache::new(&["config.json"]);
    let path = cache.snapshot().join("model.safetensors");
    std::os::unix::fs::symlink("../../blobs/abc", &path).expect("linked");
    assert!(cache.refused(None).contains("lacks model.safetensors"));
    cache.write("blobs/abc", "weights");
    assert_eq!(cache.resolve(None).expect("whole").dir, cache.snapshot());
}

#[test]
fn optional_files_are_there_known_to_be_absent_or_unknown() {
    let cache = Cache::new(&["config.json", "model.safetensors", "tokenizer.json"]);
    for file in ["generation_config.json", "added_tokens.json"] {
        cache.write(&format!(".no_exist/{COMMIT}/{file}"), "");
    }
    let unknown = cache.resolve(None).expect("a model").unknown;
    assert_eq!(unknown, ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]);
    // Of a repository that was fetched whole everything is known.
    cache.write(&format!("snapshots/{COMMIT}/.gitattributes"), "");
    assert!(cache.resolve(None).expect("a model").unknown.is_empty());
}

#[test]
fn a_reference_that_names_no_commit_is_refused() {
    let cache = Cache::new(&["config.json", "model.safetensors"]);
    for text in ["", "../../other", "main", &COMMIT[1..], &COMMIT.to_uppercase()] {
        cache.write("refs/main", text);
        let error = cache.refused(None);
        assert!(error.contains("refs/main: expected a commit"), "{error}");
    }
}

#[test]
fn an_index_that_leads_elsewhere_is_refused() {
    let cache = Cache::new(&["config.json"]);
    cache.index(&["../../../../other.safetensors"]);
    assert!(cache.refused(None).contains("expected the name of a safetensors file"));
    cache.write(&format!("snapshots/{COMMIT}/model.safetensors.index.json"), "{\"weight_map\":");
    assert!(cache.refused(None).contains("model.safetensors.index.json: no index of shards"));
}

#[test]
fn names_and_revisions_are_checked() {
    let cache = Cache::new(&["config.json", "model.safetensors"]);
    for model in
        ["", "tiny", "../tiny", "./org/tiny", "org/../../etc", "/no/such/dir", "org/tiny/", "o\u{1b}[31m/x\n"]
    {
        let error = one_line(offline(Path::new(model), None, cache.0.path()).expect_err(model));
        assert!(error.contains("neither a path that exists nor a model name"), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }
    for revision in ["", "..", "../../../etc", "a/../b", "/etc/passwd", "a b", "a\n"] {
        let error = cache.refused(Some(revision));
        assert!(error.contains("cannot be a revision"), "{error}");
    }
}

#[test]
fn variables_mean_what_they_mean_to_huggingface_hub() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/hub/variables.json");
    let cases: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(path).expect("read")).expect("a list of cases");
    assert!(cases.len() > 15);
    for case in cases {
        let options = HubOptions::from_vars(|name| case["variables"][name].as_str().map(OsString::from));
        let path = |field: &str| case[field].as_str().map(PathBuf::from);
        assert_eq!(options.cache, path("cache"), "{case}");
        assert_eq!(options.token_file, path("token_file"), "{case}");
        assert_eq!(Some(options.offline), case["offline"].as_bool(), "{case}");
        assert_eq!(Some(options.endpoint.as_str()), case["endpoint"].as_str(), "{case}");
        assert_eq!(options.token, case["token"].as_str().and_then(Token::new), "{case}");
    }
}
