//! What a person sees: results on stdout, progress on stderr.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use brenier::eval::Progress;
use brenier::files;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
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
            "{msg:<28} {bar:32.cyan/dim} {pos:>5}/{len} {per_sec:.dim} {eta:.dim}"
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
        let lines = !self.quiet && !io::stderr().is_terminal();
        Bar { bar, lines: lines.then(|| Cell::new((Instant::now(), 0))) }
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

/// How long a log is silent where there is no terminal.
const SILENCE: Duration = Duration::from_secs(30);

/// Progress on stderr: a bar on a terminal, elsewhere a line now and then.
pub struct Bar {
    bar: ProgressBar,
    /// When the last line of the log was written, and how much was done then.
    lines: Option<Cell<(Instant, u64)>>,
}

impl Bar {
    /// So much more of it is done.
    pub fn add(&self, steps: usize) {
        self.bar.inc(steps as u64);
        self.log();
    }

    /// So much of it is done, of so much.
    pub fn at(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.log();
    }

    /// What it shows the progress of.
    pub fn name(&self, name: &str) {
        self.bar.set_message(name.to_owned());
    }
}

impl Bar {
    /// Writes a line of the log, if it is time for one.
    fn log(&self) {
        let Some(last) = &self.lines else { return };
        let ((when, before), done) = (last.get(), self.bar.position());
        if when.elapsed() >= SILENCE {
            last.set((Instant::now(), done));
            let rate = done.saturating_sub(before) as f64 / when.elapsed().as_secs_f64();
            eprintln!("{}", logged(&self.bar.message(), done, self.bar.length().unwrap_or(0), rate));
        }
    }
}

/// What a log says of `done` of `total` steps at so many a second; the total is 0 where nobody knows it.
fn logged(name: &str, done: u64, total: u64, rate: f64) -> String {
    let left = total.saturating_sub(done) as f64 / rate;
    match total {
        0 => format!("{name}: {done}, {rate:.1} a second"),
        _ if left.is_finite() => {
            let left = Duration::from_secs(left.min(1e15) as u64);
            format!("{name}: {done} of {total}, {rate:.1} a second, {} left", HumanDuration(left))
        }
        _ => format!("{name}: {done} of {total}"),
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_rate_and_time_left() {
        let line = logged("capturing", 600, 1800, 10.0);
        assert_eq!(line, "capturing: 600 of 1800, 10.0 a second, 2 minutes left");
        assert_eq!(logged("capturing", 0, 1800, 0.0), "capturing: 0 of 1800");
        assert_eq!(logged("generating tokens", 90, 0, 1.5), "generating tokens: 90, 1.5 a second");
        assert!(logged("capturing", 5, 5, 1.0).ends_with(", 0 seconds left"));
    }
}
