//! Maps on disk.
//!
//! # Layout, version 1
//!
//! A [safetensors](https://huggingface.co/docs/safetensors) file. All tensors are little-endian f64, matrices
//! row by row. Its `__metadata__` holds strings:
//!
//! | key | value |
//! |---|---|
//! | `format` | `brenier.map/1` |
//! | `entries` | JSON: `{name: {"kind": "low-rank" or "diagonal" or "dense" or "mixture", "method": text, "certificate": any}}` |
//! | any other | what the writer added |
//!
//! and for every entry `name` the tensors `name.part`:
//!
//! | kind | parts | row `x` goes to |
//! |---|---|---|
//! | `low-rank` | `scale` `[]`, `mean` `[d]`, `offset` `[d]`, `u` `[d, r]`, `v` `[d, r]` | `scale x + offset + u v^T (x - mean)` |
//! | `diagonal` | `weight` `[d]`, `bias` `[d]`, and optionally `range.lo` `[d]`, `range.hi` `[d]` | `weight x + bias`, where `range.lo < x < range.hi` |
//! | `dense` | `matrix` `[d, d]`, `bias` `[d]` | `matrix x + bias` |
//! | `mixture` | `center` `[d]`, `offset` `[d]`, `u` `[d, K]`, `v` `[d, K]`, and for `C` pieces `constant` `[C]`, `linear` `[C, K]`, `quadratic` `[C, K, K]`, `matrix` `[C, K, K]`, `shift` `[C, K]` | see [`Mixture`](crate::Mixture) |
//! | any, with a gate | `gate.basis` `[d, K]`, `gate.center` `[d]`, `gate.constant` `[]`, `gate.linear` `[K]`, `gate.quadratic` `[K, K]`, `gate.temperature` `[]`, and optionally `gate.threshold` `[]` | `x + p (T(x) - x)` |
//!
//! with `z = basis^T (x - center)` and `p = sigmoid((constant + linear . z + z^T quadratic z) / temperature)`,
//! 0 where it is below the threshold. A kind that a reader does not know makes a file unreadable to it, so new kinds
//! need no new version. A tensor beyond these makes a file unreadable: a reader must not
//! apply half of a map. The bytes are a function of the content, so that a hash names a map.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;

use safetensors::tensor::Metadata;
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::tensors::{Parts, Tensors};
use crate::{MapError, RowMap};

/// Name and version of the file format.
pub const FORMAT: &str = "brenier.map/1";

/// Keys of the metadata that the format uses.
const RESERVED: [&str; 2] = ["format", "entries"];

/// Maps under the names of the activations that they were fitted on, e.g. `blocks.5.hook_resid_post`.
///
/// ```
/// use brenier_map::{Affine, Diagonal, MapEntry, MapFile, RowMap};
///
/// let twice = Diagonal { weight: vec![2.0; 4], bias: vec![0.0; 4], range: None };
/// let map = RowMap::new(Affine::Diagonal(twice))?;
/// let mut file = MapFile::default();
/// let entry = MapEntry { map, certificate: serde_json::json!({}), method: "by hand".into() };
/// file.entries.insert("blocks.5.hook_resid_post".into(), entry);
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("map.safetensors");
/// file.write(&path, false)?;
/// assert_eq!(MapFile::read(&path)?, file);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MapFile {
    /// The maps.
    pub entries: BTreeMap<String, MapEntry>,
    /// What else is worth knowing, e.g. hashes of the inputs. The keys `format` and `entries` are the format's.
    pub metadata: BTreeMap<String, String>,
}

/// A map and what was measured of it.
#[derive(Debug, Clone, PartialEq)]
pub struct MapEntry {
    /// The map.
    pub map: RowMap,
    /// What the fit measured; any JSON. Its numbers are written as text, to the last bit but one.
    pub certificate: serde_json::Value,
    /// Name of the method that made the map.
    pub method: String,
}

impl MapFile {
    /// Reads a map file. The maps have the bits they were written with.
    ///
    /// # Errors
    /// A file that cannot be read, is no map file, is damaged, or is of another version.
    pub fn read(path: &Path) -> Result<Self, MapError> {
        let bytes = std::fs::read(path).map_err(|source| MapError::Io {
            path: path.to_owned(),
            action: "read",
            source,
        })?;
        Self::from_bytes(&bytes, path)
    }

    /// Writes a map file whole or not at all: under a temporary name, which is then changed.
    ///
    /// # Errors
    /// An existing file without `force`; a reserved metadata key; no entry; the operating system's refusal.
    pub fn write(&self, path: &Path, force: bool) -> Result<(), MapError> {
        let exists = || MapError::Exists { path: path.to_owned() };
        let io = |source| MapError::Io { path: path.to_owned(), action: "write", source };
        if !force && path.exists() {
            return Err(exists());
        }
        let bytes = self.to_bytes()?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = new_file_in(dir).map_err(io)?;
        file.write_all(&bytes).map_err(io)?;
        if force {
            file.persist(path).map_err(|error| io(error.error))?;
        } else {
            file.persist_noclobber(path).map_err(|error| match error.error.kind() {
                std::io::ErrorKind::AlreadyExists => exists(),
                _ => io(error.error),
            })?;
        }
        Ok(())
    }

