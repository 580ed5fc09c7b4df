//! Servers and connections that fail.

use std::fs;
use std::path::Path;

use brenier_hub::{HubError, HubOptions, Progress, Resolved, resolve};

use crate::server::{COMMIT, Fault, NAME, Server, etag};
use crate::{Cache, TAKEN, bytes, one_line, single, with};

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
    let started = std::time::Instant::now();
    let result = resolve(Path::new(NAME), None, &options, &mut |progress| {
        retries += usize::from(matches!(progress, Progress::Retry { name: "model.safetensors", .. }));
    });
    // A server that is silent keeps the connection for half a minute.
    assert!(started.elapsed().as_secs() < 20, "{faults:?}");
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
        let left = fs::read(cache.partial(&single()["model.safetensors"])).unwrap_or_default();
        assert!(left.is_empty(), "{fault:?} left {} bytes to go on from", left.len());
    }
    let part = &single()["model.safetensors"][..50_000];
    // Thrown away once, not for ever.
    let (cache, result, fetched, _) = with_faults(Some(part), &[Fault::Garble, Fault::Garble]);
    assert!(one_line(result.expect_err("refused")).contains("expected the checksum"));
    assert_eq!(fetched, ["50000-", ""]);
    cache.assert_no_weights();

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
    let (server, cache) = (Server::new(&single()), Cache::new());
    server.edit(|hub| hub.commit = Some("main".to_owned()));
    let error = cache.refused(&server, None);
    assert!(error.contains(&format!("expected the header X-Repo-Commit: {COMMIT}, found main")), "{error}");
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
