//! Tokens that stand beside a tokenizer's vocabulary, from whichever file declares them.

use std::path::Path;

use serde::Deserialize;
use tokenizers::{AddedToken, Tokenizer as Inner};

use crate::ModelError;
use crate::error::excerpt;
use crate::tokenizer_config::TokenizerConfig;

/// What a `tokenizer.json` states beside its vocabulary.
#[derive(Deserialize)]
pub(crate) struct Stated {
    #[serde(default)]
    added_tokens: Vec<StatedToken>,
}

#[derive(Deserialize)]
struct StatedToken {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

impl Stated {
    /// Refuses a `tokenizer.json` that gives a token another id than the tokenizer made from it does: that of the
    /// vocabulary, or else the next one that is free.
    pub(crate) fn check(&self, inner: &Inner, path: &Path) -> Result<(), ModelError> {
        for StatedToken { id, token } in &self.added_tokens {
            check_id(inner, path, *id, &token.content)?;
        }
        Ok(())
    }
}

/// Adds the tokens that the files beside `tokenizer.json` declare, as transformers does, and gives what is worth a
/// warning.
///
/// Declared tokens come first, by id, then special tokens that are no added tokens yet. A token that is in the
/// vocabulary keeps its id, another gets the next one; properties replace those in `tokenizer.json`.
pub(crate) fn add(
    inner: &mut Inner,
    stated: &Stated,
    config: &TokenizerConfig,
) -> Result<Vec<String>, ModelError> {
    let mut warnings = config.warnings().to_vec();
    let mut tokens: Vec<AddedToken> =
        config.declared().iter().map(|declared| declared.token.clone()).collect();
    let of_file = stated.added_tokens.iter().map(|stated| &stated.token);
    if config.older() {
        tokens.extend(of_file.clone().cloned());
    } else {
        let differs = |declared: &&AddedToken| {
            of_file.clone().any(|token| token.content == declared.content && token != *declared)
        };
        if let Some(token) = tokens.iter().find(differs) {
            warnings.push(format!(
                "{}: `{}` has other properties (lstrip, special and the like) than in tokenizer.json; the former are \
                 used, as in transformers",
                config.path().display(),
                excerpt(&token.content)
            ));
        }
    }
    for token in &mut tokens {
        token.special |= config.is_named(&token.content);
    }
    for special in config.special() {
        let is = |token: &AddedToken| token.content == special.content;
        if !(of_file.clone().any(is) || tokens.iter().any(is)) {
            let is_special = special.special || config.is_named(&special.content);
            tokens.push(special.clone().special(is_special));
        }
    }
    inner.add_tokens(tokens).map_err(|error| ModelError::Tokenizer {
        path: config.path().to_owned(),
        reason: crate::error::one_line(&error.to_string()),
    })?;
    for declared in config.declared() {
        check_id(inner, &config.declaring(), declared.id, &declared.token.content)?;
    }
    Ok(warnings)
}

fn check_id(inner: &Inner, path: &Path, id: u32, content: &str) -> Result<(), ModelError> {
    match inner.token_to_id(content) {
        Some(found) if found != id => Err(ModelError::Contradiction {
            path: path.to_owned(),
            first: format!("`{}` is declared with the id {id}", excerpt(content)),
            second: match inner.id_to_token(id) {
                Some(other) => format!("tokenizer.json makes it {found}, and {id} is `{}`", excerpt(&other)),
                None => format!("tokenizer.json makes it {found}"),
            },
        }),
        _ => Ok(()),
    }
}
