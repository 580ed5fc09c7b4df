//! Requests to the Hub.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

use crate::error::{HubError, one_line};
use crate::name::{Commit, Name, Revision};
use crate::options::{HubOptions, Token};

/// Redirects that are followed: to a renamed model, to the servers that hold large files.
const REDIRECTS: usize = 10;
/// The most that a listing may take; one of ten thousand files takes a megabyte.
const LISTING: u64 = 64 << 20;

/// Who talks to the Hub.
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    retries: u32,
    /// Whether an answer ever came: before that a network that is not there is not tried again.
    answered: Cell<bool>,
}

/// Why a request has no useful answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// None came, or it broke off.
    Network(String),
    /// It is not a success.
    Status {
        status: StatusCode,
        /// The Hub's word for it, as `GatedRepo`; often empty.
        code: String,
        /// The Hub's sentence for it; often empty.
        message: String,
    },
    /// It is not what a Hub answers.
    Answer(String),
}

impl Failure {
    /// Whether another try may help.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Network(_) => true,
            Self::Status { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 429),
            Self::Answer(_) => false,
        }
    }

    /// The failure in a few words.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Network(reason) | Self::Answer(reason) => reason.clone(),
            Self::Status { status, message, .. } if message.is_empty() => format!("answered {status}"),
            Self::Status { status, message, .. } => format!("answered {status}: {message}"),
        }
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Network(one_line(&error.to_string()))
    }
}

/// A model at one commit.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) commit: Commit,
    pub(crate) files: Vec<String>,
}

/// What the Hub says of a file.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) name: String,
    /// The name of its blob; SHA-256 of the bytes, or SHA-1 of the git object.
    pub(crate) etag: String,
    pub(crate) size: Option<u64>,
}

impl Client {
    pub(crate) fn new(options: &HubOptions) -> Result<Self, HubError> {
        let endpoint = options.endpoint.trim_end_matches('/');
        if origin(endpoint).is_none() {
            return Err(HubError::Option {
                option: "endpoint (HF_ENDPOINT)",
                expected: "an address that begins with https:// or http://",
                found: format!("`{}`", one_line(endpoint)),
            });
        }
        let roots = match &options.ca_file {
            Some(path) => RootCerts::new_with_certs(&certificates(path)?),
            None => RootCerts::WebPki,
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("brenier/", env!("CARGO_PKG_VERSION")))
            .proxy(if options.proxy_from_env { Proxy::try_from_env() } else { None })
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_resolve(Some(options.timeout))
            .timeout_connect(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout))
            .timeout_per_read(Some(options.timeout))
            .timeout_per_write(Some(options.timeout))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            endpoint: endpoint.to_owned(),
            token: token(options)?,
            retries: options.retries,
            answered: Cell::new(false),
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The commit of a revision and the files it holds.
    pub(crate) fn listing(&self, name: &Name, revision: &Revision) -> Result<Listing, Failure> {
        #[derive(Deserialize)]
        struct Info {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let url = format!("{}/api/models/{name}/revision/{}", self.endpoint, encode(revision.as_str()));
        let bytes = self.again(|| {
            let mut response = self.send(Method::Get, &url, 0)?;
            success(&mut response)?;
            Ok(response.body_mut().with_config().limit(LISTING).read_to_vec()?)
        })?;
        let foreign =
            |what: &str| Failure::Answer(format!("expected the Hub's description of a model, {what}"));
        let info: Info =
            serde_json::from_slice(&bytes).map_err(|error| foreign(&one_line(&error.to_string())))?;
        let commit = Commit::parse(&info.sha)
            .filter(|commit| revision.commit().is_none_or(|asked| asked == *commit))
            .ok_or_else(|| foreign(&format!("found the commit `{}`", one_line(&info.sha))))?;
        Ok(Listing { commit, files: info.siblings.into_iter().map(|file| file.rfilename).collect() })
    }

    /// Name, checksum and size of a file, without its bytes.
    pub(crate) fn describe(&self, name: &Name, commit: &Commit, file: &str) -> Result<Remote, Failure> {
        let url = self.file_url(name, commit, file);
        self.again(|| {
            let mut response = self.send(Method::Head, &url, 0)?;
            if !response.status().is_redirection() {
                success(&mut response)?;
            }
            let headers = response.headers();
            let found = text(headers, "x-repo-commit");
            if found != Some(commit.as_str()) {
                return Err(Failure::Answer(format!(
                    "expected the header X-Repo-Commit: {commit}, found {}",
                    found.map_or_else(|| "none".to_owned(), one_line)
                )));
            }
            let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag")).unwrap_or_default();
            let etag = etag.trim_start_matches("W/").trim_matches('"');
            if !is_etag(etag) {
                return Err(Failure::Answer(format!("expected an ETag, found `{}`", one_line(etag))));
            }
            let length = text(headers, "content-length").filter(|_| !response.status().is_redirection());
            let size = text(headers, "x-linked-size").or(length).and_then(|size| size.parse().ok());
            Ok(Remote { name: file.to_owned(), etag: etag.to_owned(), size })
        })
    }

    /// A file's bytes from `begin` on: one try. The status is 200 (all of it), 206 or 416 (there are no more).
    pub(crate) fn open(
        &self,
        name: &Name,
        commit: &Commit,
        file: &str,
        begin: u64,
    ) -> Result<Response<Body>, Failure> {
        let mut response = self.send(Method::Get, &self.file_url(name, commit, file), begin)?;
        if begin == 0 || response.status() != StatusCode::RANGE_NOT_SATISFIABLE {
            success(&mut response)?;
        }
        Ok(response)
    }

    pub(crate) fn file_url(&self, name: &Name, commit: &Commit, file: &str) -> String {
        format!("{}/{name}/resolve/{commit}/{file}", self.endpoint)
    }

    /// Tries until it succeeds, or fails for good.
    fn again<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut failures = 0;
        loop {
            match attempt() {
                Err(failure) if failure.passes() && self.answered.get() && failures < self.retries => {
                    std::thread::sleep(pause(failures));
                    failures += 1;
                }
                other => return other,
            }
        }
    }

