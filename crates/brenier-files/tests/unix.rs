//! What a path may lead to on Unix, and what becomes of it.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use brenier_files::Existing::{Refuse, Replace};
use brenier_files::{WriteError, check, check_dir, create_dir, is_stdout, write, write_bytes};
use tempfile::{TempDir, tempdir};

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn fifo(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// The error, which is one line; `check` gives the same one.
fn refused(path: &Path, words: &[&str]) -> WriteError {
    let error = write(path, Replace, |_| panic!("content was asked for")).unwrap_err();
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    assert_eq!(check(path, Replace).unwrap_err().to_string(), text);
    error
}

#[test]
fn a_new_file_has_the_mode_that_the_umask_leaves() {
    let dir = tempdir().unwrap();
    let (path, plain) = (dir.path().join("a"), dir.path().join("plain"));
    fs::write(&plain, "").unwrap();
    check(&path, Refuse).unwrap();
    assert_eq!(names(dir.path()), [Path::new("plain")]);
    write_bytes(&path, Refuse, b"content").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"content");
    assert_eq!(mode(&path), mode(&plain));
    assert_eq!(names(dir.path()), [Path::new("a"), Path::new("plain")]);
}

#[test]
fn a_replaced_file_keeps_its_mode() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    for kept in [0o600, 0o640, 0o664, 0o755, 0o444] {
        fs::write(&path, "old").unwrap();
        set_mode(&path, kept);
        // Nobody may read the new content before it has the mode of the old.
        let meanwhile = |out: &mut dyn Write| {
            let temporary = names(dir.path()).into_iter().find(|name| name != Path::new("a")).unwrap();
            assert_eq!(mode(&dir.path().join(temporary)), 0o600);
            out.write_all(b"new")
        };
        write(&path, Replace, meanwhile).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), kept);
        fs::remove_file(&path).unwrap();
    }
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_replaced_file_keeps_its_owner_where_the_system_allows_it() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "old").unwrap();
    // Only root may give a file away.
    if std::os::unix::fs::chown(&path, Some(12), Some(34)).is_ok() {
        set_mode(&path, 0o4750);
        write_bytes(&path, Replace, b"new").unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid(), mode(&path)), (12, 34, 0o4750));
    }
}

#[test]
fn an_existing_file_is_refused_before_any_work() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "precious").unwrap();
    let error = write(&path, Refuse, |_| panic!("content was asked for")).unwrap_err();
    assert!(matches!(&error, WriteError::Exists { path: named } if *named == path), "{error}");
    assert!(matches!(check(&path, Refuse), Err(WriteError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    check(&path, Replace).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_file_that_appears_meanwhile_is_kept() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    let error = write(&path, Refuse, |out| {
        fs::write(&path, "precious")?;
        out.write_all(b"new")
    });
    assert!(matches!(error, Err(WriteError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(names(dir.path()), [Path::new("a")]);
}

#[test]
fn a_reader_has_the_former_file_until_the_new_one_is_complete() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "former").unwrap();
    let mut reader = File::open(&path).unwrap();
    write(&path, Replace, |out| {
        out.write_all(&vec![7; 3 << 20])?;
        assert_eq!(fs::read(&path)?, b"former");
        Ok(())
    })
    .unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "former");
    assert_eq!(fs::metadata(&path).unwrap().len(), 3 << 20);
}

#[test]
fn a_failure_or_panic_leaves_what_was_there() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    for there in [false, true] {
        let failed = write(&path, Replace, |out| {
            out.write_all(b"half")?;
            Err(ErrorKind::StorageFull.into())
        });
        let WriteError::Io { path: named, source } = failed.unwrap_err() else { panic!("another error") };
        assert_eq!((named, source.kind()), (path.clone(), ErrorKind::StorageFull));
        let panicked = std::panic::catch_unwind(|| write(&path, Replace, |_| panic!("a panic of the test")));
        assert!(panicked.is_err());
        assert_eq!(names(dir.path()).len(), usize::from(there));
        fs::write(&path, "former").unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), b"former");
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/target"), "old").unwrap();
    set_mode(&at("sub/target"), 0o640);
    // Relative, through `..`, and one link behind another.
    symlink("../sub/target", at("sub/inner")).unwrap();
    symlink("sub/inner", at("outer")).unwrap();
    assert!(matches!(write_bytes(&at("outer"), Refuse, b"new"), Err(WriteError::Exists { .. })));
    write_bytes(&at("outer"), Replace, b"new").unwrap();
    assert_eq!(fs::read(at("sub/target")).unwrap(), b"new");
    assert_eq!(mode(&at("sub/target")), 0o640);
    for link in ["outer", "sub/inner"] {
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
    }
    assert_eq!(names(dir.path()).len() + names(&at("sub")).len(), 4);
}

