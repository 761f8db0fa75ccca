#!/usr/bin/env python3
"""kill -9 under load: `tests/kill9.py [--broker PATH] [--cycles N] [--seed S] [--qos 1|2]`.

One persistent session subscribes to plant/# and leaves. Then, cycle after cycle on the same
store: the broker starts, several publishers send numbered messages as fast as confirms allow,
the broker is killed at a random moment, starts again, and the session returns. It must get
every message that was confirmed, each publisher's in order, and none twice unless flagged DUP.
Every third cycle the subscriber is itself connected while the broker is killed.

Plain sockets and nothing but Python's own library; the real mosquitto clients are checked in
`.ci/mosquitto-clients`. Prints a line a cycle and `N passed, M failed` at the end."""

import argparse, os, random, socket, struct, subprocess, sys, tempfile, threading, time


def packet(first, body):
    out, n = bytes([first]), len(body)
    while True:
        low, n = n & 127, n >> 7
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out + body


def text(s):
    return struct.pack(">H", len(s)) + s.encode()


class Client:
    def __init__(self, port, name, clean):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.sock.sendall(packet(0x10, text("MQTT") + bytes([4, 2 if clean else 0, 0, 0]) + text(name)))
        first, body = self.read()
        assert first == 0x20 and body[1] == 0, (first, body)
        self.present = bool(body[0])

    def read(self):
        """One packet: its first byte and its body."""
        while True:
            n, shift, at = 0, 0, 1
            while at < len(self.buffer):
                n |= (self.buffer[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if self.buffer[at - 1] < 128:
                    if len(self.buffer) >= at + n:
                        first, body = self.buffer[0], self.buffer[at:at + n]
                        self.buffer = self.buffer[at + n:]
                        return first, body
                    break
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self.buffer += data

    def send(self, data):
        self.sock.sendall(data)

    def subscribe(self, filter, qos):
        self.send(packet(0x82, struct.pack(">H", 1) + text(filter) + bytes([qos])))
        while self.read()[0] != 0x90:
            pass


class Publisher(threading.Thread):
    """Publishes numbered messages; remembers which were confirmed."""

    def __init__(self, port, name, start, qos, window=64):
        super().__init__(daemon=True)
        self.port, self.name, self.qos, self.window = port, name, qos, window
        self.next, self.confirmed = start, -1

    def run(self):
        try:
            client = Client(self.port, "pub-" + self.name, True)
            waiting, ids = {}, 0
            while True:
                while len(waiting) < self.window:
                    ids = ids % 60000 + 1
                    body = text(f"plant/{self.name}") + struct.pack(">H", ids) + str(self.next).encode()
                    waiting[ids] = self.next
                    self.next += 1
                    client.send(packet(0x30 | self.qos << 1, body))
                first, body = client.read()
                ident = struct.unpack(">H", body[:2])[0]
                if first == 0x40:
                    self.confirm(waiting.pop(ident))
                elif first == 0x50:
                    # Received and on flash: this is the promise of QoS 2.
                    self.confirm(waiting[ident])
                    client.send(packet(0x62, body[:2]))
                elif first == 0x70:
                    del waiting[ident]
        except (OSError, ConnectionError):
            pass

    def confirm(self, number):
        assert number == self.confirmed + 1 or self.confirmed < 0 or number > self.confirmed
        self.confirmed = max(self.confirmed, number)


class Subscriber(threading.Thread):
    """Takes everything of the session, acknowledging; runs until told or cut off."""

    def __init__(self, port, seen, held, errors, qos):
        super().__init__(daemon=True)
        self.client = Client(port, "line7", False)
        self.seen, self.held, self.errors, self.qos = seen, held, errors, qos
        self.last = time.monotonic()
        self.count = 0

    def run(self):
        try:
            while True:
                first, body = self.client.read()
                self.last = time.monotonic()
                if first >> 4 == 3:
                    self.take(first, body)
                elif first >> 4 == 6:
                    # Released: the packet id is free for another message.
                    self.held.pop(body[:2], None)
                    self.client.send(packet(0x70, body[:2]))
        except (OSError, ConnectionError):
            pass

    def take(self, first, body):
        size = struct.unpack(">H", body[:2])[0]
        name, rest = body[2:2 + size].decode().split("/")[1], body[2 + size:]
        ident, number, dup = rest[:2], int(rest[2:]), bool(first & 8)
        order = self.seen.setdefault(name, [])
        if self.qos == 2 and ident in self.held:
            # A receiver knows what it has until it is released (MQTT 3.1.1, 4.3.3).
            if self.held[ident] != (name, number) or not dup:
                self.errors.append(f"{name} {number} came with the id of {self.held[ident]}, dup {dup}")
            self.client.send(packet(0x50, ident))
            return
        self.held[ident] = (name, number)
        if not order or number > order[-1]:
            order.append(number)
            self.count += 1
        elif number in order[-4000:]:
            if not dup:
                self.errors.append(f"{name} {number} came twice without DUP")
            if self.qos == 2:
                self.errors.append(f"{name} {number} came twice at QoS 2")
        else:
            self.errors.append(f"{name} {number} came after {order[-1]}")
        self.client.send(packet(0x40 if self.qos == 1 else 0x50, ident))


class Broker:
    def __init__(self, path, port, dir):
        self.process = subprocess.Popen(
            [path, "--listen", f"127.0.0.1:{port}", "--store", os.path.join(dir, "store.fby"),
             "--store-size", "64M", "--log", "warn"],
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

    def stop(self):
        self.process.terminate()
        if self.process.wait(timeout=20):
            sys.exit(f"the broker ended with {self.process.returncode}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cycle(args, dir, number, rng, publishers, seen, held, errors):
    port = free_port()
    broker = Broker(args.broker, port, dir)
    online = Subscriber(port, seen, held, errors, args.qos) if number % 3 == 2 else None
    if online:
        online.start()
    running = [Publisher(port, name, start, args.qos) for name, start in publishers.items()]
    for p in running:
        p.start()
    time.sleep(rng.uniform(0.02, 0.6))
    broker.kill()
    for p in running:
        p.join(10)
    if online:
        online.join(10)
    port = free_port()
    broker = Broker(args.broker, port, dir)
    sub = Subscriber(port, seen, held, errors, args.qos)
    if not sub.client.present:
        errors.append("the session is gone")
    sub.start()
    while time.monotonic() - sub.last < 0.5:
        time.sleep(0.05)
    confirmed = lost = 0
    for p in running:
        got = set(seen.get(p.name, []))
        first = publishers[p.name]
        wanted = range(first, p.confirmed + 1)
        confirmed += len(wanted)
        missing = [n for n in wanted if n not in got]
        lost += len(missing)
        if missing:
            errors.append(f"{p.name}: {len(missing)} confirmed messages lost, first {missing[0]}")
        publishers[p.name] = p.next
    sub.client.sock.close()
    if number % 10 == 9:
        broker.stop()
    else:
        broker.kill()
    return confirmed, lost


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--broker", default="target/release/forebay")
    ap.add_argument("--cycles", type=int, default=100)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--qos", type=int, default=1, choices=[1, 2])
    args = ap.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as dir:
        port = free_port()
        broker = Broker(args.broker, port, dir)
        client = Client(port, "line7", False)
        client.subscribe("plant/#", args.qos)
        broker.kill()
        publishers = {f"p{i}": 0 for i in range(4)}
        seen, held, total, failed = {}, {}, 0, 0
        for number in range(args.cycles):
            errors = []
            confirmed, lost = cycle(args, dir, number, rng, publishers, seen, held, errors)
            total += confirmed
            failed += bool(errors)
            print(f"cycle {number}: {confirmed} confirmed, {lost} lost" + "".join("; " + e for e in errors[:5]), flush=True)
            for order in seen.values():
                del order[:-8000]
        print(f"{total} confirmed messages over {args.cycles} kills, seed {args.seed}, QoS {args.qos}")
        print(f"{args.cycles - failed} passed, {failed} failed")
        sys.exit(bool(failed))


if __name__ == "__main__":
    main()
