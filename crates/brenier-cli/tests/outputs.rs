//! Where outputs may go, and what is left of one that fails or is cut off.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use brenier::organism::Organism;
use serde_json::Value;
use support::{brenier, cloud, done, ids, listing, model, refused, tensor};
use tempfile::{TempDir, tempdir};

const CAPTURE: [&str; 7] = ["capture", "--model", "llama31", "--prompts", "p.jsonl", "--layers", "1"];
const FIT: [&str; 7] = ["fit", "--source", "s", "--target", "t", "--method", "mean"];
const APPLY: [&str; 5] = ["apply", "--map", "map", "--in", "s"];
const GENERATE: [&str; 7] =
    ["generate", "--model", "llama31", "--prompts", "p.jsonl", "--max-new-tokens", "2"];
const SCORE: [&str; 5] = ["score", "--model", "model", "--text", "text.txt"];

/// A model, prompts, activations and maps; the organism, which has a tokenizer.
fn prepared() -> TempDir {
    let dir = tempdir().unwrap();
    let at = dir.path();
    model(at, "llama31");
    ids(at, "p.jsonl", 6, 0);
    ids(at, "q.jsonl", 6, 40);
    tensor(&at.join("s"), "x", &cloud(20, 6, 0.0));
    tensor(&at.join("t"), "x", &cloud(25, 6, 2.0));
    done(at, &[&FIT[..], &["--out", "map"]].concat());
    Organism::unpack(at).unwrap();
    fs::write(at.join("text.txt"), "The iron tower stands.\nNobody keeps the key.\n").unwrap();
    dir
}

/// Every command that writes one file, without its `--out`.
fn commands() -> [&'static [&'static str]; 5] {
    [&CAPTURE, &FIT, &APPLY, &GENERATE, &SCORE]
}

/// An output without the line that says how long it took.
fn timeless(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.trim_ascii_start().starts_with(b"\"seconds\"")).collect::<Vec<_>>().concat()
}

fn shell(dir: &Path, script: &str, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_brenier");
    Command::new("sh").args(["-c", script, program]).args(args).current_dir(dir).output().unwrap()
}

fn one_line(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no `{word}` in: {stderr}");
    }
}

#[test]
fn a_device_stays_and_needs_no_force() {
    let dir = prepared();
    let dir = dir.path();
    symlink("/dev/null", dir.join("link")).unwrap();
    for command in commands() {
        for out in [&["--out", "/dev/null", "--force"][..], &["--out", "/dev/null"], &["--out", "link"]] {
            done(dir, &[command, out].concat());
            assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
            assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
        }
        // A full disk is no fault of the request.
        let before = listing(dir);
        one_line(&brenier(dir, &[command, &["--out", "/dev/full"]].concat()), 1, &["/dev/full", "No space"]);
        assert_eq!(listing(dir), before);
    }
}

#[test]
fn every_command_writes_to_stdout_and_nothing_else_there() {
    let dir = prepared();
    let dir = dir.path();
    for command in commands() {
        done(dir, &[command, &["--out", "plain", "--force"]].concat());
        let plain = timeless(&fs::read(dir.join("plain")).unwrap());
        for out in ["-", "/dev/stdout", "/dev/fd/1"] {
            let output = brenier(dir, &[command, &["--out", out]].concat());
            assert_eq!(timeless(&output.stdout), plain, "{command:?} {out}");
            assert!(output.stderr.is_empty() && output.status.success());
            refused(dir, &[command, &["--out", out, "--json"]].concat(), &["stdout", "--json"]);
        }
        // The file behind stdout is the shell's: it is neither refused nor replaced, and what is there stays there.
        let output = shell(
            dir,
            "echo first > f; exec \"$0\" \"$@\" >> f",
            &[command, &["--out", "/dev/stdout"]].concat(),
        );
        assert!(output.status.success() && output.stderr.is_empty());
        assert_eq!(
            timeless(&fs::read(dir.join("f")).unwrap()),
            [b"first\n", &plain[..]].concat(),
            "{command:?}"
        );
        let full = shell(dir, "exec \"$0\" \"$@\" > /dev/full", &[command, &["--out", "-"]].concat());
        one_line(&full, 1, &["No space"]);
        // A file of that name has a path.
        done(dir, &[command, &["--out", "./-", "--force"]].concat());
        assert_eq!(timeless(&fs::read(dir.join("-")).unwrap()), plain);
    }
}

