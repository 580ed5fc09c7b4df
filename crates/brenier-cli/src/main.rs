//! The `brenier` program: it parses, wires and reports; the libraries do the work.
//!
//! Exit codes: 0 done; 2 wrong usage or bad input, with one line on stderr; 1 anything else, with one line too.

mod args;
mod commands;
mod console;
mod data;
#[cfg(test)]
mod examples;
mod failure;
mod fit_args;
mod hub;
mod input;
mod maps;
mod memory;
mod moments;
mod select;
mod signals;
mod values;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::console::Console;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    failure::silence_panics();
    let device = &cli.common.device;
    if let Err(error) = signals::watch() {
        return failure::report(&anyhow::Error::new(error).context("cannot watch for signals"), device);
    }
    let console = Console::new(cli.common.quiet, cli.common.json);
    match panic::catch_unwind(AssertUnwindSafe(|| run(&cli, &console))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failure::report(&error, device),
        Err(_) => failure::panicked(device),
    }
}

fn run(cli: &Cli, console: &Console) -> anyhow::Result<()> {
    let common = &cli.common;
    match &cli.command {
        Command::Demo(args) => commands::demo::run(args, common, console),
        Command::Inspect(args) => commands::inspect::run(args, common, console),
        Command::Capture(args) => commands::capture::run(args, common, console),
        Command::Merge(args) => commands::merge::run(args, console),
        Command::Fit(args) => commands::fit::run(args, common, console),
        Command::Apply(args) => commands::apply::run(args, console),
        Command::Generate(args) => commands::generate::run(args, common, console),
        Command::Score(args) => commands::score::run(args, common, console),
        Command::Study(args) => commands::study::run(args, common, console),
    }
}
