//! Names, revisions and commits, checked before anything is done with them.

use std::ffi::OsStr;
use std::fmt;

use crate::error::{HubError, one_line};

/// The name of a model: `ORG/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// The rules of `huggingface_hub`, and an organisation always.
    pub(crate) fn parse(given: &OsStr) -> Result<Self, HubError> {
        let refuse = |reason: String| HubError::Name { given: one_line(&given.to_string_lossy()), reason };
        let text = given.to_str().ok_or_else(|| refuse("it is not UTF-8".to_owned()))?;
        let Some((organisation, name)) = text.split_once('/').filter(|(_, name)| !name.contains('/')) else {
            let slashes = text.matches('/').count();
            return Err(refuse(format!("expected one slash, found {slashes}")));
        };
        for part in [organisation, name] {
            check_part(part).map_err(|reason| refuse(reason.to_owned()))?;
        }
        if name.ends_with(".git") {
            return Err(refuse("it ends in .git".to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The directory of the model within a cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_part(part: &str) -> Result<(), &'static str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if part.is_empty() {
        return Err("one side of the slash is empty");
    }
    if part.len() > 96 {
        return Err("one side of the slash is longer than 96 characters");
    }
    if !part.chars().all(|c| word(c) || c == '-' || c == '.') {
        return Err("only ASCII letters, digits, `-`, `_` and `.` may stand in a name");
    }
    if !part.starts_with(word) || !part.ends_with(word) {
        return Err("each side of the slash begins and ends with a letter, a digit or `_`");
    }
    if part.contains("--") || part.contains("..") {
        return Err("`--` and `..` may not stand in a name");
    }
    Ok(())
}

/// A branch, a tag or a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision(String);

impl Revision {
    /// What everybody means who names no revision.
    pub(crate) const DEFAULT: &str = "main";

    /// The rules of `git check-ref-format`, and no character that a file name cannot hold somewhere: a revision is
    /// a path within the cache.
    pub(crate) fn parse(given: &str) -> Result<Self, HubError> {
        match check_revision(given) {
            Ok(()) => Ok(Self(given.to_owned())),
            Err(reason) => Err(HubError::Revision { given: one_line(given), reason: reason.to_owned() }),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The commit, where the revision is one written out.
    pub(crate) fn commit(&self) -> Option<Commit> {
        Commit::parse(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_revision(given: &str) -> Result<(), &'static str> {
    if given.is_empty() {
        return Err("it is empty");
    }
    if given.len() > 200 {
        return Err("it is longer than 200 bytes");
    }
    if given.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\\"<>|".contains(c)) {
        return Err("it holds a character that no branch and no tag has");
    }
    if given.starts_with('-') || given == "@" || given.contains("@{") || given.contains("..") {
        return Err("no branch and no tag is called so");
    }
    for part in given.split('/') {
        if part.is_empty() {
            return Err("a slash stands at an end, or two in a row");
        }
        if part.starts_with('.') || part.ends_with('.') || part.ends_with(".lock") {
            return Err("a part of it begins or ends with a dot, or ends in .lock");
        }
    }
    Ok(())
}

/// A commit: 40 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit(String);

impl Commit {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (text.len() == 40 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_hub() {
        for good in ["org/name", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b", "0-hero/Matter-0.1", "_x/y_"] {
            assert_eq!(Name::parse(OsStr::new(good)).expect(good).to_string(), good);
        }
        let long = format!("org/{}", "x".repeat(97));
        for bad in [
            "",
            "name",
            "/",
            "org/",
            "/name",
            "org/a/b",
            "org//name",
            "../name",
            "org/..",
            "./name",
            "org/.name",
            "org/name.",
            "org/-name",
            "org/na me",
            "org/na\\me",
            "org/na--me",
            "org/na..me",
            "org/name.git",
            "~/name",
            "org/näme",
            "org/name\n",
            "org/na%2fme",
            "C:/name",
            &long,
        ] {
            assert!(Name::parse(OsStr::new(bad)).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_name_has_its_folder() {
        let name = Name::parse(OsStr::new("org-x/na_me.1")).expect("a name");
        assert_eq!(name.folder(), "models--org-x--na_me.1");
    }

    #[test]
    fn revisions_are_those_of_git() {
        for good in ["main", "v1.0", "refs/pr/12", "feature/a-b_c", "step-1000", "0a1b2c3", "日本"] {
            assert_eq!(Revision::parse(good).expect(good).as_str(), good);
        }
        let long = "x".repeat(201);
        for bad in [
            "", "..", "../main", "a/../b", "a..b", "/main", "main/", "a//b", ".hidden", "a/.b", "main.",
            "a.lock", "-x", "@", "a@{1}", "a b", "a\tb", "a~1", "a^", "a:b", "a?b", "a*b", "a[b", "a\\b",
            "a\nb", "a\0b", &long,
        ] {
            assert!(Revision::parse(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn a_commit_is_written_out_in_lower_case() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(Commit::parse(commit).expect("a commit").as_str(), commit);
        for bad in ["", "main", &commit[1..], &commit.to_uppercase(), &commit.replace('a', "g")] {
            assert!(Commit::parse(bad).is_none(), "{bad:?} passed");
        }
    }
}
