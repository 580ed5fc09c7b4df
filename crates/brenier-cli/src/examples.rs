//! Every example in a help text or a guide is taken by the parser and the checks behind it, and so is every value that a
//! hint names. Examples stand in backticks; they are collected, so that none can be forgotten.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use brenier::device::{DeviceError, by_name};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory, Parser};

use crate::args::{Cli, Command};

/// What the placeholders of hints stand for; a new one belongs here.
const STANDS_FOR: [(&str, &str); 25] = [
    ("DEVICE", "cpu"),
    ("DIR", "dir"),
    ("FILE", "file"),
    ("FILE|DIR", "file"),
    ("FOLDS", "3"),
    ("HIGH", "0.9"),
    ("I", "0"),
    ("I/N", "0/3"),
    ("K", "2"),
    ("K,K,..", "1,2"),
    ("LAYERS", "0"),
    ("LOW", "0.1"),
    ("M", "2"),
    ("N", "3"),
    ("NAME", "ot"),
    ("NAME,..", "ot,ace"),
    ("ORG/NAME", "org/name"),
    ("P", "0.5"),
    ("Q", "2"),
    ("REV", "main"),
    ("SITE", "resid_mid"),
    ("T", "0.7"),
    ("TEXT", "text"),
    ("X", "0.5"),
    ("YYYY-MM-DD[THH:MM:SS]", "2026-01-31T12:00:00"),
];

/// A text in which placeholders are replaced by what they stand for.
fn filled(text: &str) -> String {
    let stands_for =
        |name: &str| STANDS_FOR.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if let Some(value) = stands_for(text) {
        return value.to_owned();
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_uppercase()) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(rest.len());
        let name = &rest[..end];
        // The T of a date is none.
        let date = name == "T" && out.ends_with(|c: char| c.is_ascii_digit());
        let value =
            if date { name } else { stands_for(name).unwrap_or_else(|| panic!("{text}: what is {name}?")) };
        out.push_str(value);
        rest = &rest[end..];
    }
    out + rest
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The help of an argument, on one line.
fn help(arg: &Arg) -> String {
    let of = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    format!("{} {}", of(arg.get_help()), of(arg.get_long_help()))
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The alternatives of an argument's hint, or its possible values.
fn hinted(arg: &Arg) -> Vec<String> {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        return possible.iter().map(|value| value.get_name().to_owned()).collect();
    }
    let names = arg.get_value_names().unwrap_or_default();
    names.iter().flat_map(|name| name.split('|')).map(filled).collect()
}

/// Whether the program takes a value, with whatever the argument needs beside it.
fn taken(command: &clap::Command, arg: &Arg, value: &str) -> Result<(), String> {
    let option = |arg: &Arg, value: &str| format!("--{}={value}", arg.get_long().unwrap());
    let needed = |arg: &Arg| option(arg, &hinted(arg)[0]);
    let required =
        command.get_arguments().filter(|other| other.is_required_set() && other.get_id() != arg.get_id());
    let mut args = vec!["brenier".to_owned(), command.get_name().to_owned(), option(arg, value)];
    args.extend(required.map(needed));
    loop {
        let error = match Cli::try_parse_from(&args) {
            Ok(cli) => return checked(&cli),
            Err(error) => error,
        };
        let Some(ContextValue::Strings(missing)) =
            error.get(ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::MissingRequiredArgument)
        else {
            return Err(error.to_string());
        };
        let missing =
            missing.iter().map(|usage| usage.split([' ', '<']).next().unwrap().trim_start_matches('-'));
        for long in missing {
            args.push(needed(command.get_arguments().find(|other| other.get_long() == Some(long)).unwrap()));
        }
    }
}

/// The checks that commands make of their options before anything else.
fn checked(cli: &Cli) -> Result<(), String> {
    if let Err(unknown @ DeviceError::Unknown { .. }) = by_name(&cli.common.device) {
        return Err(unknown.to_string());
    }
    match &cli.command {
        Command::Fit(fit) => fit.options.options(0).check().map_err(|error| error.to_string()),
        _ => Ok(()),
    }
}

