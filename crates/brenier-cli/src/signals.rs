//! Signals that end the program, which leaves no temporary file behind.

use std::io;

/// Starts a thread that waits for signals. One that ends programs removes the temporary files first and then does what
/// it would have done, so that the exit status is that of the signal. A signal that was ignored when the program was
/// started, as with `nohup`, stays ignored.
#[cfg(unix)]
pub fn watch() -> io::Result<()> {
    use brenier::files::remove_temporaries;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let ignored = ignored();
    let watched = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(watched)?;
    let watch = move || {
        // Where a file may not grow further, the write fails as well, which is reported as with a full disk.
        for signal in signals.forever().filter(|&signal| signal != SIGXFSZ) {
            let _removed = remove_temporaries();
            // It does not return for these signals.
            let _ = emulate_default_handler(signal);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
}

#[cfg(not(unix))]
pub fn watch() -> io::Result<()> {
    Ok(())
}

/// The signals that this process ignores, signal n as bit n - 1; none where the system does not say (it is Linux that
/// does).
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
