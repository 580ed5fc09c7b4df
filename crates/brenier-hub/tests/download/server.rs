//! A Hub of one model on 127.0.0.1, which can misbehave.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use brenier_hub::HubOptions;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const NAME: &str = "org/tiny";
pub const COMMIT: &str = "1111111111111111111111111111111111111111";
pub const OTHER: &str = "2222222222222222222222222222222222222222";
/// Files from this size on lie on the second server, as large files of the Hub do.
const LARGE: usize = 1000;

pub type Files = BTreeMap<String, Vec<u8>>;

/// What goes wrong with one answer that carries a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// So many bytes, then the connection ends.
    Cut(usize),
    /// So many bytes, then silence.
    Silence(usize),
    /// The whole file, whatever was asked for.
    IgnoreRange,
    /// Another part than was asked for.
    OtherRange,
    /// Other bytes of the same number.
    Garble,
    /// An error and its page.
    Status(u16),
}

/// What the Hub holds and how it behaves.
#[derive(Debug, Default)]
pub struct Hub {
    /// Branches and tags.
    pub revisions: BTreeMap<String, String>,
    /// By commit.
    pub files: BTreeMap<String, Files>,
    /// The token that it wants.
    pub token: Option<String>,
    /// Whether only the description is for everybody.
    pub gated: bool,
    /// Answers to requests for a file's bytes, one each.
    pub faults: VecDeque<Fault>,
    /// Statuses of the next listings.
    pub listing_faults: VecDeque<u16>,
    /// Listings instead of the true one.
    pub listing: Option<String>,
    /// ETags instead of the true ones.
    pub etag: Option<String>,
    /// Whether HEAD leaves out how large a file is.
    pub hides_size: bool,
    /// The commit that it says a file is of, instead of the true one.
    pub commit: Option<String>,
    /// A former name of the model.
    pub former: Option<String>,
    /// Where large files lie.
    pub storage: Option<String>,
}

pub struct Server {
    pub endpoint: String,
    pub hub: Arc<Mutex<Hub>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// A Hub whose `main` is [`COMMIT`] with these files.
    pub fn new(files: &Files) -> Self {
        let server = Self::serve(Arc::default(), false);
        server.edit(|hub| {
            hub.revisions.insert("main".to_owned(), COMMIT.to_owned());
            hub.files.insert(COMMIT.to_owned(), files.clone());
        });
        server
    }

    /// Puts the large files onto a server of their own, which is returned.
    pub fn with_storage(&self) -> Self {
        let storage = Self::serve(Arc::clone(&self.hub), true);
        self.edit(|hub| hub.storage = Some(storage.endpoint.clone()));
        storage
    }

    fn serve(hub: Arc<Mutex<Hub>>, storage: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let server = Self { endpoint, hub: Arc::clone(&hub), log: Arc::clone(&log) };
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (hub, log) = (Arc::clone(&hub), Arc::clone(&log));
                thread::spawn(move || answer(stream, &hub, &log, storage));
            }
        });
        server
    }

    pub fn edit(&self, change: impl FnOnce(&mut Hub)) {
        change(&mut self.hub.lock().expect("the hub"));
    }

    /// The requests so far as `METHOD path [range] [token]`; begins anew.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().expect("the log"))
    }

    /// The files whose bytes were asked for so far, with the range; begins anew.
    pub fn fetched(&self) -> Vec<String> {
        let requests = self.requests();
        let files = requests.iter().filter_map(|line| line.strip_prefix("GET ")?.split_once("/resolve/"));
        files.filter_map(|(_, rest)| rest.split_once('/')).map(|(_, file)| file.to_owned()).collect()
    }

    /// Options for this Hub: no token, no retries.
    pub fn options(&self, cache: &std::path::Path) -> HubOptions {
        let mut options = HubOptions::new(cache);
        options.endpoint.clone_from(&self.endpoint);
        options.retries = 0;
        options.timeout = Duration::from_secs(10);
        options
    }
}

/// The ETag that the Hub gives a file.
pub fn etag(bytes: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() >= LARGE {
        hex(&Sha256::digest(bytes))
    } else {
        hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
    }
}

/// A status, headers, a body, and what goes wrong with it.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    fault: Option<Fault>,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), fault: None }
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let mut reply = Self::new(status);
        reply.headers = vec![("X-Error-Code", code.to_owned()), ("X-Error-Message", message.to_owned())];
        reply.body = b"<html>an error page</html>".to_vec();
        reply
    }

    fn redirect(to: String) -> Self {
        let mut reply = Self::new(302);
        reply.headers.push(("Location", to));
        reply
    }
}