/// All commands with their arguments, those common to all included.
fn commands() -> Vec<clap::Command> {
    let mut root = Cli::command();
    root.build();
    root.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect()
}

#[test]
fn every_example_of_the_help_is_taken() {
    let mut seen = Vec::new();
    for command in commands() {
        for arg in command.get_arguments() {
            let help = help(arg);
            let place = format!("{} --{}", command.get_name(), arg.get_long().unwrap());
            for word in ["e.g. ", "such as ", "for example "] {
                let bare = help.split(word).skip(1).find(|rest| !rest.starts_with('`'));
                assert!(bare.is_none(), "{place}: an example outside of backticks: {bare:?}");
            }
            for option in help.split([' ', '`', ',']).filter_map(|word| word.strip_prefix("--")) {
                let known = command.get_arguments().any(|other| other.get_long() == Some(option));
                assert!(known, "{place}: the help names --{option}, which is none of this command's");
            }
            let mut values = if arg.get_action().takes_values() { hinted(arg) } else { Vec::new() };
            for example in quoted(&help) {
                match example.split_once(' ') {
                    // The content of a file.
                    _ if example.starts_with('{') => {}
                    Some((option, value)) if option.starts_with("--") => {
                        let other =
                            command.get_arguments().find(|other| other.get_long() == Some(&option[2..]));
                        assert_eq!(taken(&command, other.unwrap(), value), Ok(()), "{place}: `{example}`");
                    }
                    _ => values.push(filled(example)),
                }
            }
            for value in values {
                assert_eq!(taken(&command, arg, &value), Ok(()), "{place}: `{value}`");
                seen.push(format!("{place}={value}"));
            }
        }
    }
    for example in [
        "fit --act-quantiles=0,1",
        "capture --layers=3,5-9",
        "capture --position=-2..",
        "study --layers=40%-60%",
    ] {
        assert!(seen.iter().any(|seen| seen == example), "{example} is not among {seen:#?}");
    }
}

#[test]
fn every_range_of_the_help_ends_where_it_says() {
    let mut ranges = 0;
    for command in commands() {
        for arg in command.get_arguments() {
            let help = help(arg);
            let parts: Vec<&str> = help.split('`').collect();
            for part in parts.windows(3).filter(|part| part[1] == " to ") {
                let [low, high] = [part[0], part[2]].map(|bound| bound.parse::<f64>().unwrap());
                for beyond in [low - 1.0, high + 1.0] {
                    let found = taken(&command, arg, &beyond.to_string());
                    assert!(found.is_err(), "{} --{}={beyond}", command.get_name(), arg.get_long().unwrap());
                }
                ranges += 1;
            }
        }
    }
    assert!(ranges > 10, "{ranges}");
}

#[test]
fn the_help_of_fit_names_every_method() {
    let commands = commands();
    let fit = commands.iter().find(|command| command.get_name() == "fit").unwrap();
    let method = fit.get_arguments().find(|arg| arg.get_long() == Some("method")).unwrap();
    assert_eq!(quoted(&help(method)), brenier::transport::Method::ALL.map(|method| method.name()));
}

/// A command line as a shell cuts it.
fn words(line: &str) -> Vec<String> {
    let quoted = line.split('"').enumerate();
    quoted
        .flat_map(|(i, part)| match i % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn every_command_of_the_help_and_the_guides_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = vec![root.join("README.md")];
    for directory in [root.join("docs"), root.join("docs/guides")] {
        texts.extend(std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()));
    }
    texts.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut commands = Vec::new();
    for path in texts {
        let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", " ");
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with("brenier "));
        commands.extend(lines.map(|line| line.split(" #").next().unwrap().to_owned()));
    }
    let after = Cli::command().get_after_help().unwrap().to_string();
    commands.extend(quoted(&after).into_iter().map(str::to_owned));
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let found = Cli::try_parse_from(words(&command)).map_err(|error| error.to_string());
        assert_eq!(found.and_then(|cli| checked(&cli)), Ok(()), "{command}");
    }
}
