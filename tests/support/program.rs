//! The program as people start it, in a directory of its own.

#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

pub const FOREBAY: &str = env!("CARGO_BIN_EXE_forebay");

/// A directory of its own, removed at the end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running broker, killed at the end if it is still there, as by a loss of power.
pub struct Broker {
    pub child: Child,
    errors: Option<BufReader<ChildStderr>>,
    /// What it has said so far.
    pub said: String,
}

impl Broker {
    /// A broker on a Unix socket, ready; its store is made with segments of 64 KiB.
    pub fn start(directory: &Directory, words: &[&str]) -> Broker {
        let child = Command::new(FOREBAY)
            .args(["--segment-size", "64K", "--listen", "unix:mqtt"])
            .args(words)
            .current_dir(&directory.0)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut broker = Broker::of(child.unwrap());
        broker.hear(" ready\n");
        broker
    }

    /// A broker that was started otherwise, with its standard error at hand.
    pub fn of(mut child: Child) -> Broker {
        let errors = Some(BufReader::new(child.stderr.take().unwrap()));
        Broker { child, errors, said: String::new() }
    }

    /// Reads on until it has said that.
    pub fn hear(&mut self, what: &str) {
        let errors = self.errors.as_mut().unwrap();
        while !self.said.contains(what) {
            assert_ne!(
                errors.read_line(&mut self.said).unwrap(),
                0,
                "it ended before {what:?}:\n{}",
                self.said
            );
        }
    }

    /// What it says from now on is of no interest, and does not stop it.
    pub fn unheard(mut self) -> Broker {
        let mut errors = self.errors.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        self
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Ends it by a signal: exit code and all it said.
    pub fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let code = self.child.wait().unwrap().code();
        let mut said = std::mem::take(&mut self.said);
        self.errors.as_mut().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
