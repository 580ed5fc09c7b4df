//! Signals that end the program while it writes.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{cloud, done, tensor};
use tempfile::{TempDir, tempdir};

/// `apply` on an input so large that a signal arrives while the output is being written.
struct Writing {
    dir: TempDir,
}

impl Writing {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        tensor(&dir.path().join("s"), "x", &cloud(20, 64, 0.0));
        done(dir.path(), &["fit", "--source", "s", "--target", "s", "--method", "whitening", "--out", "map"]);
        // A sparse file of zeros: 1,800,000 rows of 64 numbers, 461 MB.
        let rows = 1_800_000;
        let header =
            format!(r#"{{"x":{{"dtype":"F32","shape":[{rows},64],"data_offsets":[0,{}]}}}}"#, rows * 256);
        let mut file = File::create(dir.path().join("large")).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.set_len((8 + header.len() + rows * 256) as u64).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        Self { dir }
    }

    fn temporary(&self) -> Option<PathBuf> {
        let mut names = fs::read_dir(self.dir.path().join("out")).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.extension() == Some(OsStr::new("tmp")))
    }

    /// Starts the program and waits until it writes; the first temporary file is the check's, of no bytes.
    fn begun(&self, script: &str) -> Child {
        let args =
            ["apply", "--map", "map", "--in", "large", "--out", "out/moved", "--strength", "0", "--quiet"];
        let mut child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_brenier")])
            .args(args)
            .current_dir(self.dir.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !self.temporary().is_some_and(|path| fs::metadata(path).is_ok_and(|found| found.len() > 0)) {
            assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_signal_leaves_no_temporary_file() {
    let writing = Writing::new();
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        // Once in a while the signal comes too late: the file is complete by then.
        let ended = (0..10).any(|_| {
            let mut child = writing.begun("exec \"$0\" \"$@\"");
            send(signal, &child);
            let status = child.wait().unwrap();
            let complete = writing.dir.path().join("out/moved");
            if complete.exists() {
                fs::remove_file(complete).unwrap();
                return false;
            }
            assert_eq!(status.signal(), Some(number), "{status}");
            assert_eq!(fs::read_dir(writing.dir.path().join("out")).unwrap().count(), 0, "{signal}");
            true
        });
        assert!(ended, "{signal} always came too late");
    }
}

/// As with `nohup`.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_that_is_ignored_stays_ignored() {
    let writing = Writing::new();
    let mut child = writing.begun("trap '' HUP; exec \"$0\" \"$@\"");
    send("HUP", &child);
    assert!(child.wait().unwrap().success());
    assert!(writing.dir.path().join("out/moved").exists());
}
