#!/usr/bin/env python3
"""A medium that fails under load: `tests/faults.py [--broker PATH] [--cycles N] [--seed S]`.

The real program runs under strace, which lets its system calls fail: fdatasync with EIO, pwritev with
ENOSPC, EDQUOT, EROFS and EIO, one pread64 with EIO. Publishers send numbered messages as fast as
confirms allow; a persistent session reads them. Once the failure struck:

- no confirm is sent any more (read off the system calls of the program itself) and publishers are
  disconnected; the log has one error, `forebay status` the reason;
- the session gets everything that was confirmed and nothing else, and QoS 0 goes on;
- after kill -9 and a start without faults the session gets everything that was confirmed, each
  publisher's in order, and none twice unless flagged DUP.

Then the same on a really full file system, where a small tmpfs can be mounted. Prints a line a cycle
and `N passed, M failed`; says "skipped" and ends with 0 where strace is missing or not allowed."""

import argparse, json, os, random, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from kill9 import Client, Publisher, Subscriber, free_port, packet, text

SEGMENT = "64K"
FAULTS = [
    ("fdatasync", "EIO", "sync failed"),
    ("pwritev", "ENOSPC", "no room on the file system"),
    ("fdatasync", "ENOSPC", "sync failed"),
    ("pwritev", "EIO", "write failed"),
    ("fdatasync", "EIO", "sync failed"),
    ("pwritev", "EDQUOT", "no room on the file system"),
    ("pwritev", "EROFS", "read-only file system"),
    ("pread64", "EIO", None),
]


class Broker:
    """The program, under strace if it is to fail."""

    started = []

    def __init__(self, path, dir, size, fault=None):
        self.path, self.store, self.port = path, os.path.join(dir, "store.fby"), free_port()
        self.trace, self.said, self.pid = None, [], None
        command = [path, "--listen", f"127.0.0.1:{self.port}", "--store", self.store, "--log", "info",
                   "--store-size", size, "--segment-size", SEGMENT]
        if fault:
            call, error, when = fault
            self.trace = os.path.join(dir, "trace")
            command = ["strace", "-f", "-qq", "-s", "64", "-o", self.trace,
                       "-e", f"trace={call},sendto,write,epoll_wait,epoll_pwait",
                       "-e", f"inject={call}:error={error}:when={when}"] + command
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        while not self.ready.wait(0.01) and self.process.poll() is None:
            pass
        self.reader.join(0 if self.ready.is_set() else 5)
        self.is_up = self.ready.is_set()
        self.pid = self.process.pid
        if fault and self.is_up:
            with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
                self.pid = int(children.read().split()[0])
        if self.is_up:
            Broker.started.append(self)

    def read(self):
        for line in self.process.stderr:
            self.said.append(line)
            if line.endswith(" ready\n"):
                self.ready.set()

    def status(self):
        asked = subprocess.run([self.path, "status", "--json", "--store", self.store],
                               capture_output=True, text=True, timeout=20)
        return json.loads(asked.stdout) if asked.returncode == 0 else None

    def errors(self):
        return [line for line in self.said if " ERROR " in line]

    def end(self, sig):
        os.kill(self.pid, sig)
        code = self.process.wait(30)
        self.reader.join(5)
        return code


def drain(port, seen, errors, quiet_s=0.5):
    """Lets the session read until nothing comes; what it acknowledged is gone."""
    subscriber = Subscriber(port, seen, {}, errors, 1)
    if not subscriber.client.present:
        errors.append("the session is gone")
    subscriber.start()
    while time.monotonic() - subscriber.last < quiet_s:
        time.sleep(0.02)
    subscriber.client.sock.shutdown(socket.SHUT_RDWR)
    subscriber.join(5)
    subscriber.client.sock.close()


def missing_of(running, first, seen):
    """How many confirmed messages the session did not get."""
    wanted = {p.name: set(range(first[p.name], p.confirmed + 1)) for p in running}
    return sum(len(numbers - set(seen.get(name, []))) for name, numbers in wanted.items())


def confirms_sent(trace):
    """PUBACKs the broker sent, also those that got lost with a connection that it ended."""
    with open(trace, errors="replace") as lines:
        sent = re.findall(r'sendto\(\d+, "@\\2(?:[^"\\]|\\.)*"(?:\.\.\.)?, (\d+)', lines.read())
    return sum(map(int, sent)) // 4


