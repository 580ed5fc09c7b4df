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
use brenier::hub::HubError;
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

/// Reports an error of a run on `device` and gives its exit code. A reader of stdout who went away, as in
/// `brenier .. | head`, is no error.
pub fn report(error: &anyhow::Error, device: &str) -> ExitCode {
    let elsewhere = |cause: &(dyn Error + 'static)| matches!(cause.downcast_ref(), Some(WriteError::Io { path, .. }) if !files::is_stdout(path));
    if io_kinds(error).any(|kind| kind == io::ErrorKind::BrokenPipe) && !error.chain().any(elsewhere) {
        return ExitCode::SUCCESS;
    }
    line(&said(error, device));
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

/// Reports a panic that was caught in a run on `device`. Some backends panic where a device is out of memory.
pub fn panicked(device: &str) -> ExitCode {
    let text = LAST_PANIC.lock().ok().and_then(|mut last| last.take()).unwrap_or_default();
    line(&said_by_panic(&text, device));
    ExitCode::from(1)
}

fn said(error: &anyhow::Error, device: &str) -> String {
    match error.chain().find_map(device_failure) {
        Some(reason) if is_out_of_memory(reason) => out_of_memory(device),
        _ => one_line(error),
    }
}

fn said_by_panic(text: &str, device: &str) -> String {
    match is_out_of_memory(text) {
        true => out_of_memory(device),
        false => format!("internal error, please report it: {text}"),
    }
}

/// What a backend says when memory runs out, in lower case.
const OUT_OF_MEMORY: [&str; 9] = [
    // cubecl: `IoError` and `LaunchError`.
    "out of device memory allocating",
    "can't allocate buffer of size",
    "every page size the memory tracks still holds live allocations",
    "out-of-memory error",
    // Drivers: CUDA, HIP, Vulkan.
    "out_of_memory",
    "erroroutofmemory",
    // wgpu, and everyone else.
    "out of memory",
    "not enough memory",
    "memory allocation of",
];

fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    OUT_OF_MEMORY.iter().any(|said| message.contains(said))
}

fn out_of_memory(device: &str) -> String {
    let device = if device == "auto" { "the device" } else { device };
    format!("out of memory on {device}: lower --batch, shorten the prompts, or use --dtype bf16")
}

/// An error, or the one that it is one with, so that no chain of causes shows that.
fn carried<'a>(cause: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let inner: Option<&(dyn Error + 'static)> = match cause.downcast_ref() {
        Some(EvalError::Batch(error)) => Some(error),
        Some(EvalError::Model(error)) => Some(error),
        Some(EvalError::Prompt { source, .. }) => Some(source.as_ref()),
        Some(EvalError::Capture(error)) => Some(error),
        Some(EvalError::Map(error)) => Some(error),
        Some(_) => None,
        None => match (cause.downcast_ref(), cause.downcast_ref()) {
            (Some(ModelError::Batch(error)), _) | (_, Some(CaptureError::Batch(error))) => Some(error),
            _ => None,
        },
    };
    inner.map_or(cause, carried)
}

/// What the device said, where it is the device that failed.
fn device_failure<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a str> {
    match carried(cause).downcast_ref() {
        Some(ResidualError::Device { reason }) => Some(reason),
        _ => None,
    }
}

fn line(text: &str) {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("error: {flat}");
}

/// The message, those of its causes that it does not already hold, and which option helps.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if !text.contains(&message) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&message);
        }
    }
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str(&hint);
    }
    text
}

/// Which option helps against an error of a library, as the end of its message. Libraries know nothing of options: those
/// that they would name are named here.
fn hint(cause: &(dyn Error + 'static)) -> Option<String> {
    let cause = carried(cause);
    if let Some(WriteError::Exists { .. }) = cause.downcast_ref() {
        return Some(" with --force".to_owned());
    }
    if let Some(CaptureError::Mismatch { .. }) = cause.downcast_ref() {
        return Some("; make them in one way, or pass --allow-mismatch".to_owned());
    }
    if let Some(DeviceError::NotCompiled { backend, .. }) = cause.downcast_ref() {
        return Some(format!(": cargo build --release -p brenier-cli --features {backend}"));
    }
    match cause.downcast_ref()? {
        ModelError::NoTemplate { .. } => Some("; pass --raw to go without one".to_owned()),
        ModelError::Header { .. } => Some(" with --format".to_owned()),
        _ => None,
    }
}

/// Whether the cause is what the user gave: everything that a library refuses, except what a full or broken
/// machine or device does to a good request.
fn is_input(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, FileTooLarge, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull, TimedOut,
    };
    let machine =
        [StorageFull, QuotaExceeded, FileTooLarge, ReadOnlyFilesystem, OutOfMemory, TimedOut, BrokenPipe];
    let failed = io_kinds(error).any(|kind| machine.contains(&kind))
        || error.chain().any(|cause| device_failure(cause).is_some());
    !failed && error.chain().any(refuses_input)
}

