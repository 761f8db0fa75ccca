//! The texts of `--help`.

const MAIN: &str = "\
Forebay, a message broker for the edge. What it confirmed is on flash, its memory is decided
at boot, and it always boots.

Usage: forebay [COMMAND] [OPTIONS]

Commands:
  serve       run the broker; what happens without a command
  status      show queues, store, connections and memory of the running broker
  list        print the messages of a queue of the running broker: those delayed, ready, in flight
  cancel      remove messages of a queue that are delayed or ready
  publish     send messages from the command line
  subscribe   print messages as they arrive
  plan        show what memory and storage a configuration takes, without starting it
  config      print the effective configuration as a commented file
  fsck        check a store: what is in it, and what is damaged
  cat         print the messages of a store that no broker runs on
  export      print everything in a store as lines of JSON
  torture     cut the power of simulated devices, or of a file on this machine's card, and check
  help        explain a command: forebay help plan

Options of serve, plan and config; --config, --store and --set also of status, list and cancel:
      --config FILE        read FILE before the other options
  -l, --listen ADDRESS     listen for MQTT at HOST:PORT or unix:PATH; may be repeated
      --amqp ADDRESS       listen for AMQP 0-9-1 likewise
      --wire ADDRESS       listen for devices likewise, or at serial:///dev/ttyACM0?baud=115200
  -s, --store FILE         keep everything durable in FILE (forebay.fby)
      --store-size SIZE    size of a store that is made, such as 64M or 1G (256M)
      --memory SIZE        lower the default limits until everything fits in SIZE
      --log LEVEL          off, error, warn, info, debug or trace (info)
      --set KEY=VALUE      set any key; `forebay config` prints them all

  -h, --help               this, or the help of a command
  -V, --version            print the version

Try it:
  forebay                                       in one terminal,
  forebay subscribe -t 'plant/#' -v             in a second,
  forebay publish -t plant/line7 -m hello       in a third
";

const SERVE: &str = "\
Usage: forebay [serve] [OPTIONS]

Runs the broker until SIGTERM or SIGINT. Everything durable is in one file, made at its full
size if it is not there; everything else is memory set aside now, so that nothing grows later.

      --config FILE        read FILE first; see `forebay config`
  -l, --listen ADDRESS     MQTT at HOST:PORT or unix:PATH; may be repeated (127.0.0.1:1883)
      --amqp ADDRESS       AMQP 0-9-1 likewise (127.0.0.1:5672)
      --wire ADDRESS       devices likewise, or serial:///dev/ttyACM0?baud=115200 (nowhere)
  -s, --store FILE         the store (forebay.fby in this directory)
      --store-size SIZE    its size, if it is made (256M)
      --segment-size SIZE  what is reclaimed at once, if it is made
      --memory SIZE        lower the default limits until everything fits
      --log LEVEL          off, error, warn, info, debug or trace (info)
      --set KEY=VALUE      any other key

SIGHUP reads log.level again; every other key needs a restart, which takes no time to speak of.
After kill -9 or a loss of power just start it again: nothing that was confirmed is lost.

  forebay --listen 0.0.0.0:1883 --store /var/lib/forebay/store.fby
";

const PLAN: &str = "\
Usage: forebay plan [--memory SIZE] [--store-size SIZE] [OPTIONS]

Prints every noun of the broker with its limit, the bytes of one and of all, the sum, and what
fits in the store. With --memory the limits that nobody set are lowered until it all fits; what
was set in the file or by --set is kept. Fails, naming the line to change, if that cannot be.

  forebay plan --memory 32M --store-size 1G
  forebay plan --set limits.entries=1000000
";

const CONFIG: &str = "\
Usage: forebay config [OPTIONS]

Prints the effective configuration as a TOML file with a comment above every key, and at each
value that is no default where it comes from. The output is a valid configuration.

  forebay config --memory 32M > forebay.toml
  forebay --config forebay.toml
";

const STATUS: &str = "\
Usage: forebay status [--json] [--store FILE] [--config FILE]

Asks the running broker, over a socket beside its store, how full the store is, what the queues
hold (ready, in flight, delayed, consumers), how many connections there are, and what memory it
takes. With --json the same for programs. Fails if no broker runs on that store. Only the user that
runs the broker, root, and its group if its umask lets that write, can ask on that socket.
";

const LIST: &str = "\
Usage: forebay list QUEUE [--delayed | --ready | --in-flight] [OPTIONS]

Prints the messages of a queue of the running broker, by offset, one a line as `forebay cat` does.
Nothing is taken out and nothing is marked. What changes meanwhile may or may not be shown; all that
stays is. Which broker, and who can ask it, is as for status.

      --delayed            those that wait for their time
      --ready              those that can be handed out
      --in-flight          those that were handed out and are not acknowledged
      --from OFFSET        begin with this offset
  -n, --count COUNT        end after this many messages
      --json               an object a line, as `forebay export` has it for a message, and with
                           in_flight if it is
      --store FILE, --config FILE, --set KEY=VALUE   the broker that runs on this store

  forebay list orders --delayed -n 10
";

const CANCEL: &str = "\
Usage: forebay cancel QUEUE OFFSET... [OPTIONS]

Removes messages that are delayed or ready from a queue of the running broker, by their offsets, as
`forebay list` shows them. They are gone for good, not dead-lettered. Ends when that is on flash.
Fails, naming each, if some are not there or in flight, having removed the others. Which broker, and
who can ask it, is as for status.

      --store FILE, --config FILE, --set KEY=VALUE   the broker that runs on this store

  forebay cancel orders 17 23