fn answer(mut stream: TcpStream, hub: &Mutex<Hub>, log: &Mutex<Vec<String>>, storage: bool) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    let range = header("range");
    let token = header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
    let mut line = format!("{method} {path}");
    for word in [&range, &token].into_iter().flatten() {
        line = format!("{line} {word}");
    }
    log.lock().expect("the log").push(line);
    let begin = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let reply = {
        let mut hub = hub.lock().expect("the hub");
        reply(&mut hub, method, path, begin, token.as_deref(), storage)
    };
    let mut text = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.headers.iter().any(|(name, _)| *name == "Transfer-Encoding") {
        text.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).ok()?;
    if method == "HEAD" {
        return None;
    }
    match reply.fault {
        Some(Fault::Cut(sent)) => stream.write_all(&reply.body[..sent]).ok()?,
        Some(Fault::Silence(sent)) => {
            stream.write_all(&reply.body[..sent]).ok()?;
            thread::sleep(Duration::from_secs(30));
        }
        _ => stream.write_all(&reply.body).ok()?,
    }
    Some(())
}

fn reply(
    hub: &mut Hub,
    method: &str,
    path: &str,
    begin: Option<usize>,
    token: Option<&str>,
    storage: bool,
) -> Reply {
    if let Some(former) = &hub.former
        && path.contains(former.as_str())
    {
        return Reply::redirect(path.replace(former.as_str(), NAME));
    }
    if !storage && hub.token.as_deref().is_some_and(|wanted| token != Some(wanted)) {
        return match token {
            None => Reply::error(401, "RepoNotFound", "Repository not found"),
            Some(_) => Reply::error(401, "", "Invalid credentials in Authorization header"),
        };
    }
    if let Some(rest) = path.strip_prefix(&format!("/api/models/{NAME}/revision/")) {
        return listing(hub, rest);
    }
    let file = path.strip_prefix(&format!("/{NAME}/resolve/")).and_then(|rest| rest.split_once('/'));
    let Some((commit, file)) = file else {
        return Reply::error(404, "RepoNotFound", "Repository not found");
    };
    if !storage && hub.gated {
        let status = if token.is_some() { 403 } else { 401 };
        return Reply::error(status, "GatedRepo", "Access to this model is restricted");
    }
    let Some(bytes) = hub.files.get(commit).and_then(|files| files.get(file)) else {
        return Reply::error(404, "EntryNotFound", "Entry not found");
    };
    let bytes = bytes.clone();
    let tag = hub.etag.clone().unwrap_or_else(|| etag(&bytes));
    if let Some(address) = hub.storage.as_ref().filter(|_| !storage && bytes.len() >= LARGE) {
        let mut reply = Reply::redirect(format!("{address}{path}"));
        reply.headers.push(("X-Repo-Commit", commit.to_owned()));
        reply.headers.push(("X-Linked-Etag", format!("\"{tag}\"")));
        reply.headers.push(("X-Linked-Size", bytes.len().to_string()));
        return reply;
    }
    let fault = if method == "GET" { hub.faults.pop_front() } else { None };
    let size = bytes.len();
    let mut begin = begin.unwrap_or(0);
    let mut reply = Reply::new(200);
    match fault {
        Some(Fault::Status(status)) => return Reply::error(status, "", "something is wrong"),
        Some(Fault::IgnoreRange) => begin = 0,
        Some(Fault::OtherRange) => begin = begin.saturating_sub(1),
        _ => {}
    }
    if begin > 0 && begin >= size {
        return Reply::error(416, "", "");
    }
    if begin > 0 {
        reply.status = 206;
        reply.headers.push(("Content-Range", format!("bytes {begin}-{}/{size}", size - 1)));
    }
    reply.body = bytes[begin..].to_vec();
    if fault == Some(Fault::Garble) {
        reply.body.iter_mut().for_each(|byte| *byte ^= 1);
    }
    reply.fault = fault;
    reply.headers.push(("ETag", format!("W/\"{tag}\"")));
    if !storage {
        reply.headers.push(("X-Repo-Commit", hub.commit.clone().unwrap_or_else(|| commit.to_owned())));
    }
    if method == "HEAD" && hub.hides_size {
        reply.headers.push(("Transfer-Encoding", "chunked".to_owned()));
    }
    reply
}

fn listing(hub: &mut Hub, revision: &str) -> Reply {
    if let Some(status) = hub.listing_faults.pop_front() {
        return Reply::error(status, "", "busy");
    }
    if revision.contains('/') {
        return Reply::error(404, "", "a revision is one segment of the path");
    }
    let revision = revision.replace("%2F", "/");
    let commit = hub.revisions.get(&revision).unwrap_or(&revision);
    let Some(files) = hub.files.get(commit) else {
        return Reply::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let siblings: Vec<_> = files.keys().map(|file| serde_json::json!({ "rfilename": file })).collect();
    let mut reply = Reply::new(200);
    let text = serde_json::json!({ "id": NAME, "sha": commit, "siblings": siblings }).to_string();
    reply.body = hub.listing.clone().unwrap_or(text).into_bytes();
    reply
}