def confirms_after_the_error(trace):
    """PUBACKs and PUBRECs that were sent in a turn after the one in which the failure was logged."""
    state, count = "well", 0
    with open(trace, errors="replace") as lines:
        for line in lines:
            if state == "well" and "write(2," in line and " ERROR store" in line:
                state = "told"
            elif state == "told" and "epoll_" in line:
                state = "failed"
            elif state == "failed" and re.search(r'sendto\(\d+, "[@P]\\2', line):
                count += 1
    return count if state == "failed" else None


def is_refused(port):
    """A publisher that asks for a confirm is disconnected without one."""
    client = Client(port, "late", True)
    client.send(packet(0x32, text("plant/late") + struct.pack(">H", 1) + b"0"))
    try:
        return client.read()[0] not in (0x40, 0x50)
    except (OSError, ConnectionError):
        return True


def passes_qos_0(port):
    there = Client(port, "there", True)
    there.subscribe("plain/#", 0)
    Client(port, "plain", True).send(packet(0x30, text("plain/x") + b"still here"))
    first, body = there.read()
    return first == 0x30 and body.endswith(b"still here")


def check_failed(broker, reason, running, first, errors):
    """The broker has failed: what it says, refuses and still serves."""
    for p in running:
        p.join(30)
    if any(p.is_alive() for p in running):
        return errors.append("publishers go on, or wait for a confirm for ever")
    status = broker.status()
    if not status or not status["store"]["read_only"]:
        errors.append("the status does not say that the store is read-only")
    elif status["store"]["read_only_reason"] != reason or not status["store"]["read_only_since"]:
        errors.append(f"the status says {status['store']['read_only_reason']}, not {reason}")
    said = [line for line in broker.errors() if reason in line and broker.store in line]
    if len(broker.errors()) != 1 or len(said) != 1:
        errors.append(f"not one clear error: {broker.errors()}")
    if not is_refused(broker.port):
        errors.append("a publish was confirmed after the failure")
    if not passes_qos_0(broker.port):
        errors.append("QoS 0 does not go on")
    seen = {}
    drain(broker.port, seen, errors)
    missing = missing_of(running, first, seen)
    if missing:
        errors.append(f"{missing} confirmed messages were not served after the failure")
    if broker.trace:
        got, sent = sum(map(len, seen.values())), confirms_sent(broker.trace)
        if got > sent:
            errors.append(f"{got} messages were handed out, {sent} were confirmed")
        late = confirms_after_the_error(broker.trace)
        if late != 0:
            errors.append("no error in the trace" if late is None else f"{late} confirms after the failure")


def check_restart(args, dir, running, first, errors):
    """Without faults everything confirmed is there; ends in order, so that the session is empty."""
    broker = Broker(args.broker, dir, args.store_size)
    seen = {}
    drain(broker.port, seen, errors)
    lost = missing_of(running, first, seen)
    if lost:
        errors.append(f"{lost} confirmed messages lost")
    if broker.end(signal.SIGTERM) != 0:
        errors.append("it did not end in order")


def publish(port, first, seconds=None):
    running = [Publisher(port, name, start, 1) for name, start in first.items()]
    for p in running:
        p.start()
    if seconds:
        time.sleep(seconds)
    return running


def write_cycle(args, dir, fault, rng, first, errors):
    call, error, reason = fault
    # The first writes are those of the mount.
    when = rng.randint(1 if call == "fdatasync" else 12, 80)
    # One segment that refuses is passed over, so a write fails from then on.
    ever_after = "+" if (call, error) == ("pwritev", "EIO") else ""
    broker = Broker(args.broker, dir, args.store_size, (call, error, f"{when}{ever_after}"))
    if not broker.is_up:
        errors.append(f"it did not start: {broker.said}")
        return [], f"{call} {error} at {when}"
    running = publish(broker.port, first)
    check_failed(broker, reason, running, first, errors)
    broker.end(signal.SIGKILL)
    check_restart(args, dir, running, first, errors)
    return running, f"{call} {error} at {when}"


