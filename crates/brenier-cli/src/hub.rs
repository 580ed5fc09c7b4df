//! Models by name.

use std::path::PathBuf;

use brenier::hub::{HubOptions, Progress, resolve};

use crate::args::ModelArgs;
use crate::console::Console;

/// The directory of the model that was asked for. One by name comes from the Hugging Face cache, after a download
/// where need be.
pub fn find_model(args: &ModelArgs, console: &Console) -> anyhow::Result<PathBuf> {
    let options = HubOptions::from_vars(|name| std::env::var_os(name));
    let mut bar = None;
    let found = resolve(&args.name, args.revision.as_deref(), &options, &mut |progress| match progress {
        Progress::Start { bytes, .. } => bar = Some(console.bytes("downloading", bytes)),
        Progress::File { name } | Progress::Check { name } => {
            bar.iter().for_each(|bar| bar.name(name));
        }
        Progress::Received { done, total } => bar.iter().for_each(|bar| bar.at(done, total)),
        Progress::Wait { name, lock } => {
            console.warn(&format!("waiting for another program to download {name} ({})", lock.display()));
        }
        Progress::Retry { name, reason } => console.warn(&format!("{name}: {reason}; trying again")),
        Progress::Done => bar = None,
        _ => {}
    })?;
    drop(bar);
    if !found.unknown.is_empty() {
        console.warn(&format!(
            "{}: not in the cache, and it is not known whether the model has them: {}",
            args.name.display(),
            found.unknown.join(", ")
        ));
    }
    Ok(found.dir)
}