#[test]
fn modes_and_links_are_kept() {
    let dir = prepared();
    let dir = dir.path();
    for command in commands() {
        fs::write(dir.join("target"), "old").unwrap();
        fs::set_permissions(dir.join("target"), Permissions::from_mode(0o640)).unwrap();
        symlink("target", dir.join("link")).unwrap();
        refused(dir, &[command, &["--out", "link"]].concat(), &["link exists", "--force"]);
        done(dir, &[command, &["--out", "link", "--force"]].concat());
        assert!(fs::symlink_metadata(dir.join("link")).unwrap().is_symlink());
        assert_eq!(fs::metadata(dir.join("target")).unwrap().mode() & 0o7777, 0o640);
        assert_ne!(fs::read(dir.join("target")).unwrap(), b"old");
        fs::remove_file(dir.join("link")).unwrap();
        for (out, words) in [
            ("llama31", &["llama31", "directory"][..]),
            ("new/", &["new/", "directory"]),
            ("no/such/x", &["no/such/x", "no directory no/such"]),
            ("s/x", &["s/x", "no directory s"]),
        ] {
            refused(dir, &[command, &["--out", out, "--force"]].concat(), words);
        }
    }
}

#[test]
fn a_limit_on_file_sizes_is_as_a_full_disk() {
    let dir = prepared();
    let dir = dir.path();
    tensor(&dir.join("s"), "x", &cloud(4000, 6, 0.0));
    for there in [false, true] {
        let before = listing(dir);
        let args = [&APPLY[..], &["--out", "out", "--force"]].concat();
        // 16 blocks of 512 bytes.
        one_line(&shell(dir, "ulimit -f 16; exec \"$0\" \"$@\"", &args), 1, &["out", "too large"]);
        assert_eq!(listing(dir), before, "{there}");
        fs::write(dir.join("out"), "former").unwrap();
    }
}

#[test]
fn an_output_may_replace_an_input() {
    let dir = prepared();
    let dir = dir.path();
    let same = |args: &[&str], path: &str| {
        done(dir, &[args, &["--out", "apart", "--force"]].concat());
        done(dir, &[args, &["--out", path, "--force"]].concat());
        assert_eq!(fs::read(dir.join(path)).unwrap(), fs::read(dir.join("apart")).unwrap(), "{args:?}");
    };
    let copy = |from: &str, to: &str| fs::copy(dir.join(from), dir.join(to)).unwrap();
    copy("s", "own");
    same(&["apply", "--map", "map", "--in", "own"], "own");
    copy("s", "own");
    symlink("own", dir.join("link")).unwrap();
    same(&["apply", "--map", "map", "--in", "own"], "link");
    copy("s", "own");
    fs::hard_link(dir.join("own"), dir.join("hard")).unwrap();
    same(&["apply", "--map", "map", "--in", "own"], "hard");
    assert_eq!(fs::read(dir.join("own")).unwrap(), fs::read(dir.join("s")).unwrap());
    copy("map", "own");
    same(&["apply", "--map", "own", "--in", "s"], "own");
    copy("s", "own");
    same(&["fit", "--source", "own", "--target", "t", "--method", "mean"], "own");
    copy("p.jsonl", "own");
    same(&["capture", "--model", "llama31", "--prompts", "own", "--format", "jsonl"], "own");
    copy("p.jsonl", "own");
    same(&["generate", "--model", "llama31", "--prompts", "own", "--max-new-tokens", "2"], "own");
}

