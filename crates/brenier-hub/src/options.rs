//! Where the cache is, who asks, and whom.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The public Hub.
const ENDPOINT: &str = "https://huggingface.co";

/// Where models are looked for, and how they are downloaded.
///
/// [`new`](Self::new) asks the public Hub without a token; [`from_vars`](Self::from_vars) follows the environment
/// variables of `huggingface_hub`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubOptions {
    /// The cache directory, which holds the `models--ORG--NAME`; without one no name is resolved.
    pub cache: Option<PathBuf>,
    /// The access token. It goes to the endpoint and to no other host.
    pub token: Option<Token>,
    /// The file that holds the token. It is read when there is no [`token`](Self::token) and a request is made; it
    /// need not exist.
    pub token_file: Option<PathBuf>,
    /// Address of the Hub, `https://huggingface.co` unless a mirror is used.
    pub endpoint: String,
    /// Whether no request may be made.
    pub offline: bool,
    /// Whether a request goes through the proxy that `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name.
    pub proxy_from_env: bool,
    /// PEM file of the certificates to trust instead of Mozilla's.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection, for an answer, and for the next bytes of one.
    pub timeout: Duration,
    /// How often in a row a failed request is repeated. Bytes that arrive begin a new row.
    pub retries: u32,
}

impl HubOptions {
    /// The public Hub, without a token, into a cache directory.
    #[must_use]
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self { cache: Some(cache.into()), ..Self::nowhere() }
    }

    fn nowhere() -> Self {
        Self {
            cache: None,
            token: None,
            token_file: None,
            endpoint: ENDPOINT.to_owned(),
            offline: false,
            proxy_from_env: false,
            ca_file: None,
            timeout: Duration::from_secs(30),
            retries: 5,
        }
    }

    /// Options by the variables of `huggingface_hub`. The library itself reads no environment: a program passes
    /// `|name| std::env::var_os(name)`.
    ///
    /// | option | variables, the first that is set |
    /// |---|---|
    /// | [`cache`](Self::cache) | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`/hub, `XDG_CACHE_HOME`/huggingface/hub, `HOME`/.cache/huggingface/hub |
    /// | [`token`](Self::token) | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` |
    /// | [`token_file`](Self::token_file) | `HF_TOKEN_PATH`, or `token` in the directory of `HF_HOME` |
    /// | [`endpoint`](Self::endpoint) | `HF_ENDPOINT` |
    /// | [`offline`](Self::offline) | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`: `1`, `on`, `yes`, `true` |
    /// | [`ca_file`](Self::ca_file) | `SSL_CERT_FILE` |
    ///
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` leaves the token out. As there, `~` and `$NAME` in a path are expanded. A
    /// variable that is set to nothing counts as not set.
    ///
    /// ```
    /// use brenier_hub::HubOptions;
    ///
    /// let options = HubOptions::from_vars(|name| match name {
    ///     "HF_HOME" => Some("/data/hf".into()),
    ///     "HF_HUB_OFFLINE" => Some("1".into()),
    ///     _ => None, // a program: std::env::var_os(name)
    /// });
    /// assert_eq!(options.cache.as_deref(), Some("/data/hf/hub".as_ref()));
    /// assert!(options.offline);
    /// ```
    #[must_use]
    pub fn from_vars(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| variable(name).map(|value| expand(&value, &variable));
        let on = |name: &str| text(name).is_some_and(|value| is_true(&value));

        let user_home = if cfg!(windows) { path("USERPROFILE") } else { path("HOME") };
        let home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(user_home?.join(".cache")));
            Some(caches?.join("huggingface"))
        });
        let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let token = text("HF_TOKEN").as_deref().and_then(Token::new);
        let token = token.or_else(|| Token::new(&text("HUGGING_FACE_HUB_TOKEN")?));
        let implicit = !on("HF_HUB_DISABLE_IMPLICIT_TOKEN");
        let mut options = Self {
            cache: path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).or_else(|| in_home("hub")),
            token: token.filter(|_| implicit),
            token_file: path("HF_TOKEN_PATH").or_else(|| in_home("token")).filter(|_| implicit),
            offline: text("HF_HUB_OFFLINE")
                .or_else(|| text("TRANSFORMERS_OFFLINE"))
                .is_some_and(|value| is_true(&value)),
            proxy_from_env: true,
            ca_file: path("SSL_CERT_FILE"),
            ..Self::nowhere()
        };
        if let Some(endpoint) = text("HF_ENDPOINT") {
            options.endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        }
        options
    }
}