    /// One request and the redirects that it leads to. The token goes to the endpoint alone.
    fn send(&self, method: Method, url: &str, begin: u64) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS {
            let mut request = match method {
                Method::Get => self.agent.get(&url),
                Method::Head => self.agent.head(&url),
            };
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = self.token.as_ref().filter(|_| origin(&url) == origin(&self.endpoint)) {
                request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.secret()));
            }
            if begin > 0 {
                request = request.header(header::RANGE, format!("bytes={begin}-"));
            }
            let response = request.call()?;
            self.answered.set(true);
            let headers = response.headers();
            let Some(location) = text(headers, "location").filter(|_| response.status().is_redirection())
            else {
                return Ok(response);
            };
            let next = join(&url, location)
                .ok_or_else(|| Failure::Answer(format!("sends to `{}`", one_line(location))))?;
            // Where the Hub sends one to another server for the bytes of a file, it describes the file itself.
            let described = headers.contains_key("x-repo-commit") && headers.contains_key("x-linked-etag");
            if matches!(method, Method::Head) && described && origin(&next) != origin(&url) {
                return Ok(response);
            }
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err(Failure::Answer(format!("sends from https to `{}`", one_line(&next))));
            }
            url = next;
        }
        Err(Failure::Answer(format!("sends elsewhere more than {REDIRECTS} times")))
    }
}

#[derive(Debug, Clone, Copy)]
enum Method {
    Get,
    Head,
}

/// How long to wait after so many failures in a row.
pub(crate) fn pause(failures: u32) -> Duration {
    Duration::from_millis(250 << failures.min(5))
}

/// A header's text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn success(response: &mut Response<Body>) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let header = |name| one_line(text(response.headers(), name).unwrap_or_default());
    let code = header("x-error-code");
    let mut message = header("x-error-message");
    if let Some(wait) = text(response.headers(), "retry-after") {
        message = format!("{message} (asks to wait {} s)", one_line(wait)).trim_start().to_owned();
    }
    Err(Failure::Status { status, code, message })
}

