//! What goes wrong, in one line, and the exit code for it.

use std::error::Error;
use std::io;
use std::panic;
use std::process::ExitCode;
use std::sync::Mutex;

use brenier::capture::CaptureError;
use brenier::device::DeviceError;
use brenier::eval::EvalError;
use brenier::files::{self, WriteError};
use brenier::hooks::HookError;
use brenier::map::MapError;
use brenier::model::ModelError;
use brenier::organism::OrganismError;
use brenier::residual::ResidualError;
use brenier::transport::TransportError;
use clap::error::ErrorKind;

/// Wrong usage or bad input that the program itself finds.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

/// An error of exit code 2.
pub fn usage_error(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Reports an error and gives its exit code. A reader of stdout who went away, as in `brenier .. | head`, is no error.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let elsewhere = |cause: &(dyn Error + 'static)| matches!(cause.downcast_ref(), Some(WriteError::Io { path, .. }) if !files::is_stdout(path));
    if io_kinds(error).any(|kind| kind == io::ErrorKind::BrokenPipe) && !error.chain().any(elsewhere) {
        return ExitCode::SUCCESS;
    }
    let exists =
        |cause: &(dyn Error + 'static)| matches!(cause.downcast_ref(), Some(WriteError::Exists { .. }));
    let remedy = if error.chain().any(exists) { " with --force" } else { "" };
    line(&format!("{}{remedy}", one_line(error)));
    ExitCode::from(if is_input(error) { 2 } else { 1 })
}

/// Reports what clap found, help and version included.
pub fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader who went away is no error here either.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            line("no command given: begin with `brenier demo`, or see `brenier --help`");
        }
        _ => {
            let rendered = error.render().to_string();
            let parts = rendered.lines().map(str::trim).take_while(|part| !part.starts_with("Usage:"));
            let parts = parts.filter(|part| !part.is_empty() && !part.starts_with("For more information"));
            let text = parts.collect::<Vec<_>>().join(" ");
            line(&format!("{} (see --help)", text.strip_prefix("error: ").unwrap_or(&text)));
        }
    }
    ExitCode::from(2)
}

static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Keeps panics from printing: [`panicked`] says what happened, in one line.
pub fn silence_panics() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        if let Ok(mut last) = LAST_PANIC.lock() {
            // The first one is the cause; those that follow from it in other threads are not.
            last.get_or_insert_with(|| format!("{message}{place}"));
        }
    }));
}

/// Reports a panic that was caught.
pub fn panicked() -> ExitCode {
    let text = LAST_PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
    line(&format!("internal error, please report it: {text}"));
    ExitCode::from(1)
}

fn line(text: &str) {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("error: {flat}");
}

/// The message and those of its causes that it does not already hold.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if !text.contains(&message) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&message);
        }
    }
    text
}

/// Whether the cause is what the user gave: everything that a library refuses, except what a full or broken
/// machine does to a good request.
fn is_input(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, FileTooLarge, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull, TimedOut,
    };
    let machine =
        [StorageFull, QuotaExceeded, FileTooLarge, ReadOnlyFilesystem, OutOfMemory, TimedOut, BrokenPipe];
    !io_kinds(error).any(|kind| machine.contains(&kind)) && error.chain().any(refuses_input)
}

fn refuses_input(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<Usage>()
        || cause.is::<WriteError>()
        || cause.is::<DeviceError>()
        || cause.is::<ModelError>()
        || cause.is::<ResidualError>()
        || cause.is::<CaptureError>()
        || cause.is::<MapError>()
        || cause.is::<TransportError>()
        || cause.is::<HookError>()
        || cause.is::<EvalError>()
        || cause.is::<OrganismError>()
}

fn io_kinds(error: &anyhow::Error) -> impl Iterator<Item = io::ErrorKind> {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn bad_input_is_told_from_a_full_disk() {
        assert!(is_input(&usage_error("x")));
        assert!(!is_input(&anyhow::anyhow!("x")));
        let full = Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull)).context(Usage("x".to_owned()));
        assert!(!is_input(&full.unwrap_err()));
    }

    #[test]
    fn causes_are_named_once() {
        let error = anyhow::anyhow!("no such file").context("model: no such file").context("loading");
        assert_eq!(one_line(&error), "loading: model: no such file");
    }
}