/// An access token, which no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token without the white space around it; `None` when nothing is left.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    #[cfg(feature = "download")]
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Replaces `~` at the beginning by the home directory, `$NAME` and `${NAME}` by the variable. What is not set stays
/// as it is.
fn expand(value: &OsStr, variable: &impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let Some(text) = value.to_str() else { return PathBuf::from(value) };
    let home = || variable("HOME")?.into_string().ok();
    let text = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => match home() {
            Some(home) => format!("{}{rest}", home.trim_end_matches('/')),
            None => text.to_owned(),
        },
        _ => text.to_owned(),
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, length) = reference(rest);
        match variable(name).and_then(|value| value.into_string().ok()).filter(|_| !name.is_empty()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
    Path::new(&out).to_owned()
}

/// The name after a dollar, and how many bytes the reference takes.
fn reference(text: &str) -> (&str, usize) {
    let after = &text[1..];
    if let Some((name, _)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
        return (name, name.len() + 3);
    }
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    (&after[..end], end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_vars(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn cache(variables: &[(&str, &str)]) -> Option<String> {
        options(variables).cache.map(|path| path.to_string_lossy().into_owned())
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
            ("HOME", "/e"),
        ];
        let expected = ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/e/.cache/huggingface/hub"];
        for (first, expected) in expected.iter().enumerate() {
            assert_eq!(cache(&all[first..]).as_deref(), Some(*expected));
        }
        assert_eq!(cache(&[]), None);
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HOME", "/e")]).as_deref(), Some(expected[4]));
    }

    #[test]
    fn paths_are_expanded() {
        let with = |value: &str| cache(&[("HF_HUB_CACHE", value), ("HOME", "/home/u"), ("DISK", "/data")]);
        for (value, expected) in [
            ("~/hf", "/home/u/hf"),
            ("~", "/home/u"),
            ("~other/hf", "~other/hf"),
            ("a/~/b", "a/~/b"),
            ("$DISK/hf", "/data/hf"),
            ("/x${DISK}y", "/x/datay"),
            ("$DISKS/hf", "$DISKS/hf"),
            ("${DISK", "${DISK"),
            ("/a$", "/a$"),
            ("$/$DISK$DISK", "$//data/data"),
        ] {
            assert_eq!(with(value).as_deref(), Some(expected), "{value}");
        }
    }

    #[test]
    fn the_token_is_found_and_never_shown() {
        let token = |variables: &[(&str, &str)]| options(variables).token.map(|token| token.0);
        assert_eq!(
            token(&[("HF_TOKEN", " hf_a\n"), ("HUGGING_FACE_HUB_TOKEN", "b")]).as_deref(),
            Some("hf_a")
        );
        assert_eq!(token(&[("HF_TOKEN", " "), ("HUGGING_FACE_HUB_TOKEN", "b")]).as_deref(), Some("b"));
        assert_eq!(token(&[("HOME", "/e")]), None);
        let file = |variables: &[(&str, &str)]| options(variables).token_file;
        assert_eq!(file(&[("HF_HOME", "/c"), ("HF_HUB_CACHE", "/a")]), Some("/c/token".into()));
        assert_eq!(file(&[("HF_HOME", "/c"), ("HF_TOKEN_PATH", "/t")]), Some("/t".into()));
        let without = [("HF_TOKEN", "hf_a"), ("HF_HOME", "/c"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "YES")];
        assert_eq!((token(&without), file(&without)), (None, None));
        let shown = format!("{:?}", options(&[("HF_TOKEN", "hf_secret")]));
        assert!(!shown.contains("secret") && shown.contains("Token(..)"), "{shown}");
    }

    #[test]
    fn offline_is_what_the_first_variable_says() {
        for (variables, expected) in [
            (&[("HF_HUB_OFFLINE", "1")][..], true),
            (&[("HF_HUB_OFFLINE", "True")], true),
            (&[("HF_HUB_OFFLINE", "0")], false),
            (&[("TRANSFORMERS_OFFLINE", "on")], true),
            (&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")], false),
            (&[], false),
        ] {
            assert_eq!(options(variables).offline, expected, "{variables:?}");
        }
    }

    #[test]
    fn the_endpoint_has_no_slash_at_its_end() {
        assert_eq!(options(&[]).endpoint, "https://huggingface.co");
        assert_eq!(options(&[("HF_ENDPOINT", "http://127.0.0.1:9/hf//")]).endpoint, "http://127.0.0.1:9/hf");
    }
}