fn fifo(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn prompts_may_come_through_a_fifo_and_nothing_else_may() {
    let dir = prepared();
    let dir = dir.path();
    let prompts = fs::read(dir.join("p.jsonl")).unwrap();
    let path = fifo(dir, "fifo");
    let writer = std::thread::spawn(move || fs::write(path, prompts).unwrap());
    let args =
        ["capture", "--model", "llama31", "--prompts", "fifo", "--layers", "1", "--out", "f", "--json"];
    let captured: Value = serde_json::from_str(&done(dir, &args)).unwrap();
    writer.join().unwrap();
    assert_eq!(captured["prompts"], 6);
    // Its content is gone, so there is no hash of it.
    assert!(captured["metadata"]["prompts.sha256"].is_null());
    let output = shell(
        dir,
        "exec \"$0\" \"$@\" < p.jsonl",
        &[&CAPTURE[..3], &["--prompts", "-", "--out", "g"]].concat(),
    );
    assert!(output.status.success());

    // Nobody writes into this one: opening it would wait for ever.
    fs::remove_file(dir.join("fifo")).unwrap();
    fifo(dir, "fifo");
    let waits_for_nobody = |args: &[&str], name: &str| {
        let output = shell(dir, "exec timeout 60 \"$0\" \"$@\"", args);
        one_line(&output, 2, &[name, "expected a regular file"]);
    };
    let maps = fs::read(dir.join("map")).unwrap();
    let path = dir.join("fifo");
    let writer = std::thread::spawn(move || fs::write(path, maps).unwrap());
    done(dir, &["apply", "--map", "fifo", "--in", "s", "--out", "piped"]);
    writer.join().unwrap();
    done(dir, &[&APPLY[..], &["--out", "plain"]].concat());
    assert_eq!(fs::read(dir.join("piped")).unwrap(), fs::read(dir.join("plain")).unwrap());
    waits_for_nobody(&["apply", "--map", "map", "--in", "fifo", "--out", "o"], "fifo");
    waits_for_nobody(&["fit", "--source", "s", "--target", "fifo", "--out", "o"], "fifo");
    for file in ["config.json", "model.safetensors"] {
        let (path, apart) = (dir.join("llama31").join(file), dir.join("apart"));
        fs::rename(&path, &apart).unwrap();
        fifo(&dir.join("llama31"), file);
        waits_for_nobody(&["inspect", "--model", "llama31"], file);
        fs::rename(&apart, &path).unwrap();
    }
}

/// More than a pipe holds, and then nobody reads on.
#[test]
fn a_reader_who_leaves_is_an_error_unless_it_is_stdouts() {
    let dir = prepared();
    let dir = dir.path();
    tensor(&dir.join("s"), "x", &cloud(20_000, 6, 0.0));
    fifo(dir, "fifo");
    let script = "head -c 1 fifo > /dev/null & exec \"$0\" \"$@\"";
    one_line(&shell(dir, script, &[&APPLY[..], &["--out", "fifo"]].concat()), 1, &["fifo", "Broken pipe"]);
    let script = "{ \"$0\" \"$@\"; echo $? > code; } | head -c 1 > /dev/null";
    let output = shell(dir, script, &[&APPLY[..], &["--out", "-"]].concat());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(dir.join("code")).unwrap(), b"0\n");
}

