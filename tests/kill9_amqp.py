#!/usr/bin/env python3
"""kill -9 under AMQP confirm load: `tests/kill9_amqp.py [--broker PATH] [--cycles N] [--seed S]`.

Cycle after cycle on the same store: the broker starts, several publishers send numbered persistent
messages with confirms, each to its own durable queue through amq.topic, as fast as confirms allow; the broker is
killed at a random moment and starts again; everything is consumed and acknowledged. Every message that was
confirmed must come, each publisher's in order; what was acknowledged may come again only within the time in which
acknowledgements are written, and then with `redelivered`. Every third cycle a consumer is connected while the broker
is killed. Plain sockets and nothing but Python's own library."""

import argparse, os, random, socket, struct, subprocess, sys, tempfile, threading, time

from kill9 import free_port


def short(text):
    return bytes([len(text)]) + text.encode()


def method(channel, class_id, method_id, arguments):
    payload = struct.pack(">HH", class_id, method_id) + arguments
    return struct.pack(">BHI", 1, channel, len(payload)) + payload + b"\xce"


EMPTY = b"\0\0\0\0"


class Client:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sock.sendall(b"AMQP\0\0\x09\x01")
        self.expect(10, 10)
        login = b"\0guest\0guest"
        self.call(10, 11, EMPTY + short("PLAIN") + struct.pack(">I", len(login)) + login + short("en_US"), 10, 30, 0)
        self.sock.sendall(method(0, 10, 31, struct.pack(">HIH", 10, 131072, 0)))
        self.call(10, 40, short("/") + b"\0\0", 10, 41, 0)
        self.call(20, 10, b"\0", 20, 11)

    def frame(self):
        while True:
            if len(self.buffer) >= 7:
                kind, channel, size = struct.unpack(">BHI", self.buffer[:7])
                if len(self.buffer) >= size + 8:
                    payload = self.buffer[7:7 + size]
                    assert self.buffer[7 + size] == 0xCE
                    self.buffer = self.buffer[8 + size:]
                    return kind, payload
            data = self.sock.recv(1 << 18)
            if not data:
                raise ConnectionError("closed")
            self.buffer += data

    def expect(self, class_id, method_id):
        while True:
            kind, payload = self.frame()
            if kind == 1 and struct.unpack(">HH", payload[:4]) == (class_id, method_id):
                return payload[4:]
            if kind == 1 and struct.unpack(">HH", payload[:4]) == (60, 120):
                # A fast machine fills the table of entries before the kill: what is refused is not confirmed.
                raise ConnectionError("no room")
            assert kind != 1 or payload[2:4] != b"\0\x28" and payload[:4] != b"\0\x0a\0\x32", payload

    def call(self, class_id, method_id, arguments, answer_class, answer, channel=1):
        self.sock.sendall(method(channel, class_id, method_id, arguments))
        return self.expect(answer_class, answer)

    def declare(self, name):
        self.call(50, 10, b"\0\0" + short(name) + b"\x02" + EMPTY, 50, 11)
        self.call(50, 20, b"\0\0" + short(name) + short("amq.topic") + short(name + ".#") + b"\0" + EMPTY, 50, 21)


class Publisher(threading.Thread):
    """Publishes numbered messages; remembers how far they were confirmed."""

    def __init__(self, port, name, start, window=200):
        super().__init__(daemon=True)
        self.port, self.name, self.start_at, self.window = port, name, start, window
        self.sent = self.confirmed = 0

    def run(self):
        try:
            client = Client(self.port)
            client.call(85, 10, b"\0", 85, 11)
            while True:
                out = b""
                while self.sent - self.confirmed < self.window:
                    body = str(self.start_at + self.sent).encode()
                    header = struct.pack(">HHQHB", 60, 0, len(body), 0x1000, 2)
                    out += method(1, 60, 40, b"\0\0" + short("amq.topic") + short(self.name + ".x") + b"\0")
                    out += struct.pack(">BHI", 2, 1, len(header)) + header + b"\xce"
                    out += struct.pack(">BHI", 3, 1, len(body)) + body + b"\xce"
                    self.sent += 1
                client.sock.sendall(out)
                number, multiple = struct.unpack(">QB", client.expect(60, 80))
                assert multiple or number == self.confirmed + 1
                self.confirmed = max(self.confirmed, number)
        except (OSError, ConnectionError):
            pass