    /// SHA-256 of the file that [`write`](Self::write) makes, in lower-case hexadecimal.
    ///
    /// To name a file that is there already, hash its bytes: after [`read`](Self::read) a number of the certificate
    /// may be off by its last bit, and then so is this hash.
    ///
    /// # Errors
    /// A reserved metadata key; no entry.
    pub fn sha256(&self) -> Result<String, MapError> {
        let digest = Sha256::digest(self.to_bytes()?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The bytes that [`write`](Self::write) writes.
    ///
    /// # Errors
    /// A reserved metadata key; no entry.
    pub fn to_bytes(&self) -> Result<Vec<u8>, MapError> {
        if self.entries.is_empty() {
            return Err(MapError::Layout { reason: "it holds no map".to_owned() });
        }
        if let Some(key) = RESERVED.into_iter().find(|&key| self.metadata.contains_key(key)) {
            return Err(MapError::ReservedKey { key: key.to_owned() });
        }
        let layout = |error: &dyn std::fmt::Display| MapError::Layout { reason: error.to_string() };
        let mut parts = Parts::default();
        let mut headers = BTreeMap::new();
        for (name, entry) in &self.entries {
            let kind = parts.add(name, &entry.map);
            let header =
                EntryHeader { kind, method: entry.method.clone(), certificate: entry.certificate.clone() };
            headers.insert(name, header);
        }
        let mut metadata: HashMap<String, String> = self.metadata.clone().into_iter().collect();
        metadata.insert("format".to_owned(), FORMAT.to_owned());
        metadata
            .insert("entries".to_owned(), serde_json::to_string(&headers).map_err(|error| layout(&error))?);
        let mut bytes =
            safetensors::serialize(parts.tensors, Some(metadata)).map_err(|error| layout(&error))?;
        sort_metadata(&mut bytes).ok_or_else(|| layout(&"its header does not read back"))?;
        Ok(bytes)
    }

    /// Reads a map file whose bytes are in memory already; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for the operating system's.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, MapError> {
        let unreadable = |reason: String| MapError::Unreadable { path: path.to_owned(), reason };
        if announced(bytes).is_some_and(|data| data > bytes.len()) {
            return Err(unreadable(damage(&SafeTensorError::MetadataIncompleteBuffer, bytes.len())));
        }
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| unreadable(damage(&error, bytes.len())))?;
        let mut metadata: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        match metadata.remove("format") {
            Some(found) if found == FORMAT => {}
            Some(found) if found.starts_with("brenier.map/") => {
                return Err(MapError::Version { path: path.to_owned(), expected: FORMAT, found });
            }
            Some(found) => return Err(unreadable(format!("its format is `{found}`, not `{FORMAT}`"))),
            None => return Err(unreadable(format!("its metadata has no `format`: `{FORMAT}` was expected"))),
        }
        let headers = metadata
            .remove("entries")
            .ok_or_else(|| unreadable("its metadata has no `entries`".to_owned()))?;
        let headers: BTreeMap<String, EntryHeader> = serde_json::from_str(&headers)
            .map_err(|error| unreadable(format!("`entries` of its metadata: {error}")))?;
        if headers.is_empty() {
            return Err(unreadable("it holds no map".to_owned()));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|error| unreadable(error.to_string()))?;
        let mut tensors = Tensors::new(&file);
        let mut entries = BTreeMap::new();
        for (name, EntryHeader { kind, method, certificate }) in headers {
            let map = tensors.read(&name, &kind).map_err(|error| error.in_entry(path, &name))?;
            entries.insert(name, MapEntry { map, certificate, method });
        }
        if let Some(name) = tensors.unread() {
            return Err(unreadable(format!("tensor `{name}` is no part of any of its maps")));
        }
        Ok(Self { entries, metadata })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryHeader {
    kind: String,
    method: String,
    certificate: serde_json::Value,
}

/// How much data the header announces, if there is a sound one. `safetensors` adds this up with the header's own
/// length before it looks at how much there is, and the sum overflows near 2^64 (0.8.0).
fn announced(bytes: &[u8]) -> Option<usize> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get(8..)?.get(..usize::try_from(length).ok()?)?;
    Some(serde_json::from_slice::<Metadata>(header).ok()?.data_len())
}

/// What is wrong with bytes that do not make a safetensors file.
fn damage(error: &SafeTensorError, len: usize) -> String {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            format!(
                "its header does not account for its {len} bytes: it is truncated, or something was added; copy it again"
            )
        }
        SafeTensorError::HeaderTooSmall | SafeTensorError::InvalidHeaderLength => {
            format!(
                "its {len} bytes do not hold the header announced: it is truncated, or no safetensors file"
            )
        }
        error => format!("no safetensors file, or a damaged one ({error})"),
    }
}

/// Brings the metadata, which the serializer leaves in the order of a hash map, into the order of its keys.
/// The header keeps its length: the same strings in another order.
fn sort_metadata(bytes: &mut [u8]) -> Option<()> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get_mut(8..8 + usize::try_from(length).ok()?)?;
    let mut json: serde_json::Value = serde_json::from_slice(header).ok()?;
    json.get_mut("__metadata__")?.as_object_mut()?.sort_keys();
    let sorted = serde_json::to_vec(&json).ok()?;
    header.get_mut(..sorted.len())?.copy_from_slice(&sorted);
    Some(())
}

/// A temporary file with the permissions that any new file gets, not those of a secret.
fn new_file_in(dir: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(dir)
}
