//! The program as people start it: words, exit codes, what it says, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

const FOREBAY: &str = env!("CARGO_BIN_EXE_forebay");

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn run(&self, words: &[&str]) -> Output {
        // What is to be refused must not run on if it is not.
        let timed = Command::new("timeout")
            .args(["30", FOREBAY])
            .args(words)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .output();
        timed.unwrap()
    }

    /// A broker with a small store on a Unix socket, ready.
    fn serve(&self, words: &[&str]) -> Broker {
        let mut child = Command::new(FOREBAY)
            .args(["--store-size", "4M", "--segment-size", "64K", "--listen", "unix:mqtt"])
            .args(words)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(" ready\n") {
            let count = errors.read_line(&mut said).unwrap();
            assert_ne!(count, 0, "it ended before it was ready:\n{said}");
        }
        Broker { child, errors, said }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running broker, killed at the end of the test if it is still there.
struct Broker {
    child: Child,
    errors: BufReader<ChildStderr>,
    said: String,
}

impl Broker {
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Ends it by a signal: exit code and all it said.
    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let code = self.child.wait().unwrap().code();
        let mut said = std::mem::take(&mut self.said);
        self.errors.read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Checks that words are refused with one line and an exit code.
fn refused(output: &Output, code: i32, says: &[&str]) {
    let text = err(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors = text.lines().filter(|line| line.starts_with("forebay: ")).count();
    assert_eq!(errors, 1, "{text}");
    for part in says {
        assert!(text.contains(part), "{text} lacks {part}");
    }
}

fn publish(directory: &Directory, words: &[&str], lines: &str) -> Output {
    let mut child = Command::new(FOREBAY)
        .args(["publish", "--to", "unix:mqtt"])
        .args(words)
        .current_dir(&directory.0)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn help_names_every_command_and_every_command_has_help() {
    let here = Directory::new();
    let main = out(&here.run(&["--help"]));
    for command in ["serve", "status", "publish", "subscribe", "plan", "config", "fsck", "cat", "export"] {
        assert!(main.contains(&format!("\n  {command} ")), "{command} is missing");
        let text = here.run(&["help", command]);
        assert!(out(&text).starts_with("Usage: forebay"), "{command}");
        assert_eq!(out(&here.run(&[command, "--help"])), out(&text));
    }
    assert_eq!(out(&here.run(&["--version"])), format!("forebay {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn words_that_make_no_sense_exit_with_2() {
    let here = Directory::new();
    refused(&here.run(&["srve"]), 2, &["there is no command srve", "serve", "--help"]);
    refused(&here.run(&["--lisen", "x"]), 2, &["--lisen"]);
    refused(&here.run(&["--set", "limits.queus=3"]), 2, &["did you mean limits.queues?"]);
    refused(&here.run(&["--set", "limits.queues"]), 2, &["KEY=VALUE"]);
    refused(&here.run(&["--store-size", "big"]), 2, &["store.size", "256M"]);
    refused(&here.run(&["publish", "-m", "x"]), 2, &["-t TOPIC"]);
    refused(&here.run(&["publish", "-t", "a/+", "-m", "x"]), 2, &["without + and #"]);
    refused(&here.run(&["subscribe", "-t", "a", "--persistent"]), 2, &["-c ID"]);
    refused(&here.run(&["subscribe", "-t", "a", "-q", "3"]), 2, &["0, 1 or 2"]);
}

#[test]
fn what_cannot_be_done_exits_with_1_and_says_what_to_do() {
    let here = Directory::new();
    refused(&here.run(&["--config", "none.toml"]), 1, &["none.toml", "No such file"]);
    refused(&here.run(&["status"]), 1, &["no broker runs on forebay.fby", "--store"]);
    refused(&here.run(&["publish", "--to", "unix:none", "-t", "a", "-m", "b"]), 1, &["unix:none", "--to"]);
    refused(&here.run(&["plan", "--memory", "100K"]), 1, &["100K", "allow more memory"]);
    refused(&here.run(&["--store", "/nowhere/a.fby"]), 1, &["/nowhere/a.fby", "is not there"]);
    refused(&here.run(&["--store", "."]), 1, &[". is not a store"]);
}

#[test]
fn the_printed_configuration_prints_itself() {
    let here = Directory::new();
    let first = out(&here.run(&["config", "--memory", "16M", "--set", "limits.queues=77"]));
    assert!(first.contains("queues = 77  # from the command line"), "{first}");
    std::fs::write(here.0.join("a.toml"), &first).unwrap();
    let bare = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # from").next().unwrap().to_string()).collect()
    };
    assert_eq!(bare(&out(&here.run(&["config", "--config", "a.toml"]))), bare(&first));
}

#[test]
fn the_plan_adds_up() {
    let here = Directory::new();
    let text = out(&here.run(&["plan", "--memory", "16M", "--store-size", "64M"]));
    assert!(text.contains("limits.entries") && text.contains("all together"), "{text}");
    assert!(text.contains("memory.total is 16M"), "{text}");
    assert!(text.contains("store of 64M: "), "{text}");
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let here = Directory::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(
        &here.run(&["--store-size", "4M", "--segment-size", "64K", "--listen", &address]),
        1,
        &[&address, "--listen"],
    );
}

#[test]
fn a_signal_ends_it_in_order() {
    for signal in ["-TERM", "-INT"] {
        let here = Directory::new();
        let broker = here.serve(&[]);
        assert!(here.0.join("forebay.fby.sock").exists());
        let (code, said) = broker.stop(signal);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(" forebay ") && said.contains("listening: mqtt on unix:mqtt"), "{said}");
        assert!(
            said.contains("store: ") && said.contains("memory: ") && said.ends_with("stopped\n"),
            "{said}"
        );
        assert!(!here.0.join("forebay.fby.sock").exists() && !here.0.join("mqtt").exists());
    }
}

#[test]
fn it_has_two_threads_at_most() {
    let here = Directory::new();
    let broker = here.serve(&[]);
    publish(&here, &["-t", "a", "-q", "1", "-m", "x"], "");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", broker.child.id())).unwrap().count();
    assert!(tasks <= 2, "{tasks} threads");
}

#[test]
fn a_second_broker_on_the_same_store_is_refused_with_the_pid_of_the_first() {
    let here = Directory::new();
    let broker = here.serve(&[]);
    let second = here.run(&["--listen", "unix:other"]);
    refused(&second, 1, &["forebay.fby", &broker.child.id().to_string()]);
    assert_eq!(broker.stop("-TERM").0, Some(0));
}

#[test]
fn a_file_that_is_no_store_is_left_alone() {
    let here = Directory::new();
    let letter = "Dear Sir or Madam, ".repeat(10_000);
    std::fs::write(here.0.join("forebay.fby"), &letter).unwrap();
    refused(&here.run(&["--listen", "unix:mqtt"]), 1, &["forebay.fby"]);
    assert_eq!(std::fs::read_to_string(here.0.join("forebay.fby")).unwrap(), letter);
}

#[test]
fn status_shows_queues_store_and_connections() {
    let here = Directory::new();
    let _broker = here.serve(&[]);
    let mut subscriber = Command::new(FOREBAY)
        .args([
            "subscribe",
            "--to",
            "unix:mqtt",
            "-t",
            "a",
            "-q",
            "1",
            "-c",
            "reader",
            "--persistent",
            "-n",
            "1",
        ])
        .current_dir(&here.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It has subscribed once a retained value reaches it.
    assert!(publish(&here, &["-t", "a", "-q", "1", "-r", "-m", "kept"], "").status.success());
    let mut line = String::new();
    BufReader::new(subscriber.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "kept\n");
    assert!(subscriber.wait().unwrap().success());
    assert!(publish(&here, &["-t", "a", "-q", "1"], "one\ntwo\nthree\n").status.success());
    let text = out(&here.run(&["status"]));
    assert!(text.contains("forebay.fby") && text.contains("reader"), "{text}");
    let json = out(&here.run(&["status", "--json"]));
    assert!(json.contains("\"queues\":[{") && json.contains("\"ready\":3"), "{json}");
}

/// A string or table of AMQP with its size in front.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn amqp(channel: u8, method: [u8; 4], arguments: &[&[u8]]) -> Vec<u8> {
    let payload = [&method[..], &arguments.concat()].concat();
    [&[1, 0, channel], &sized(&payload)[..], &[0xCE]].concat()
}

#[test]
fn status_shows_who_speaks_which_protocol() {
    let here = Directory::new();
    let _broker = here.serve(&["--amqp", "unix:amqp"]);
    let mut client = std::os::unix::net::UnixStream::connect(here.0.join("amqp")).unwrap();
    let login = [&sized(&[])[..], b"\x05PLAIN", &sized(b"\0guest\0guest"), b"\x05en_US"].concat();
    let frames = [
        b"AMQP\0\0\x09\x01".to_vec(),
        amqp(0, [0, 10, 0, 11], &[&login]),
        amqp(0, [0, 10, 0, 31], &[&[0, 0, 0, 0, 0, 0, 0, 0]]),
        amqp(0, [0, 10, 0, 40], &[b"\x01/\0\0"]),
        amqp(1, [0, 20, 0, 10], &[&[0]]),
        amqp(2, [0, 20, 0, 10], &[&[0]]),
        amqp(1, [0, 50, 0, 10], &[b"\0\0\x04work\0", &sized(&[])]),
        amqp(1, [0, 60, 0, 20], &[b"\0\0\x04work\x03tag\x02", &sized(&[])]),
    ];
    client.write_all(&frames.concat()).unwrap();
    // The last answer is that to basic.consume.
    let mut answers = Vec::new();
    while !answers.ends_with(b"\x03tag\xCE") {
        let mut piece = [0; 512];
        let count = client.read(&mut piece).unwrap();
        assert_ne!(count, 0, "it hung up");
        answers.extend_from_slice(&piece[..count]);
    }
    let text = out(&here.run(&["status"]));
    assert!(text.contains("amqp: 1 connections, 2 channels, 1 consumers\n"), "{text}");
    assert!(text.contains("         1  work\n"), "{text}");
    let json = out(&here.run(&["status", "--json"]));
    let told = "\"protocols\":{\"amqp\":{\"connections\":1,\"channels\":2,\"consumers\":1}}";
    assert!(json.contains(told), "{json}");
    assert!(json.contains("{\"name\":\"work\",\"kind\":\"work\",\"durable\":false,"), "{json}");
}

#[test]
fn what_was_confirmed_survives_a_kill() {
    let here = Directory::new();
    let reader = ["subscribe", "--to", "unix:mqtt", "-t", "a/#", "-q", "1", "-c", "reader", "--persistent"];
    let mut broker = here.serve(&[]);
    assert!(publish(&here, &["-t", "a/b", "-q", "1", "-r", "-m", "kept"], "").status.success());
    let first = here.run(&[&reader[..], &["-n", "1"]].concat());
    assert_eq!(out(&first), "kept\n", "{}", err(&first));
    let lines: String = (0..500).map(|number| format!("line {number}\n")).collect();
    assert!(publish(&here, &["-t", "a/c", "-q", "1"], &lines).status.success());
    broker.child.kill().unwrap();
    broker.child.wait().unwrap();
    let broker = here.serve(&[]);
    let rest = here.run(&[&reader[..], &["-n", "501"]].concat());
    // The session subscribes again, which brings the retained value once more.
    let mut received: Vec<String> = out(&rest).lines().map(str::to_string).collect();
    received.retain(|line| line != "kept");
    assert_eq!(received, lines.lines().collect::<Vec<_>>(), "{}", err(&rest));
    assert_eq!(broker.stop("-TERM").0, Some(0));
}

#[test]
fn hangup_reads_the_log_level_again() {
    let here = Directory::new();
    std::fs::write(here.0.join("a.toml"), "[log]\nlevel = \"info\"\n").unwrap();
    let mut broker = here.serve(&["--config", "a.toml"]);
    std::fs::write(here.0.join("a.toml"), "[log]\nlevel = \"debug\"\n").unwrap();
    broker.signal("-HUP");
    while !broker.said.contains("log.level is DEBUG") {
        assert_ne!(broker.errors.read_line(&mut broker.said).unwrap(), 0, "{}", broker.said);
    }
    assert_eq!(broker.stop("-TERM").0, Some(0));
    assert!(Path::new(&here.0).exists());
}