fn refuses_input(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<Usage>()
        || cause.is::<WriteError>()
        || cause.is::<DeviceError>()
        || cause.is::<ModelError>()
        || cause.is::<ResidualError>()
        || cause.is::<CaptureError>()
        || cause.downcast_ref::<HubError>().is_some_and(|error| !is_of_the_network(error))
        || cause.is::<MapError>()
        || cause.is::<TransportError>()
        || cause.is::<HookError>()
        || cause.is::<EvalError>()
        || cause.is::<OrganismError>()
}

fn is_of_the_network(error: &HubError) -> bool {
    matches!(error, HubError::Unreachable { .. } | HubError::Server { .. } | HubError::Checksum { .. })
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
    fn a_device_that_fails_is_found_in_every_error_that_carries_it() {
        let device = || ResidualError::Device { reason: "lost".to_owned() };
        let errors: [anyhow::Error; 6] = [
            device().into(),
            ModelError::Batch(device()).into(),
            CaptureError::Batch(device()).into(),
            EvalError::Batch(device()).into(),
            EvalError::Model(ModelError::Batch(device())).into(),
            anyhow::Error::from(EvalError::Capture(CaptureError::Batch(device()))).context("scoring"),
        ];
        for error in errors {
            assert_eq!(error.chain().find_map(device_failure), Some("lost"), "{error:?}");
            assert!(!is_input(&error), "{error:?}");
        }
        let input = anyhow::Error::from(EvalError::Batch(ResidualError::EmptyBatch));
        assert!(input.chain().find_map(device_failure).is_none() && is_input(&input));
    }

    #[test]
    fn what_backends_say_of_full_memory_is_known() {
        // As cubecl 0.11, wgpu 30, CUDA, HIP and Rust's allocator word it.
        for message in [
            "An error happened during execution Caused by: out of device memory allocating 1099511627776 bytes",
            "can't allocate buffer of size: 17179869184",
            "Can't allocate 4096 bytes: every page size the memory tracks still holds live allocations",
            "An out-of-memory error happened during launch Caused by: out of memory launching kernel 7",
            "CUDA allocation error: DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "hipErrorOutOfMemory",
            "wgpu error: Out of Memory",
            "In Device::create_buffer: Not enough memory left.",
            "memory allocation of 68719476736 bytes failed",
        ] {
            assert!(is_out_of_memory(message), "{message}");
        }
        for message in
            ["The device is poisoned", "index out of bounds: the len is 3", "no space left on device"]
        {
            assert!(!is_out_of_memory(message), "{message}");
        }
        let advice = "lower --batch, shorten the prompts, or use --dtype bf16";
        let reason = "out of device memory allocating 4096 bytes".to_owned();
        let full = anyhow::Error::from(EvalError::Batch(ResidualError::Device { reason }));
        assert_eq!(said(&full, "cuda:1"), format!("out of memory on cuda:1: {advice}"));
        assert_eq!(
            said_by_panic("wgpu error: Out of Memory", "auto"),
            format!("out of memory on the device: {advice}")
        );
        // Only a device is out of memory, not a file that says so.
        let named = usage_error("out of memory.jsonl: no such file");
        assert_eq!(said(&named, "cpu"), "out of memory.jsonl: no such file");
        assert!(said_by_panic("index out of bounds", "cpu").starts_with("internal error"));
    }

    #[test]
    fn the_option_that_helps_is_named_whatever_carries_the_error() {
        let path = || std::path::PathBuf::from("x");
        let exists = || WriteError::Exists { path: path() };
        let header = || ModelError::Header { path: path(), expected: "a".to_owned(), found: "b".to_owned() };
        let mismatch = CaptureError::Mismatch { differences: "a is `1` in x and `2` in y".to_owned() };
        let errors: [(anyhow::Error, &str); 7] = [
            (exists().into(), "replace it with --force"),
            (CaptureError::from(exists()).into(), "replace it with --force"),
            (EvalError::Map(MapError::from(exists())).into(), "replace it with --force"),
            (anyhow::Error::from(mismatch).context("fitting"), "or pass --allow-mismatch"),
            (ModelError::NoTemplate { path: path() }.into(), "pass --raw to go without one"),
            (header().into(), "name its format with --format"),
            (EvalError::Model(header()).into(), "name its format with --format"),
        ];
        for (error, end) in errors {
            assert!(one_line(&error).ends_with(end), "{}", one_line(&error));
        }
        let device =
            DeviceError::NotCompiled { name: "cuda".into(), backend: "cuda".into(), compiled: "cpu".into() };
        assert!(one_line(&device.into()).ends_with("--features cuda"));
    }

    #[test]
    fn causes_are_named_once() {
        let error = anyhow::anyhow!("no such file").context("model: no such file").context("loading");
        assert_eq!(one_line(&error), "loading: model: no such file");
    }
}
