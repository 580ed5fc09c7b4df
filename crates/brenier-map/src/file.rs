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
//! | `entries` | JSON: `{name: {"kind": "low-rank" or "symmetric" or "diagonal" or "dense" or "mixture", "method": text, "certificate": any}}` |
//! | any other | what the writer added |
//!
//! and for every entry `name` the tensors `name.part`:
//!
//! | kind | parts | row `x` goes to |
//! |---|---|---|
//! | `low-rank` | `scale` `[]`, `mean` `[d]`, `offset` `[d]`, `u` `[d, r]`, `v` `[d, r]` | `scale x + offset + u v^T (x - mean)` |
//! | `symmetric` | `scale` `[]`, `mean` `[d]`, `offset` `[d]`, `basis` `[d, r]`, `core` `[r, r]` | `scale x + offset + basis core basis^T (x - mean)` |
//! | `diagonal` | `weight` `[d]`, `bias` `[d]`, and optionally `range.lo` `[d]`, `range.hi` `[d]` | `weight x + bias`, where `range.lo < x < range.hi` |
//! | `dense` | `matrix` `[d, d]`, `bias` `[d]` | `matrix x + bias` |
//! | `mixture` | `center` `[d]`, `offset` `[d]`, `u` `[d, K]`, `v` `[d, K]`, and for `C` pieces `constant` `[C]`, `linear` `[C, K]`, `quadratic` `[C, K, K]`, `matrix` `[C, K, K]`, `shift` `[C, K]` | see [`Mixture`](crate::Mixture) |
//! | any, with a gate | `gate.basis` `[d, K]`, `gate.center` `[d]`, `gate.constant` `[]`, `gate.linear` `[K]`, `gate.quadratic` `[K, K]`, `gate.temperature` `[]`, and optionally `gate.threshold` `[]` | `x + p (T(x) - x)` |
//!
//! with `z = basis^T (x - center)` and `p = sigmoid((constant + linear . z + z^T quadratic z) / temperature)`,
//! 0 where it is below the threshold. A kind that a reader does not know makes a file unreadable to it, so new kinds
//! need no new version. A tensor beyond these makes a file unreadable: a reader must not
//! apply half of a map. The bytes are a function of the content, so that a hash names a map.

use std::collections::BTreeMap;
use std::path::Path;

use brenier_files::Existing;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::container::{Format, Reader, Writer, read_whole};
use crate::error::MapError;
use crate::map::RowMap;
use crate::tensors;

/// Name and version of the file format.
pub const FORMAT: &str = "brenier.map/1";

const LAYOUT: Format = Format { id: FORMAT, what: "map" };

/// Maps under the names of the activations that they act on, e.g. `blocks.5.hook_resid_post`.
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
        Self::from_bytes(&read_whole(path)?, path)
    }

    /// Writes a map file, whole or not at all: [`brenier_files::write_bytes`].
    ///
    /// # Errors
    /// An existing file without `force`; a reserved metadata key; no entry; what cannot be written.
    pub fn write(&self, path: &Path, force: bool) -> Result<(), MapError> {
        Ok(brenier_files::write_bytes(path, Existing::forced(force), &self.to_bytes()?)?)
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
            return Err(MapError::Layout { what: LAYOUT.what, reason: "it holds no map".to_owned() });
        }
        let mut writer = Writer::default();
        let mut headers = BTreeMap::new();
        for (name, entry) in &self.entries {
            let kind = tensors::write(&mut writer, name, &entry.map).to_owned();
            let header =
                EntryHeader { kind, method: entry.method.clone(), certificate: entry.certificate.clone() };
            headers.insert(name, header);
        }
        writer.finish(&LAYOUT, &headers, &self.metadata)
    }

    /// Reads a map file whose bytes are in memory already; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for the operating system's.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, MapError> {
        let (mut reader, headers) = Reader::open::<BTreeMap<String, EntryHeader>>(bytes, path, &LAYOUT)?;
        if headers.is_empty() {
            return Err(reader.refuse("it holds no map"));
        }
        let mut entries = BTreeMap::new();
        for (name, EntryHeader { kind, method, certificate }) in headers {
            let map = tensors::read(&mut reader, &name, &kind)?;
            entries.insert(name, MapEntry { map, certificate, method });
        }
        Ok(Self { entries, metadata: reader.finish()? })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryHeader {
    kind: String,
    method: String,
    certificate: serde_json::Value,
}
