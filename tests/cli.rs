//! The program as people start it: words, exit codes, what it says, and how it ends.

#[path = "support/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use program::{Broker, Directory, FOREBAY};

/// Runs it to its end.
fn run(directory: &Directory, words: &[&str]) -> Output {
    // What is to be refused must not run on if it is not.
    let timed = Command::new("timeout")
        .args(["30", FOREBAY])
        .args(words)
        .current_dir(&directory.0)
        .stdin(Stdio::null())
        .output();
    timed.unwrap()
}

/// A broker with a small store.
fn serve(directory: &Directory, words: &[&str]) -> Broker {
    Broker::start(directory, &[&["--store-size", "4M"], words].concat())
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
    let main = out(&run(&here, &["--help"]));
    for command in [
        "serve",
        "status",
        "list",
        "cancel",
        "publish",
        "subscribe",
        "plan",
        "config",
        "fsck",
        "cat",
        "export",
    ] {
        assert!(main.contains(&format!("\n  {command} ")), "{command} is missing");
        let text = run(&here, &["help", command]);
        assert!(out(&text).starts_with("Usage: forebay"), "{command}");
        assert_eq!(out(&run(&here, &[command, "--help"])), out(&text));
    }
    assert_eq!(out(&run(&here, &["--version"])), format!("forebay {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn words_that_make_no_sense_exit_with_2() {
    let here = Directory::new();
    refused(&run(&here, &["srve"]), 2, &["there is no command srve", "serve", "--help"]);
    refused(&run(&here, &["--lisen", "x"]), 2, &["--lisen"]);
    refused(&run(&here, &["--set", "limits.queus=3"]), 2, &["did you mean limits.queues?"]);
    refused(&run(&here, &["--set", "limits.queues"]), 2, &["KEY=VALUE"]);
    refused(&run(&here, &["--store-size", "big"]), 2, &["store.size", "256M"]);
    refused(&run(&here, &["list"]), 2, &["forebay list QUEUE"]);
    refused(&run(&here, &["list", "q", "--ready", "--delayed"]), 2, &["one of --delayed, --ready"]);
    refused(&run(&here, &["cancel", "q"]), 2, &["forebay cancel QUEUE OFFSET"]);
    refused(&run(&here, &["cancel", "q", "one"]), 2, &["one"]);
    refused(&run(&here, &["publish", "-m", "x"]), 2, &["-t TOPIC"]);
    refused(&run(&here, &["publish", "-t", "a/+", "-m", "x"]), 2, &["without + and #"]);
    refused(&run(&here, &["subscribe", "-t", "a", "--persistent"]), 2, &["-c ID"]);
    refused(&run(&here, &["subscribe", "-t", "a", "-q", "3"]), 2, &["0, 1 or 2"]);
}

#[test]
fn what_cannot_be_done_exits_with_1_and_says_what_to_do() {
    let here = Directory::new();
    refused(&run(&here, &["--config", "none.toml"]), 1, &["none.toml", "No such file"]);
    refused(&run(&here, &["status"]), 1, &["no broker runs on forebay.fby", "--store"]);
    refused(&run(&here, &["list", "q"]), 1, &["no broker runs on forebay.fby", "--store"]);
    refused(&run(&here, &["cancel", "q", "1", "--store", "b.fby"]), 1, &["no broker runs on b.fby"]);
    refused(&run(&here, &["publish", "--to", "unix:none", "-t", "a", "-m", "b"]), 1, &["unix:none", "--to"]);
    refused(&run(&here, &["plan", "--memory", "100K"]), 1, &["100K", "allow more memory"]);
    refused(&run(&here, &["--store", "/nowhere/a.fby"]), 1, &["/nowhere/a.fby", "is not there"]);
    refused(&run(&here, &["--store", "."]), 1, &[". is not a store"]);
}

#[test]
fn the_printed_configuration_prints_itself() {
    let here = Directory::new();
    let first = out(&run(&here, &["config", "--memory", "16M", "--set", "limits.queues=77"]));
    assert!(first.contains("queues = 77  # from the command line"), "{first}");
    std::fs::write(here.0.join("a.toml"), &first).unwrap();
    let bare = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # from").next().unwrap().to_string()).collect()
    };
    assert_eq!(bare(&out(&run(&here, &["config", "--config", "a.toml"]))), bare(&first));
}

#[test]
fn the_plan_adds_up() {
    let here = Directory::new();
    let text = out(&run(&here, &["plan", "--memory", "16M", "--store-size", "64M"]));
    assert!(text.contains("limits.entries") && text.contains("all together"), "{text}");
    assert!(text.contains("memory.total is 16M"), "{text}");
    assert!(text.contains("store of 64M: "), "{text}");
}

#[test]
fn a_store_holds_what_the_plan_says_however_small_it_is() {
    for size in ["576K", "1M"] {
        let here = Directory::new();
        let small = ["--segment-size", "64K", "--store-size", size];
        let plan = out(&run(&here, &[&["plan"], &small[..]].concat()));
        let count = plan.split("messages of 100 bytes, or ").nth(1).and_then(|rest| rest.split(' ').next());
        let count: usize = count.unwrap().parse().unwrap();
        assert!(count > 20, "{plan}");
        let broker = Broker::start(&here, &small[2..]);
        let subscribe = ["subscribe", "--to", "unix:mqtt", "-t", "a", "-q", "1", "-c", "r", "--persistent"];
        assert!(publish(&here, &["-t", "a", "-q", "1", "-r", "-m", "first"], "").status.success());
        assert_eq!(out(&run(&here, &[&subscribe[..], &["-n", "1"]].concat())), "first\n");
        let published = publish(&here, &["-t", "a", "-q", "1"], &format!("{:1023}.\n", "").repeat(count));
        assert!(published.status.success(), "{plan}{}", err(&published));
        assert_eq!(broker.stop("-TERM").0, Some(0));
    }
}

#[test]
fn a_store_is_not_taken_for_one_that_was_sent_as_a_message() {
    let here = Directory::new();
    for _ in 0..2 {
        assert!(publish_and_stop(serve(&here, &[]), &here));
    }
    assert!(publish_and_stop(serve(&here, &["--store", "other", "--segment-size", "128K"]), &here));
    let mut store = std::fs::read(here.0.join("forebay.fby")).unwrap();
    let other = std::fs::read(here.0.join("other")).unwrap();
    store[..64].fill(0);
    store[4096..4160].copy_from_slice(&other[..64]);
    std::fs::write(here.0.join("forebay.fby"), store).unwrap();
    let broker = serve(&here, &[]);
    assert!(broker.said.contains("forebay.fby, 4M"), "{}", broker.said);
}

fn publish_and_stop(broker: Broker, here: &Directory) -> bool {
    let published = publish(here, &["-t", "a", "-q", "1", "-r", "-m", "kept"], "");
    published.status.success() && broker.stop("-TERM").0 == Some(0)
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let here = Directory::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(
        &run(&here, &["--store-size", "4M", "--segment-size", "64K", "--listen", &address]),
        1,
        &[&address, "--listen"],
    );
}

#[test]
fn a_signal_ends_it_in_order() {
    for signal in ["-TERM", "-INT"] {
        let here = Directory::new();
        let broker = serve(&here, &[]);
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
    let broker = serve(&here, &[]);
    publish(&here, &["-t", "a", "-q", "1", "-m", "x"], "");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", broker.child.id())).unwrap().count();
    assert!(tasks <= 2, "{tasks} threads");
}

#[test]
fn a_second_broker_on_the_same_store_is_refused_with_the_pid_of_the_first() {
    let here = Directory::new();
    let broker = serve(&here, &[]);
    let second = run(&here, &["--listen", "unix:other"]);
    refused(&second, 1, &["forebay.fby", &broker.child.id().to_string()]);
    assert_eq!(broker.stop("-TERM").0, Some(0));
}

#[test]
fn a_file_that_is_no_store_is_left_alone() {
    let here = Directory::new();
    let letter = "Dear Sir or Madam, ".repeat(10_000);
    std::fs::write(here.0.join("forebay.fby"), &letter).unwrap();
    refused(&run(&here, &["--listen", "unix:mqtt"]), 1, &["forebay.fby"]);
    assert_eq!(std::fs::read_to_string(here.0.join("forebay.fby")).unwrap(), letter);
}

#[test]
fn status_shows_queues_store_and_connections() {
    let here = Directory::new();
    let _broker = serve(&here, &[]);
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
    let text = out(&run(&here, &["status"]));
    assert!(text.contains("forebay.fby") && text.contains("reader"), "{text}");
    let json = out(&run(&here, &["status", "--json"]));
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
    let _broker = serve(&here, &["--amqp", "unix:amqp"]);
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
    let text = out(&run(&here, &["status"]));
    assert!(text.contains("amqp: 1 connections, 2 channels, 1 consumers\n"), "{text}");
    assert!(text.contains("         1  work\n"), "{text}");
    let json = out(&run(&here, &["status", "--json"]));
    let told = "\"protocols\":{\"amqp\":{\"connections\":1,\"channels\":2,\"consumers\":1}}";
    assert!(json.contains(told), "{json}");
    assert!(json.contains("{\"name\":\"work\",\"kind\":\"work\",\"durable\":false,"), "{json}");
}

#[test]
fn only_those_who_may_write_the_store_can_reach_the_control_socket() {
    let mode = |here: &Directory, name: &str| {
        std::fs::metadata(here.0.join(name)).unwrap().permissions().mode() & 0o777
    };
    for (mask, socket, store) in [("0000", 0o770, 0o666), ("0022", 0o750, 0o644), ("0077", 0o700, 0o600)] {
        let here = Directory::new();
        let script =
            format!("umask {mask}; exec \"$0\" --store-size 4M --segment-size 64K --listen unix:mqtt");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, FOREBAY]).current_dir(&here.0).stderr(Stdio::piped());
        let mut broker = Broker::of(shell.spawn().unwrap());
        broker.hear(" ready\n");
        assert_eq!((mode(&here, "forebay.fby.sock"), mode(&here, "forebay.fby")), (socket, store), "{mask}");
        assert!(run(&here, &["status"]).status.success());
    }
}