#[test]
fn the_target_of_a_dangling_link_is_made() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    symlink(at("sub/target"), at("link")).unwrap();
    write_bytes(&at("link"), Refuse, b"new").unwrap();
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(fs::read(at("sub/target")).unwrap(), b"new");
    symlink("nowhere/target", at("lost")).unwrap();
    refused(&at("lost"), &["lost", "no directory", "nowhere"]);
}

#[test]
fn a_loop_of_links_is_an_error() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    symlink("self", at("self")).unwrap();
    for name in ["a", "self"] {
        refused(&at(name), &[name, "symbolic links"]);
    }
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn a_hard_link_keeps_the_former_content() {
    let dir = tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    fs::write(&one, "old").unwrap();
    fs::hard_link(&one, &other).unwrap();
    write_bytes(&one, Replace, b"new").unwrap();
    assert_eq!((fs::read(&one).unwrap(), fs::read(&other).unwrap()), (b"new".to_vec(), b"old".to_vec()));
}

#[test]
fn a_fifo_is_written_through_without_force() {
    let dir = tempdir().unwrap();
    let path = fifo(&dir);
    symlink("fifo", dir.path().join("link")).unwrap();
    for name in ["fifo", "link"] {
        let path = dir.path().join(name);
        // Nobody reads yet: checking does not wait for a reader.
        check(&path, Refuse).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path).unwrap()
        });
        write_bytes(&path, Refuse, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
    }
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_fifo());
    assert_eq!(names(dir.path()), [Path::new("fifo"), Path::new("link")]);
}

#[test]
fn a_device_is_written_through_and_stays() {
    for existing in [Refuse, Replace] {
        check(Path::new("/dev/null"), existing).unwrap();
        write_bytes(Path::new("/dev/null"), existing, b"gone").unwrap();
        assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
    }
    if Path::new("/dev/full").exists() {
        let full = write_bytes(Path::new("/dev/full"), Replace, b"x").unwrap_err();
        assert!(full.to_string().contains("/dev/full"), "{full}");
        let WriteError::Io { source, .. } = full else { panic!("{full}") };
        assert_eq!(source.kind(), ErrorKind::StorageFull);
        assert!(fs::symlink_metadata("/dev/full").unwrap().file_type().is_char_device());
    }
}

/// The file behind a descriptor belongs to who opened it: it is not replaced, and content comes after what is there.
#[test]
#[cfg(target_os = "linux")]
fn an_open_descriptor_is_written_through() {
    use std::os::fd::AsRawFd;
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"first ").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    symlink(format!("/dev/fd/{}", file.as_raw_fd()), dir.path().join("link")).unwrap();
    write_bytes(&PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd())), Refuse, b"second ").unwrap();
    write_bytes(&dir.path().join("link"), Refuse, b"third").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first second third");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    refused(Path::new("/dev/fd/987"), &["/dev/fd/987"]);
    assert!(
        ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().all(|name| is_stdout(Path::new(name)))
    );
    assert!(!["./-", "/dev/stderr", "/dev/null", "1"].iter().any(|name| is_stdout(Path::new(name))));
}

#[test]
fn what_is_no_file_is_named() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("file"), "").unwrap();
    symlink("sub", at("link")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    for name in ["sub", "link", "sub/", "new/", "file/", "new/.", "sub/..", "new/.."] {
        let error = refused(&at(name), &[name, "directory"]);
        assert!(matches!(error, WriteError::Directory { .. }), "{name}: {error}");
    }
    for name in ["no/such/file", "file/below", "file/far/below"] {
        let parent = at(name).parent().unwrap().display().to_string();
        let error = refused(&at(name), &[name, "there is no directory", &parent]);
        assert!(matches!(error, WriteError::NoDirectory { .. }), "{name}: {error}");
    }
    refused(&at("socket"), &["socket", "is a socket"]);
    assert_eq!(names(dir.path()).len(), 4);
}

