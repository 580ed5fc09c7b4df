//! What a person sees: results on stdout, progress on stderr.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use brenier::eval::Progress;
use brenier::files;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::failure::usage_error;

/// Where the program speaks.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    quiet: bool,
    json: bool,
    /// Stdout carries the output of the command, and nothing else.
    stdout_taken: bool,
}

impl Console {
    pub fn new(quiet: bool, json: bool) -> Self {
        Self { quiet, json, stdout_taken: false }
    }

    /// The console of a command that writes to `out`.
    pub fn beside(&self, out: &Path) -> anyhow::Result<Self> {
        let stdout_taken = files::is_stdout(out);
        if stdout_taken && self.json {
            return Err(usage_error(format!(
                "--out {} and --json both write to stdout; use one of them",
                out.display()
            )));
        }
        Ok(Self { stdout_taken, ..*self })
    }

    /// Whether stdout carries the output of the command, so that [`result`](Self::result) has no place for its text.
    pub fn stdout_taken(&self) -> bool {
        self.stdout_taken
    }

    /// The result of the command: `value` with `--json`, else `text`.
    pub fn result(&self, value: &Value, text: impl FnOnce() -> String) -> io::Result<()> {
        match self.json {
            true => write(&serde_json::to_string_pretty(value)?),
            _ if self.quiet || self.stdout_taken => Ok(()),
            _ => write(&text()),
        }
    }

    /// What a reader of the result may want to know, on one line of stderr.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            eprintln!("note: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    /// What is worth knowing, on one line of stderr, even where everything else is quiet.
    pub fn warn(&self, text: &str) {
        eprintln!("warning: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    /// Bars for the stages of a long run.
    pub fn stages(&self) -> Stages<'_> {
        Stages { console: self, bar: None }
    }

    /// A bar of bytes with rate and time left, drawn on a terminal. It goes when it is dropped.
    pub fn bytes(&self, name: &str, total: u64) -> Bar {
        let template = "{msg:<28} {bar:32.cyan/dim} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta:.dim}";
        self.styled(name, total, template)
    }

    /// A bar of `total` steps, drawn on a terminal once it has run for a moment. It goes when it is dropped.
    pub fn bar(&self, name: &str, total: usize) -> Bar {
        let template = if total > 0 {
            "{msg:<28} {bar:32.cyan/dim} {pos:>5}/{len} {elapsed_precise:.dim}"
        } else {
            "{msg:<28} {spinner} {elapsed_precise:.dim}"
        };
        self.styled(name, total as u64, template)
    }

    fn styled(&self, name: &str, total: u64, template: &str) -> Bar {
        let hidden = self.quiet || self.json;
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style.progress_chars("━━─"));
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Bar(bar)
    }
}

/// Stages of a long run, each a bar.
pub struct Stages<'a> {
    console: &'a Console,
    bar: Option<Bar>,
}

impl Progress for Stages<'_> {
    fn stage(&mut self, name: &str, total: usize) {
        self.bar = None;
        self.bar = Some(self.console.bar(name, total));
    }

    fn advance(&mut self, n: usize) {
        if let Some(bar) = &self.bar {
            bar.add(n);
        }
    }

    fn done(&mut self) {
        self.bar = None;
    }
}

/// A bar on stderr.
pub struct Bar(ProgressBar);

impl Bar {
    /// So much more of it is done.
    pub fn add(&self, steps: usize) {
        self.0.inc(steps as u64);
    }

    /// So much of it is done, of so much.
    pub fn at(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// What it shows the progress of.
    pub fn name(&self, name: &str) {
        self.0.set_message(name.to_owned());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}