/// The token of the options, or of their file.
fn token(options: &HubOptions) -> Result<Option<Token>, HubError> {
    let token = match (&options.token, &options.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Token::new(&text),
            Err(error) if crate::cache::is_absent(&error) => None,
            Err(error) => return Err(HubError::io("read", path)(error)),
        },
        (None, None) => None,
    };
    match token {
        Some(token) if !token.secret().bytes().all(|b| b.is_ascii_graphic()) => Err(HubError::Option {
            option: "token (HF_TOKEN or the token file)",
            expected: "printable ASCII without spaces",
            found: "other characters".to_owned(),
        }),
        token => Ok(token),
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, HubError> {
    let pem = std::fs::read(path).map_err(HubError::io("read", path))?;
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let Ok(PemItem::Certificate(certificate)) = item {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(HubError::Option {
            option: "ca_file (SSL_CERT_FILE)",
            expected: "a PEM file of certificates",
            found: format!("none in {}", path.display()),
        });
    }
    Ok(found)
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Option<&str> {
    let host = ["https://", "http://"].iter().find(|scheme| url.starts_with(**scheme))?.len();
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    (end > host).then(|| &url[..end])
}

/// Where a redirect leads.
fn join(base: &str, location: &str) -> Option<String> {
    let origin_of_base = origin(base)?;
    if origin(location).is_some() {
        Some(location.to_owned())
    } else if location.starts_with("//") {
        let (scheme, _) = base.split_once("//")?;
        Some(format!("{scheme}{location}"))
    } else if location.starts_with('/') {
        Some(format!("{origin_of_base}{location}"))
    } else {
        None
    }
}

/// A revision as one segment of a path: everything but the unreserved characters of RFC 3986 is encoded.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Whether an ETag can be the name of a file.
fn is_etag(etag: &str) -> bool {
    (1..=128).contains(&etag.len()) && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("https://huggingface.co/a/b?c"), Some("https://huggingface.co"));
        assert_eq!(origin("http://127.0.0.1:80"), Some("http://127.0.0.1:80"));
        // Neither is the Hub: the token stays at home.
        assert_eq!(
            origin("https://huggingface.co@evil.example/x"),
            Some("https://huggingface.co@evil.example")
        );
        assert_eq!(origin("https://evil.example?https://huggingface.co/"), Some("https://evil.example"));
        for bad in ["", "huggingface.co", "ftp://x", "file:///etc", "https://", "https:///x", "HTTPS://x"] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn redirects_are_absolute_or_from_the_root() {
        let base = "https://h.example:1/a/b";
        assert_eq!(join(base, "/c?d").as_deref(), Some("https://h.example:1/c?d"));
        assert_eq!(join(base, "//o.example/c").as_deref(), Some("https://o.example/c"));
        assert_eq!(join(base, "http://o.example/c").as_deref(), Some("http://o.example/c"));
        assert_eq!(join(base, "c"), None);
        assert_eq!(join(base, "file:///etc/passwd"), None);
    }

    #[test]
    fn a_revision_is_one_segment() {
        assert_eq!(encode("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(encode("v1.0-a_b~"), "v1.0-a_b~");
        assert_eq!(encode("a#b%ä"), "a%23b%25%C3%A4");
    }

    #[test]
    fn an_etag_is_a_file_name() {
        assert!(is_etag("0123abc") && is_etag("a-1_B"));
        for bad in ["", ".", "..", "../a", "a/b", "a\\b", "a b", "a.lock", &"x".repeat(129)] {
            assert!(!is_etag(bad), "{bad}");
        }
    }

    #[test]
    fn pauses_grow_to_some_seconds() {
        assert_eq!(pause(0), Duration::from_millis(250));
        assert_eq!(pause(3), Duration::from_secs(2));
        assert_eq!(pause(40), Duration::from_secs(8));
    }
}