";

const PUBLISH: &str = "\
Usage: forebay publish -t TOPIC [-m MESSAGE] [OPTIONS]

Publishes a message, or without -m every line of standard input. It ends when the broker has
confirmed everything; with QoS 1 or 2 that means it is on flash.

  -t, --topic TOPIC        where to
  -m, --message TEXT       what; without it, the lines of standard input
  -q, --qos 0|1|2          how surely (0)
  -r, --retain             keep it as the last value of the topic
      --to ADDRESS         the broker: HOST:PORT or unix:PATH (127.0.0.1:1883)

  sensors | forebay publish -t plant/line7/temperature -q 1
";

const SUBSCRIBE: &str = "\
Usage: forebay subscribe -t FILTER... [OPTIONS]

Prints the messages that match, one a line, until it is interrupted.

  -t, --topic FILTER       + is one level, # at the end any number; may be repeated
  -q, --qos 0|1|2          the most they are handed over with (0)
  -v, --verbose            print the topic before the message
  -n, --count COUNT        end after this many messages
  -c, --client ID          name of the session
      --persistent         keep the session: what arrives until next time waits
      --to ADDRESS         the broker: HOST:PORT or unix:PATH (127.0.0.1:1883)
";

const FSCK: &str = "\
Usage: forebay fsck [STORE] [--json] [--progress]

Checks a store that no broker runs on: reads every message and says what is there, what is
damaged, and what that means. STORE is its file (forebay.fby), a partition, or the image of a
whole card, in which the store is looked for. Nothing is ever written.

      --json               the report for programs
      --progress           show how far it is even if standard error is no terminal

Exit codes: 0 it is sound, 1 there is damage, 2 it is no store or cannot be read.

  forebay fsck /dev/mmcblk0p3
";

const CAT: &str = "\
Usage: forebay cat [STORE] [QUEUE...] [OPTIONS]

Prints the messages of a store that no broker runs on, one a line: queue and offset, when it was
published, its state, key, headers and body. Bytes that are not UTF-8 and control characters are
spelled \\xNN. Nothing is written and nothing is taken out. STORE is as for fsck; without QUEUE
all queues are printed. Fails if something is damaged, having printed the rest.

      --queue NAME         this queue; may be repeated
      --from OFFSET        begin with this offset
  -n, --count COUNT        end after this many messages
      --raw                bodies only, byte for byte, each with a line end behind it
      --retained           the retained values instead

  forebay cat forebay.fby mqtt.reader --from 100 -n 10
";

const EXPORT: &str = "\
Usage: forebay export [STORE]

Prints everything in a store that no broker runs on as lines of JSON, in an order in which it can
be loaded elsewhere. STORE is as for fsck. The type of a line is one of:

  store        format (1), path, time of the log, clean, places that are damaged as a whole
  exchange     name, kind, alternate; those besides the six that are always there
  queue        name, kind, next_offset and every option; of a group also its stream
  binding      exchange, queue or to_exchange, pattern, pattern_form, arguments, grade
  message      queue, offset, published_ms, ready_ms if it is delayed, ttl_ms and expires_ms if it
               expires, priority, grade, deliveries, redelivered, received, key, key_form,
               headers, body
  pending      queue, offset: a group has handed out this message of its stream
  retained     as a message, without a queue
  unreadable   queue and offset of a message that is damaged, or retained
  end          the number of lines of each type; without this line something is missing

Times are milliseconds since 1970, spans milliseconds, and 0 is no limit. What is not UTF-8 is in
base64, with _base64 behind the name of its member. Headers are objects of name, type, value.

  forebay export forebay.fby | jq -r 'select(.type==\"message\") | .body'
";

const TORTURE: &str = "\
Usage: forebay torture [--campaign NAME] [--cuts N] [--seed S] [OPTIONS]
       forebay torture --on DIRECTORY [--cuts N] [--seed S]

Puts the first promise to the test on this machine. The campaigns run the store on simulated
flash that loses power at every byte, leaves torn and decaying bits, reorders what was not
synced, flips bits and dies, then mount what is left and compare it with what was confirmed.
With --on a broker runs on a real file in DIRECTORY, with real syncs, and what no sync covered
is lost each time. Ends with exit code 1, and with the command that shows it again, at the first
promise that is not kept.

      --campaign NAME      only this campaign; a wrong name lists them all
      --cuts N             end after about so many cuts (1000000; with --on 200)
      --seed S             what is random follows from it; printed at the end
      --threads N          how many (all cores)
      --case N --cut N --second N   see one case, one cut again
      --on DIRECTORY       on a file there, which is removed at the end

  forebay torture --cuts 100000000
  forebay torture --on /var/lib/forebay
";

const COMMANDS: [(&str, &str); 13] = [
    ("help", MAIN),
    ("serve", SERVE),
    ("status", STATUS),
    ("list", LIST),
    ("cancel", CANCEL),
    ("publish", PUBLISH),
    ("subscribe", SUBSCRIBE),
    ("plan", PLAN),
    ("config", CONFIG),
    ("fsck", FSCK),
    ("cat", CAT),
    ("export", EXPORT),
    ("torture", TORTURE),
];

/// The help of a command.
pub fn of(command: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(name, _)| *name == command).map(|(_, text)| *text)
}

/// The answer to a command that does not exist.
pub fn unknown(command: &str) -> String {
    let names: Vec<&str> = COMMANDS.iter().map(|(name, _)| *name).collect();
    format!("there is no command {command}; there are {}", names.join(", "))
}