/// Something that listens where the control socket would be, and ends an answer before it is whole.
#[test]
fn an_answer_that_is_not_whole_is_an_error() {
    let here = Directory::new();
    let listener = std::os::unix::net::UnixListener::bind(here.0.join("forebay.fby.sock")).unwrap();
    for part in ["", "q#1  cancelled\n", "q#1  cancelled\n\0", "q#1  cancelled\n\0done"] {
        let answering = std::thread::scope(|scope| {
            let asking = scope.spawn(|| run(&here, &["cancel", "q", "1"]));
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            assert_eq!(line, "cancel q 1\n");
            stream.write_all(part.as_bytes()).unwrap();
            drop(stream);
            asking.join().unwrap()
        });
        refused(&answering, 1, &["incomplete"]);
        let lines = part.split_inclusive('\n').filter(|line| line.starts_with('q'));
        assert_eq!(out(&answering), lines.collect::<String>());
    }
}

#[test]
fn what_was_confirmed_survives_a_kill() {
    let here = Directory::new();
    let reader = ["subscribe", "--to", "unix:mqtt", "-t", "a/#", "-q", "1", "-c", "reader", "--persistent"];
    let mut broker = serve(&here, &[]);
    assert!(publish(&here, &["-t", "a/b", "-q", "1", "-r", "-m", "kept"], "").status.success());
    let first = run(&here, &[&reader[..], &["-n", "1"]].concat());
    assert_eq!(out(&first), "kept\n", "{}", err(&first));
    let lines: String = (0..500).map(|number| format!("line {number}\n")).collect();
    assert!(publish(&here, &["-t", "a/c", "-q", "1"], &lines).status.success());
    broker.kill();
    let broker = serve(&here, &[]);
    let rest = run(&here, &[&reader[..], &["-n", "501"]].concat());
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
    let mut broker = serve(&here, &["--config", "a.toml"]);
    std::fs::write(here.0.join("a.toml"), "[log]\nlevel = \"debug\"\n").unwrap();
    broker.signal("-HUP");
    broker.hear("log.level is DEBUG");
    assert_eq!(broker.stop("-TERM").0, Some(0));
    assert!(Path::new(&here.0).exists());
}