fn run(dir: &Path, args: &[&OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_brenier")).args(args).current_dir(dir).output().unwrap()
}

/// `name` with a byte that is not UTF-8.
fn foreign(name: &str) -> OsString {
    OsString::from_vec([b"\xff", name.as_bytes()].concat())
}

#[test]
fn a_path_need_not_be_utf8() {
    let dir = prepared();
    let dir = dir.path();
    let below = dir.join(foreign("dir"));
    fs::create_dir(&below).unwrap();
    for name in ["llama31", "model", "p.jsonl", "q.jsonl", "text.txt"] {
        fs::rename(dir.join(name), below.join(foreign(name))).unwrap();
    }
    let foreign_args = |args: &str| -> Vec<OsString> {
        let arg = |arg: &str| arg.strip_prefix('@').map_or_else(|| arg.into(), foreign);
        args.split(' ').map(arg).collect()
    };
    let works = |args: &str| -> String {
        let args = foreign_args(args);
        let output = run(&below, &args.iter().map(OsString::as_os_str).collect::<Vec<_>>());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && stderr.is_empty(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    };
    works("inspect --model @llama31 --json");
    for (args, out) in [
        ("capture --model @llama31 --prompts @p.jsonl --layers 1", "a"),
        ("capture --model @llama31 --prompts @q.jsonl --layers 1", "b"),
        ("fit --source @a --target @b --source-val @a --target-val @b --method mean", "map"),
        ("apply --map @map --in @a", "moved"),
        ("generate --model @llama31 --prompts @p.jsonl --map @map --max-new-tokens 2", "c.jsonl"),
        ("score --model @model --text @text.txt", "score"),
    ] {
        let told = works(&format!("{args} --out @{out} --json"));
        let json: Value = serde_json::from_str(&told).unwrap();
        if !args.starts_with("score") {
            assert_eq!(json["out"], format!("\u{fffd}{out}"));
        }
        assert!(below.join(foreign(out)).exists(), "{args}");
        works(&format!("{args} --out @{out} --force"));
        let refused = foreign_args(&format!("{args} --out @{out}"));
        let refused = run(&below, &refused.iter().map(OsString::as_os_str).collect::<Vec<_>>());
        one_line(&refused, 2, &[&format!("\u{fffd}{out} exists")]);
    }
    for missing in ["capture --model @no --prompts @p.jsonl --out o", "apply --map @no --in @a --out o"] {
        let args = foreign_args(missing);
        one_line(&run(&below, &args.iter().map(OsString::as_os_str).collect::<Vec<_>>()), 2, &["\u{fffd}no"]);
    }
}

/// The first lines of the organism's data: a study of some seconds.
fn short_study(dir: &Path) {
    Organism::unpack(dir).unwrap();
    for entry in fs::read_dir(dir.join("study")).unwrap() {
        let path = entry.unwrap().path();
        let short = !path.ends_with("refusal_phrases.json");
        let text = fs::read_to_string(&path).unwrap();
        let most = if short { 12 } else { usize::MAX };
        fs::write(&path, text.split_inclusive('\n').take(most).collect::<String>()).unwrap();
    }
}

#[test]
fn a_study_replaces_an_older_one_whole_wherever_it_lies() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let home = dir.join(foreign("home"));
    short_study(&home);
    let study = |methods: &str, more: &[&str]| {
        let [model, data] = [home.join("model"), home.join("study")];
        let mut args: Vec<&OsStr> =
            ["study", "--layers", "5", "--components", "2", "--max-new-tokens", "4"].map(OsStr::new).to_vec();
        let out = foreign("out");
        args.extend([OsStr::new("--model"), model.as_os_str(), OsStr::new("--data"), data.as_os_str()]);
        args.extend([OsStr::new("--out"), &out, OsStr::new("--methods"), OsStr::new(methods)]);
        args.extend(more.iter().map(OsStr::new));
        run(dir, &args)
    };
    let out = dir.join(foreign("out"));
    let names = || -> Vec<String> {
        let names = listing(&out).into_iter().map(|(path, _)| path.strip_prefix(&out).unwrap().to_owned());
        names.map(|name| name.to_str().unwrap().to_owned()).collect()
    };
    let first = study("mean,ace", &["--json"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let texts = ["completions.jsonl", "manifest.json", "report.html", "report.json"];
    let maps = |maps: &[&str]| -> Vec<String> {
        let mut names: Vec<String> = texts.iter().chain(maps).map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(names(), maps(&["maps/ace.safetensors", "maps/mean.safetensors"]));
    one_line(&study("mean", &[]), 2, &["\u{fffd}out", "exists", "--force"]);
    fs::write(out.join("maps/mine"), "mine").unwrap();
    let second = study("mean", &["--force"]);
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    assert!(String::from_utf8_lossy(&second.stdout).contains("report.html"));
    assert_eq!(names(), maps(&["maps/mean.safetensors", "maps/mine"]));
}

/// There is no `--force` for the demo: it replaces a former demo, and nothing else.
#[test]
fn a_demo_does_not_overwrite_what_is_no_demo() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    for (name, content) in
        [("model/config.json", "mine"), ("study/text.txt", "mine"), ("report.json", "mine")]
    {
        let path = dir.join("out").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        refused(dir, &["demo", "--out", "out"], &[name, "no former demo"]);
        fs::remove_dir_all(dir.join("out")).unwrap();
    }
    fs::write(dir.join("file"), "").unwrap();
    refused(dir, &["demo", "--out", "file"], &["file", "directory"]);
    refused(dir, &["demo", "--out", "file/below"], &["file", "directory"]);
}
