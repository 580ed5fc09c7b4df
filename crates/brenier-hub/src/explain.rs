//! What a failure means to the user.

use crate::Place;
use crate::error::{HubError, one_line};
use crate::files::{CONFIG, INDEX, SINGLE};
use crate::http::{Client, Failure, Listing};

/// A failure as an error with a hint.
pub(crate) fn explain(place: &Place<'_>, client: &Client, failure: Failure, url: &str) -> HubError {
    let name = place.name.to_string();
    let page = format!("{}/{name}", client.endpoint());
    let access = |reason: String, hint: String| HubError::Access { name: name.clone(), reason, hint };
    let server = |problem: String, hint: &str| HubError::Server {
        name: name.clone(),
        url: url.to_owned(),
        problem,
        hint: hint.to_owned(),
    };
    match &failure {
        Failure::Status { code, .. } if code == "RevisionNotFound" => {
            HubError::NoRevision { name, revision: place.revision.to_string() }
        }
        Failure::Status { status, code, .. } if code == "GatedRepo" || status.as_u16() == 403 => {
            let reason = format!("the Hub refuses it as gated or private: it {}", failure.reason());
            let ask = format!("ask for access at {page}");
            match client.has_token() {
                true => access(reason, format!("{ask} with the account of the token that was sent")),
                false => access(reason, format!("{ask}, then log in with `hf auth login` or set HF_TOKEN")),
            }
        }
        Failure::Status { status, .. } if status.as_u16() == 401 && client.has_token() => access(
            format!("the Hub does not accept the access token: it {}", failure.reason()),
            "make a new token on its settings page, and check the model's name".to_owned(),
        ),
        Failure::Status { status, .. } if status.as_u16() == 401 => access(
            format!("there is no such model, or it is private or gated: the Hub {}", failure.reason()),
            "check the name (no directory is called so either), or log in with `hf auth login` or set HF_TOKEN"
                .to_owned(),
        ),
        Failure::Status { status, code, .. } if status.as_u16() == 404 && code != "EntryNotFound" => access(
            format!("{} has no such model: it {}", client.endpoint(), failure.reason()),
            "check the name and the revision; no directory is called so either".to_owned(),
        ),
        failure if failure.passes() => server(failure.reason(), "try again later, it goes on from there"),
        failure => server(
            failure.reason(),
            "is this address a Hub's? check HF_ENDPOINT and the settings of a proxy",
        ),
    }
}

/// What a repository lacks that has no configuration or no safetensors.
pub(crate) fn no_model(place: &Place<'_>, listing: &Listing) -> HubError {
    let has = |name: &str| listing.files.iter().any(|file| file == name);
    let with = |endings: &[&str]| {
        listing
            .files
            .iter()
            .find(|file| endings.iter().any(|ending| file.ends_with(ending)))
            .map(|file| one_line(file))
    };
    let (problem, hint) = if !has(CONFIG) {
        ("it has no config.json".to_owned(), "give the name of a language model in Hugging Face layout")
    } else if let Some(file) = with(&[".bin", ".pth", ".pt", ".h5", ".msgpack"]) {
        (
            format!("it has {file}, but neither {SINGLE} nor {INDEX}"),
            "convert it with transformers (`save_pretrained`), or give a revision that was converted, \
             such as refs/pr/1",
        )
    } else if let Some(file) = with(&[".gguf"]) {
        (
            format!("it has {file}, but neither {SINGLE} nor {INDEX}"),
            "give the name of the model that it was quantised from",
        )
    } else if let Some(file) = with(&[".safetensors"]) {
        (
            format!("it has {file}, but neither {SINGLE} nor {INDEX}"),
            "give the name of a whole model, not of an adapter or of another layout",
        )
    } else {
        (format!("it has neither {SINGLE} nor {INDEX}"), "give the name of a model with safetensors weights")
    };
    HubError::Repository {
        name: place.name.to_string(),
        revision: place.revision.to_string(),
        problem,
        hint: hint.to_owned(),
    }
}
