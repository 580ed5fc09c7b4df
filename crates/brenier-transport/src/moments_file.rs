use crate::error::TransportError;
use brenier_files::Existing;
use brenier_linalg::{Moments, MomentsParts};
use brenier_map::MapError;
use brenier_map::container::{Format, Reader, Writer, read_whole};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name and version of the file format of moments.
pub const MOMENTS_FORMAT: &str = "brenier.moments/1";

const LAYOUT: Format = Format { id: MOMENTS_FORMAT, what: "moments" };

/// [`Moments`] of one class under the names of the activations that they were taken of, e.g.
/// `blocks.5.hook_resid_post`, as one safetensors file; source and target are two files, and so is every shard.
///
/// # Layout, version 1
/// The metadata holds `format`, which is [`MOMENTS_FORMAT`], `entries`, a JSON list of names, and what the writer
/// added. Every entry `name` has the tensors
///
/// | tensor | shape | type | |
/// |---|---|---|---|
/// | `name.cap` | `[]` | U64 | number of rows to which the factor is shrunk |
/// | `name.count` | `[]` | U64 | number of rows taken in, n |
/// | `name.mean` | `[d]` | F64 | their mean |
/// | `name.factor` | `[r, d]` | F64 | `R`, with `R^T R` the scatter about the mean; `r <= 2 min(cap, d)` and `r < n` |
/// | `name.delta` | `[]` | F64 | by how much the scatter may be short along any direction |
/// | `name.removed` | `[]` | F64 | by how much its trace is short |
///
/// A file that is read has the bits it was written with, so that a stream may be broken off and taken up again. What
/// [`Moments::from_parts`] refuses makes a file unreadable, and so does a tensor beyond these.
///
/// ```
/// use brenier_linalg::{Moments, Rows};
/// use brenier_transport::MomentsFile;
/// use faer::mat;
///
/// let mut moments = Moments::new(2, 8)?;
/// moments.push(Rows::new(mat![[1.0, 2.0], [3.0, 5.0]].as_ref())?)?;
/// let mut file = MomentsFile::default();
/// file.entries.insert("blocks.5.hook_resid_post".into(), moments);
/// file.metadata.insert("model".into(), "tiny".into());
///
/// let bytes = file.to_bytes()?;
/// assert_eq!(MomentsFile::from_bytes(&bytes, "source.moments".as_ref())?, file);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MomentsFile {
    /// The moments.
    pub entries: BTreeMap<String, Moments>,
    /// What else is worth knowing, e.g. hashes of the inputs. The keys `format` and `entries` are the format's.
    pub metadata: BTreeMap<String, String>,
}

impl MomentsFile {
    /// Reads a file of moments.
    ///
    /// # Errors
    /// [`TransportError::Map`] in one line: a file that cannot be read, is no file of moments, is damaged, holds what
    /// no stream leaves behind, or is of another version.
    pub fn read(path: &Path) -> Result<Self, TransportError> {
        Self::from_bytes(&read_whole(path)?, path)
    }

    /// Writes a file of moments, whole or not at all: [`brenier_files::write_bytes`].
    ///
    /// # Errors
    /// [`TransportError::Write`]: an existing file without `force`, what cannot be written; [`TransportError::Map`]: a
    /// reserved metadata key, no entry.
    pub fn write(&self, path: &Path, force: bool) -> Result<(), TransportError> {
        Ok(brenier_files::write_bytes(path, Existing::forced(force), &self.laid_out()?)?)
    }

    /// The bytes that [`write`](Self::write) writes: the same for the same moments.
    ///
    /// # Errors
    /// [`TransportError::Map`]: a reserved metadata key; no entry.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TransportError> {
        Ok(self.laid_out()?)
    }

    /// Reads a file whose bytes are in memory already; `path` is what errors call it.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for the operating system's.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, TransportError> {
        let (mut reader, names) = Reader::open::<BTreeSet<String>>(bytes, path, &LAYOUT)?;
        if names.is_empty() {
            return Err(reader.refuse("it holds no moments").into());
        }
        let mut entries = BTreeMap::new();
        for name in names {
            let parts = read_parts(&mut reader, &name)?;
            let moments = Moments::from_parts(parts).map_err(|error| reader.refuse_entry(&name, error))?;
            entries.insert(name, moments);
        }
        Ok(Self { entries, metadata: reader.finish()? })
    }

    fn laid_out(&self) -> Result<Vec<u8>, MapError> {
        if self.entries.is_empty() {
            return Err(MapError::Layout { what: LAYOUT.what, reason: "it holds no moments".to_owned() });
        }
        let mut writer = Writer::default();
        for (name, moments) in &self.entries {
            let MomentsParts { cap, count, mean, rows, delta, removed } = moments.clone().into_parts();
            writer.count(name, "cap", cap as u64);
            writer.count(name, "count", count as u64);
            writer.vector(name, "mean", &mean);
            let shape = vec![rows.len() / mean.len(), mean.len()];
            writer.tensor(name, "factor", shape, rows.into_iter());
            writer.number(name, "delta", delta);
            writer.number(name, "removed", removed);
        }
        let names: Vec<&String> = self.entries.keys().collect();
        writer.finish(&LAYOUT, &names, &self.metadata)
    }
}

fn read_parts(reader: &mut Reader<'_>, name: &str) -> Result<MomentsParts, MapError> {
    let mut size = |part: &str| {
        let value = reader.count(name, part)?;
        usize::try_from(value)
            .map_err(|_| reader.refuse_entry(name, format_args!("`{part}` {value} is beyond this machine")))
    };
    let (cap, count) = (size("cap")?, size("count")?);
    let mean = reader.vector(name, "mean")?;
    let (found, rows) = reader.tensor(name, "factor")?;
    if found.len() != 2 || found[1] != mean.len() {
        let expected = [found.first().copied().unwrap_or(0), mean.len()];
        return Err(reader.misshapen(name, "factor", &expected, &found));
    }
    let (delta, removed) = (reader.number(name, "delta")?, reader.number(name, "removed")?);
    Ok(MomentsParts { cap, count, mean, rows, delta, removed })
}