def read_cycle(args, dir, fault, rng, first, errors):
    broker = Broker(args.broker, dir, args.store_size)
    running = publish(broker.port, first, 0.5)
    broker.end(signal.SIGKILL)
    for p in running:
        p.join(10)
    when = rng.randint(1, 400)
    broker = Broker(args.broker, dir, args.store_size, (fault[0], fault[1], f"{when}"))
    what = f"pread64 EIO at {when}"
    if not broker.is_up:
        # A mount that cannot read says so and leaves everything as it is.
        if not broker.errors() and not any("cannot be read" in line for line in broker.said):
            errors.append(f"it did not start and does not say why: {broker.said}")
        check_restart(args, dir, running, first, errors)
        return running, what + ", which the mount refused"
    seen = {}
    drain(broker.port, seen, errors)
    missing = missing_of(running, first, seen)
    status = broker.status()
    damaged = status["messages"]["damaged"] if status else -1
    if not status or status["store"]["read_only"]:
        errors.append("a failed read ended the writing")
    if missing > damaged:
        errors.append(f"{missing} messages are missing, {damaged} were reported")
    broker.end(signal.SIGKILL)
    after = Broker(args.broker, dir, args.store_size)
    rest = {}
    drain(after.port, rest, errors)
    after.end(signal.SIGTERM)
    got = {name: seen.get(name, []) + rest.get(name, []) for name in first}
    lost = missing_of(running, first, got)
    if lost > damaged:
        errors.append(f"{lost} confirmed messages lost, {damaged} were reported")
    return running, what + f", {damaged} reported as damaged"


def prepare(args, dir):
    broker = Broker(args.broker, dir, args.store_size)
    client = Client(broker.port, "line7", False)
    client.subscribe("plant/#", 1)
    client.sock.close()
    broker.end(signal.SIGTERM)


def full_cycle(args, dir, errors):
    """A store that was copied with holes, on a file system without the room to fill them."""
    vast = Broker(args.broker, dir, "256M")
    if vast.is_up or not any("no room" in line for line in vast.said) or os.path.exists(vast.store):
        errors.append(f"a store that does not fit: {vast.said}")
    prepare(args, dir)
    store = os.path.join(dir, "store.fby")
    with open(store, "rb") as old, open(store + ".copy", "wb") as new:
        while block := old.read(4096):
            new.seek(4096, 1) if not block.strip(b"\0") else new.write(block)
        new.truncate(old.tell())
    os.replace(store + ".copy", store)
    filler = os.path.join(dir, "filler")
    with open(filler, "wb", buffering=0) as fill:
        try:
            while True:
                fill.write(bytes(65536))
        except OSError:
            fill.truncate(os.path.getsize(filler) - 300_000)
    first = {f"p{i}": 0 for i in range(4)}
    broker = Broker(args.broker, dir, args.store_size)
    running = publish(broker.port, first)
    check_failed(broker, "no room on the file system", running, first, errors)
    broker.end(signal.SIGKILL)
    os.remove(filler)
    check_restart(args, dir, running, first, errors)
    return running


def on_a_full_file_system(args, errors):
    with tempfile.TemporaryDirectory() as dir:
        mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "forebay-faults", dir]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode != 0:
            return None
        try:
            return full_cycle(args, dir, errors)
        finally:
            subprocess.run(["umount", dir])


def may_trace():
    if not shutil.which("strace"):
        return False
    tried = subprocess.run(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync",
                            "-e", "inject=fdatasync:error=EIO", "true"], capture_output=True)
    return tried.returncode == 0


def report(what, running, errors):
    confirmed = sum(max(0, p.confirmed + 1 - p.begun) for p in running)
    print(f"{what}: {confirmed} confirmed" + "".join("; " + e for e in errors[:5]), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--broker", default="target/release/forebay")
    ap.add_argument("--cycles", type=int, default=len(FAULTS))
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    args.broker, args.store_size = os.path.abspath(args.broker), "16M"
    if not may_trace():
        print("skipped: strace is not installed, or may not trace here")
        return
    rng = random.Random(args.seed)
    failed = 0
    with tempfile.TemporaryDirectory() as dir:
        prepare(args, dir)
        first = {f"p{i}": 0 for i in range(4)}
        for number in range(args.cycles):
            errors, fault = [], FAULTS[number % len(FAULTS)]
            cycle = read_cycle if fault[2] is None else write_cycle
            running, what = cycle(args, dir, fault, rng, first, errors)
            for p in running:
                p.begun = first[p.name]
                first[p.name] = p.next
            failed += bool(errors)
            report(f"cycle {number}, {what}", running, errors)
    errors = []
    running = on_a_full_file_system(args, errors)
    for p in running or []:
        p.begun = 0
    if running is None:
        print("full file system: skipped, no tmpfs can be mounted here")
    else:
        failed += bool(errors)
        report("full file system", running, errors)
    cycles = args.cycles + (running is not None)
    print(f"{cycles - failed} passed, {failed} failed, seed {args.seed}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    try:
        main()
    finally:
        for broker in Broker.started:
            if broker.process.poll() is None:
                broker.end(signal.SIGKILL)
