//! Removing the temporary files of a process. Alone in its process: it stops everybody else's.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use brenier_files::{Existing, WriteError, remove_temporaries, write};

#[test]
fn nothing_is_left_and_nothing_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let (writing, is_writing) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    let (finished, is_finished) = mpsc::channel();
    std::thread::scope(|scope| {
        let path = &path;
        scope.spawn(move || {
            let written = write(path, Existing::Refuse, |out| {
                writing.send(()).unwrap();
                may_go_on.recv().unwrap();
                out.write_all(b"new")
            });
            finished.send(written).unwrap();
        });
        is_writing.recv().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let removed = remove_temporaries();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        go_on.send(()).unwrap();
        // The writer waits for as long as the files stay removed.
        let waits = is_finished.recv_timeout(Duration::from_millis(200));
        assert!(matches!(waits, Err(mpsc::RecvTimeoutError::Timeout)));
        drop(removed);
        let written = is_finished.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(matches!(written, Err(WriteError::Io { .. })), "{written:?}");
    });
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // The list is empty again: a file made afterwards is no concern of it.
    write(&path, Existing::Refuse, |out| out.write_all(b"new")).unwrap();
    drop(remove_temporaries());
    assert_eq!(fs::read(&path).unwrap(), b"new");
}