#[test]
fn a_name_may_be_as_long_as_any_and_hold_any_byte() {
    let dir = tempdir().unwrap();
    let longest = dir.path().join("n".repeat(255));
    let foreign = dir.path().join(OsStr::from_bytes(b"caf\xe9 \xff\n"));
    for path in [&longest, &foreign] {
        check(path, Refuse).unwrap();
        write_bytes(path, Refuse, b"1").unwrap();
        write_bytes(path, Replace, b"2").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"2");
    }
    assert_eq!(names(dir.path()).len(), 2);
    refused(&dir.path().join("n".repeat(256)), &["nnn", "too long"]);
    let lost = foreign.join("below");
    assert!(check(&lost, Refuse).unwrap_err().to_string().contains("caf\u{fffd}"));
}

#[test]
fn a_directory_that_cannot_be_written_is_found_by_the_check() {
    // Root may write everywhere, except where the kernel makes the files.
    #[cfg(target_os = "linux")]
    {
        refused(Path::new("/proc/brenier"), &["/proc/brenier"]);
        assert!(check_dir(Path::new("/proc/self/brenier/out")).is_err());
    }
    let dir = tempdir().unwrap();
    set_mode(dir.path(), 0o555);
    if File::create(dir.path().join("probe")).is_err() {
        let error = refused(&dir.path().join("a"), &["a"]);
        assert!(
            matches!(&error, WriteError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied)
        );
    }
    set_mode(dir.path(), 0o755);
}

#[test]
fn directories_are_made_where_they_can_be() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "").unwrap();
    symlink("nowhere", at("lost")).unwrap();
    for name in ["new", "new/er", "."] {
        check_dir(&at(name)).unwrap();
    }
    check_dir(Path::new("")).unwrap();
    assert_eq!(names(dir.path()).len(), 2);
    create_dir(&at("new/er")).unwrap();
    create_dir(&at("new/er")).unwrap();
    assert!(at("new/er").is_dir());
    for name in ["file", "file/below"] {
        let error = create_dir(&at(name)).unwrap_err();
        assert!(matches!(&error, WriteError::NotADirectory { path } if *path == at("file")), "{error}");
        assert!(check_dir(&at(name)).is_err());
    }
    assert!(check_dir(&at("lost")).is_err());
}

/// A file system of 64 KiB; `None` where it may not be mounted.
fn small_disk() -> Option<(TempDir, impl Drop)> {
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let dir = tempdir().unwrap();
    let options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs"];
    let mounted = Command::new("mount").args(options).arg(dir.path()).output();
    mounted.is_ok_and(|output| output.status.success()).then(|| {
        let mounted = Mounted(dir.path().to_owned());
        (dir, mounted)
    })
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let Some((dir, mounted)) = small_disk() else {
        eprintln!("not run: this user may not mount a small file system");
        return;
    };
    let path = dir.path().join("a");
    for there in [false, true] {
        let error = write_bytes(&path, Replace, &vec![1; 1 << 20]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && !text.contains(".brenier"), "{text}");
        let WriteError::Io { source, .. } = error else { panic!("{text}") };
        assert_eq!(source.kind(), ErrorKind::StorageFull);
        assert_eq!(names(dir.path()).len(), usize::from(there));
        fs::write(&path, "former").unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), b"former");
    drop(mounted);
}

#[test]
fn only_regular_files_are_opened() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "content").unwrap();
    symlink("a", dir.path().join("link")).unwrap();
    assert_eq!(brenier_files::read(&path).unwrap(), b"content");
    assert_eq!(brenier_files::read(&dir.path().join("link")).unwrap(), b"content");
    // Nobody writes into the FIFO: opening it would wait for ever.
    let refused: [(&Path, &str); 3] =
        [(&fifo(&dir), "FIFO"), (dir.path(), "directory"), (Path::new("/dev/null"), "device")];
    for (path, word) in refused {
        let error: io::Error = brenier_files::open(path).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(brenier_files::open(&dir.path().join("no")).unwrap_err().kind(), ErrorKind::NotFound);
}
