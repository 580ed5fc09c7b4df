//! How messages are worded, read off the sources of all crates: what no compiler checks and everybody forgets.

use std::fs;
use std::path::{Path, PathBuf};

/// What counts from 0.
const FROM_ZERO: [&str; 8] = ["prompt", "row", "column", "token", "layer", "layers", "block", "record"];

/// String literals of the code that is not tests, with the line on which they begin (counted from 1).
fn literals(source: &str) -> Vec<(usize, String)> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut found = Vec::new();
    let mut i = 0;
    let line = |i: usize| 1 + chars[..i].iter().filter(|&&c| c == '\n').count();
    while i < chars.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('\'', '\\') => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            ('r', '"' | '#') if !at(i.saturating_sub(1)).is_alphanumeric() => {
                let hashes = (i + 1..).take_while(|&j| at(j) == '#').count();
                let start = i + 1 + hashes;
                if at(start) != '"' {
                    i += 1;
                    continue;
                }
                let mut end = start + 1;
                let closes = |end: usize| at(end) == '"' && (1..=hashes).all(|j| at(end + j) == '#');
                while end < chars.len() && !closes(end) {
                    end += 1;
                }
                found.push((line(i), chars[start + 1..end.min(chars.len())].iter().collect()));
                i = end + 1 + hashes;
            }
            ('"', _) => {
                let start = i;
                let mut text = String::new();
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    match (at(i), at(i + 1)) {
                        // A line that goes on: the white space before the next word is none of the text.
                        ('\\', '\n') => {
                            i += 1;
                            while at(i).is_whitespace() {
                                i += 1;
                            }
                            continue;
                        }
                        ('\\', next) => {
                            text.push(if next.is_alphanumeric() { ' ' } else { next });
                            i += 2;
                        }
                        (c, _) => {
                            text.push(c);
                            i += 1;
                        }
                    }
                }
                i += 1;
                found.push((line(start), text));
            }
            _ => i += 1,
        }
    }
    found
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every string literal of the crates, with its place; `libraries` leaves the programs out.
fn all(libraries: bool) -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut files = Vec::new();
    for entry in fs::read_dir(&crates).expect("the crates") {
        let dir = entry.expect("a crate").path();
        if !(libraries && dir.ends_with("brenier-cli")) {
            sources(&dir.join("src"), &mut files);
        }
    }
    files.retain(|path| !path.components().any(|part| part.as_os_str() == "bin"));
    let mut found = Vec::new();
    for path in files {
        let source = fs::read_to_string(&path).expect("a source file");
        let name = path.strip_prefix(&crates).unwrap_or(&path).display().to_string();
        found.extend(literals(&source).into_iter().map(|(line, text)| (format!("{name}:{line}"), text)));
    }
    assert!(found.len() > 500, "{} literals: the sources are not where they are looked for", found.len());
    found
}

/// Whether a text names an option of the command line.
fn names_an_option(text: &str) -> bool {
    text.match_indices("--").any(|(i, _)| {
        let before = text[..i].chars().next_back().is_none_or(|c| c == ' ' || c == '`');
        before && text[i + 2..].starts_with(|c: char| c.is_ascii_lowercase())
    })
}

/// What is missing in a text that counts.
fn missing(text: &str) -> Option<&'static str> {
    let counts = |word: &str| {
        let before =
            |i: usize| text[..i].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '-');
        text.match_indices(word).any(|(i, _)| {
            let rest = &text[i + word.len()..];
            before(i) && rest.starts_with(" {")
        })
    };
    let says = |from: &str| text.contains(&format!("counted from {from}"));
    // Columns of a text go with its lines, those of a matrix with its rows.
    let zero = FROM_ZERO.into_iter().any(counts) && !says("0") && !(counts("column") && says("1"));
    let one = counts("line") && !says("1");
    if zero { Some("(counted from 0)") } else { one.then_some("(counted from 1)") }
}

#[test]
fn the_checks_can_fail() {
    let found = literals(
        "// \"no\"\nlet a = ('\"', b'\\'', \"x \\\n   y\\\"\", r#\"z\"q\"#); fn f<'a>() {}\n#[cfg(test)] \"t\"",
    );
    assert_eq!(found, [(2, "x y\"".to_owned()), (3, "z\"q".to_owned())]);
    for (text, named) in
        [("use --raw", true), ("`--map`", true), ("a--b", false), ("-- x", false), ("--map", true)]
    {
        assert_eq!(names_an_option(text), named, "{text}");
    }
    for (text, found) in [
        ("prompt {prompt} is empty", Some("(counted from 0)")),
        ("prompt {} (counted from 0)", None),
        ("at layers {}", Some("(counted from 0)")),
        ("{}, line {line}: no", Some("(counted from 1)")),
        ("{rows} rows of {prompts}, tokens {set}", None),
        ("at column {} (counted from 1)", None),
        ("subcolumn {}; --layers {}", None),
    ] {
        assert_eq!(missing(text), found, "{text}");
    }
}

#[test]
fn libraries_name_no_option() {
    let named: Vec<_> = all(true).into_iter().filter(|(_, text)| names_an_option(text)).collect();
    assert!(named.is_empty(), "the program adds which option helps (failure.rs): {named:#?}");
}

#[test]
fn what_counts_says_from_where() {
    // The report draws axes that say it once.
    let messages = all(false).into_iter().filter(|(place, _)| !place.contains("/render/"));
    let silent: Vec<_> = messages.filter_map(|(place, text)| Some((missing(&text)?, place, text))).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}
