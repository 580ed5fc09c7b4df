//! Who may have a model, and what may be asked for.

use std::fs;
use std::path::Path;

use brenier_hub::{HubError, HubOptions, Token, resolve};

use crate::server::{COMMIT, Server};
use crate::{Cache, TAKEN, one_line, single, with};

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
    server.edit(|hub| (hub.gated, hub.token) = (true, None));
    let error = cache.refused(&server, None);
    assert!(error.contains("401") && error.contains("ask for access at"), "{error}");
    assert!(error.contains("then log in"), "{error}");
    options.token = Token::new("hf_good");
    let error = one_line(with(&options, None).expect_err("refused"));
    let page = format!("ask for access at {}/org/tiny", server.endpoint);
    assert!(error.contains("gated") && error.contains(&page) && !error.contains("hf_good"), "{error}");
    assert_eq!(cache.reference("main"), None);

    // The token of a file, with the white space that editors leave.
    server.edit(|hub| (hub.gated, hub.token) = (false, Some("hf_good".to_owned())));
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