class Consumer(threading.Thread):
    """Takes everything of every queue and acknowledges it, until it is cut off."""

    def __init__(self, port, names, seen, errors):
        super().__init__(daemon=True)
        self.client = Client(port)
        self.names, self.seen, self.errors = names, seen, errors
        self.last = time.monotonic()
        self.client.call(60, 10, struct.pack(">IHB", 0, 500, 0), 60, 11)

    def run(self):
        try:
            for name in self.names:
                self.client.sock.sendall(method(1, 60, 20, b"\0\0" + short(name) + short(name) + b"\x08" + EMPTY))
            while True:
                tag = self.client.expect(60, 60)
                size = tag[0]
                name = tag[1:1 + size].decode()
                number, again = struct.unpack(">QB", tag[1 + size:10 + size])
                self.client.frame()
                kind, body = self.client.frame()
                assert kind == 3
                self.last = time.monotonic()
                self.take(name, int(body), again)
                if number % 50 == 0 or not self.client.buffer:
                    self.client.sock.sendall(method(1, 60, 80, struct.pack(">QB", number, 1)))
        except (OSError, ConnectionError):
            pass

    def take(self, name, number, again):
        order = self.seen.setdefault(name, [])
        if not order or number > order[-1]:
            order.append(number)
        elif number not in order[-20000:]:
            self.errors.append(f"{name} {number} came after {order[-1]}")
        elif not again:
            self.errors.append(f"{name} {number} came twice and was not marked")


class Broker:
    def __init__(self, path, port, dir):
        self.process = subprocess.Popen(
            [path, "--listen", "unix:" + os.path.join(dir, "mqtt"), "--amqp", f"127.0.0.1:{port}",
             "--store", os.path.join(dir, "store.fby"), "--store-size", "64M", "--log", "warn"],
            stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"the broker ended with {self.process.returncode}")
                time.sleep(0.01)
        sys.exit("the broker did not come up")

    def kill(self):
        self.process.kill()
        self.process.wait()


def cycle(args, dir, number, rng, publishers, seen, errors):
    port = free_port()
    broker = Broker(args.broker, port, dir)
    online = Consumer(port, list(publishers), seen, errors) if number % 3 == 2 else None
    if online:
        online.start()
    running = [Publisher(port, name, start) for name, start in publishers.items()]
    for p in running:
        p.start()
    time.sleep(rng.uniform(0.05, 0.6))
    broker.kill()
    for p in running:
        p.join(10)
    if online:
        online.join(10)
    port = free_port()
    broker = Broker(args.broker, port, dir)
    consumer = Consumer(port, list(publishers), seen, errors)
    consumer.start()
    while time.monotonic() - consumer.last < 0.7:
        time.sleep(0.05)
    confirmed = lost = 0
    for p in running:
        got = set(seen.get(p.name, []))
        wanted = range(p.start_at, p.start_at + p.confirmed)
        missing = [n for n in wanted if n not in got]
        confirmed, lost = confirmed + len(wanted), lost + len(missing)
        if missing:
            errors.append(f"{p.name}: {len(missing)} confirmed messages lost, first {missing[0]}")
        publishers[p.name] = p.start_at + p.sent
    # Acknowledgements are written within 50 ms; then the broker may be killed without any of them coming again.
    time.sleep(0.2)
    broker.kill()
    consumer.join(10)
    return confirmed, lost


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--broker", default="target/release/forebay")
    ap.add_argument("--cycles", type=int, default=100)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as dir:
        publishers = {f"p{i}": 0 for i in range(4)}
        port = free_port()
        broker = Broker(args.broker, port, dir)
        client = Client(port)
        for name in publishers:
            client.declare(name)
        broker.kill()
        seen, total, failed = {}, 0, 0
        for number in range(args.cycles):
            errors = []
            confirmed, lost = cycle(args, dir, number, rng, publishers, seen, errors)
            total += confirmed
            failed += bool(errors)
            print(f"cycle {number}: {confirmed} confirmed, {lost} lost" + "".join("; " + e for e in errors[:5]), flush=True)
            for order in seen.values():
                del order[:-50000]
        print(f"{total} confirmed messages over {args.cycles} kills, seed {args.seed}")
        print(f"{args.cycles - failed} passed, {failed} failed")
        sys.exit(bool(failed))


if __name__ == "__main__":
    main()
