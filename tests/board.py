#!/usr/bin/env python3
"""Firmware in QEMU, killed at random: `tests/board.py [broker|leaf] [--kills N] [--seed S]`.

Runs the firmware of boards/qemu-mps2-an386 (`cargo firmware` builds it) on a flash that is a file, and
kills QEMU again and again, at any moment.

broker  The whole broker on the microcontroller, killed while it mounts, publishes or hands out. What it
        said was confirmed has to be there at the next start, once and in order; readings whose
        acknowledgement was under way may come again, and only these.
leaf    A leaf publishes readings and hands them to a gateway over its UART. The leaf is killed, the gateway
        is killed, the line is cut, at random; mosquitto_sub reads from the gateway now and then. It has to
        get every reading that the leaf stored: none missing, none twice, in order.

Needs Python's own library, qemu-system-arm, and for the leaf mosquitto_sub and a gateway. Prints a line every
hundred kills and `N passed, M failed` at the end."""

import argparse, json, os, pty, random, select, socket, subprocess, sys, tempfile, threading, time, tty

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGES = os.path.join(HERE, "../boards/qemu-mps2-an386/target/thumbv7em-none-eabihf/release")


class Firmware:
    """A firmware in QEMU; its UART is read line by line unless it is somewhere else."""

    def __init__(self, image, *words, serial="stdio"):
        config = "enable=on,target=native" + "".join(f",arg={word}" for word in words)
        self.process = subprocess.Popen(
            ["qemu-system-arm", "-machine", "mps2-an386", "-cpu", "cortex-m4", "-display", "none", "-monitor", "none",
             "-serial", serial, "-semihosting-config", config, "-kernel", image],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines, self.changed = [], threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            # What was cut off by a kill was not said.
            if line.endswith(b"\n"):
                with self.changed:
                    self.lines.append(line.decode().strip())
                    self.changed.notify_all()
        with self.changed:
            self.lines.append(None)
            self.changed.notify_all()

    def wait_for(self, beginning, timeout=20):
        """Waits for a line; false if the firmware ended before it."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                for line in self.lines:
                    if line is None:
                        return False
                    if line.startswith(beginning):
                        return True
                if not self.changed.wait(deadline - time.monotonic()):
                    sys.exit(f"the firmware did not say {beginning!r}, but {self.lines[-5:]}")

    def kill(self):
        self.process.kill()
        return self.end()

    def end(self):
        """What it had said, once it is over."""
        self.process.wait()
        self.reader.join()
        return [line for line in self.lines if line is not None]


def numbers(lines, word):
    """The numbers behind a word, one a line."""
    return [int(line.split()[1]) for line in lines if line.startswith(word + " ")]


class Broker:
    """The broker alone: publish until killed, drain, compare."""

    def __init__(self, args, dir, rng):
        self.image, self.flash, self.rng = os.path.join(args.firmware, "broker"), os.path.join(dir, "flash.img"), rng
        self.kills = self.confirmed = self.doubled = 0
        self.doing = "broker"

    def start(self, job):
        return Firmware(self.image, self.flash, job)

    def publish(self):
        """Publishes until it is killed; what was confirmed, in order."""
        firmware = self.start("publish")
        # Some die while they mount.
        if self.rng.random() < 0.8:
            firmware.wait_for("mounted")
        time.sleep(self.rng.uniform(0, 0.12))
        self.kills += 1
        return numbers(firmware.kill(), "confirmed")

    def drain(self, errors):
        """Drains, killed on the way or not; what came, without repetitions."""
        came, doubtful = [], 0
        while True:
            firmware = self.start("drain")
            if self.rng.random() < 0.4:
                firmware.wait_for("mounted")
                time.sleep(self.rng.uniform(0, 0.05))
                self.kills += 1
                lines = firmware.kill()
            else:
                firmware.wait_for("empty")
                lines = firmware.end()
            for number in numbers(lines, "reading"):
                if not came or number > came[-1]:
                    came.append(number)
                elif number in came[-doubtful:]:
                    self.doubled += 1
                else:
                    errors.append(f"reading {number} came again, after {came[-1]}")
            if "empty" in lines:
                return came
            # Their acknowledgements may have been lost, at the earliest those of one delay of writing.
            doubtful = len(came)

    def cycle(self):
        errors, confirmed = [], []
        for _ in range(self.rng.randint(1, 4)):
            confirmed += self.publish()
        came = self.drain(errors)
        missing = sorted(set(confirmed) - set(came))
        if missing:
            errors.append(f"{len(missing)} confirmed readings lost, first {missing[0]}")
        if came != sorted(came):
            errors.append("out of order")
        self.confirmed += len(confirmed)
        return errors

    def finish(self):
        return []

    def summary(self):
        return f"broker: {self.confirmed} confirmed, {self.doubled} handed out again after a kill before their acknowledgement was written"


class Line:
    """A serial line: QEMU's UART at one end, a pseudo terminal for the gateway at the other. It can be cut."""

    def __init__(self, dir):
        self.path = os.path.join(dir, "line")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        # The terminal stays, whoever opens and closes it.
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.terminal = os.ttyname(self.slave)
        self.is_cut = False
        threading.Thread(target=self.carry, daemon=True).start()

    def carry(self):
        uart = None
        while True:
            ready, _, _ = select.select([self.listener, self.master] + ([uart] if uart else []), [], [])
            if self.listener in ready:
                if uart:
                    uart.close()
                uart, _ = self.listener.accept()
                continue
            if uart in ready:
                try:
                    data = uart.recv(4096)
                except OSError:
                    data = b""
                if not data:
                    uart.close()
                    uart = None
                self.put(data)
            if self.master in ready:
                data = os.read(self.master, 4096)
                if uart and not self.is_cut:
                    try:
                        uart.sendall(data)
                    except OSError:
                        pass

    def put(self, data):
        """What a line cannot carry on is lost."""
        if not self.is_cut:
            try:
                os.write(self.master, data)
            except BlockingIOError:
                pass


class Reader:
    """mosquitto_sub with a session that stays; every reading has to be the one after the last.

    It comes now and then and leaves in the middle, so acknowledgements of its last readings may be lost with its
    connection, and MQTT hands these out again. They come under the packet id they had, which follows
    from their place in the session's queue: so a reading that is in the gateway twice is told from them."""

    def __init__(self, port):
        self.port, self.last, self.lost, self.doubled, self.again = port, 0, 0, 0, 0
        self.idents = {}
        self.read("-E")

    def read(self, *options):
        done = subprocess.run(
            ["mosquitto_sub", "-p", str(self.port), "-c", "-i", "reader", "-q", "1", "-t", "plant/#", "-F", "%m %p",
             *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        errors = []
        for line in done.stdout.splitlines():
            ident, text = line.split(b" ", 1)
            number, ident = json.loads(text)["n"], int(ident)
            if number <= self.last and self.idents.get(ident) == number:
                self.again += 1
            elif number <= self.last:
                self.doubled += 1
                errors.append(f"reading {number} came again as packet {ident}, after {self.last}")
            elif number > self.last + 1:
                self.lost += number - self.last - 1
                errors.append(f"readings {self.last + 1} to {number - 1} are missing")
            self.last = max(self.last, number)
            self.idents[ident] = number
        return errors


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Leaf:
    """A leaf, a line, a gateway, a reader."""

    def __init__(self, args, dir, rng):
        self.image, self.flash, self.rng = os.path.join(args.firmware, "leaf"), os.path.join(dir, "flash.img"), rng
        self.broker, self.dir, self.port, self.line = args.broker, dir, free_port(), Line(dir)
        self.kills = self.gateway_kills = self.cuts = self.stored = self.known = 0
        self.gateway = self.firmware = None
        self.doing, self.turn = "start", 0
        self.start_gateway()
        self.reader = Reader(self.port)
        self.start_firmware(10)

    def start_gateway(self):
        self.gateway = subprocess.Popen(
            [self.broker, "--listen", f"127.0.0.1:{self.port}", "--store", os.path.join(self.dir, "store.fby"),
             "--store-size", "64M", "--log", "warn", "--set", "amqp.listen=[]",
             "--set", f'wire.listen=["serial://{self.line.terminal}?baud=115200"]'], stdout=subprocess.DEVNULL)
        for _ in range(1000):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if self.gateway.poll() is not None:
                    sys.exit(f"the gateway ended with {self.gateway.returncode}")
                time.sleep(0.01)
        sys.exit("the gateway did not come up")

    def start_firmware(self, every_ms):
        self.firmware = Firmware(self.image, self.flash, "line7", every_ms, serial=f"unix:{self.line.path}")

    def note(self, lines):
        self.stored = max([self.stored] + numbers(lines, "stored"))
        self.known = max([self.known] + numbers(lines, "confirmed"))

    def kill_firmware(self):
        self.note(self.firmware.kill())
        self.kills += 1

    def confirmed(self):
        """The gateway has everything up to this reading: the leaf was told."""
        with self.firmware.changed:
            self.note([line for line in self.firmware.lines if line])
        return self.known

    def read_up_to(self, number):
        # Exactly so many: what mosquitto_sub is handed after its own time is up it acknowledges and does not print.
        errors, tries = [], 0
        while self.reader.last < number and tries < 20:
            errors += self.reader.read("-C", str(number - self.reader.last), "-W", "60")
            tries += 1
        return errors

    def kill_gateway(self):
        self.gateway.kill()
        self.gateway.wait()
        self.kills += 1
        self.gateway_kills += 1

    def cycle(self):
        what = self.rng.random()
        time.sleep(self.rng.uniform(0, 0.3))
        self.doing = "gateway" if what < 0.1 else "both" if what < 0.2 else "line" if what < 0.3 else "leaf"
        if what < 0.1:
            self.kill_gateway()
            time.sleep(self.rng.uniform(0, 0.2))
            self.start_gateway()
        elif what < 0.2:
            # While it is away, readings gather on the leaf, which is killed as well.
            self.kill_gateway()
            time.sleep(self.rng.uniform(0, 0.3))
            self.kill_firmware()
            self.start_firmware(self.rng.choice([1, 5, 20]))
            self.start_gateway()
        elif what < 0.3:
            self.line.is_cut = True
            self.cuts += 1
            time.sleep(self.rng.uniform(0, 0.3))
            self.line.is_cut = False
        else:
            self.kill_firmware()
            self.start_firmware(self.rng.choice([1, 5, 20]))
            # Some die while they mount.
            if self.rng.random() < 0.8:
                self.firmware.wait_for("mounted")
        self.turn += 1
        if self.turn % 20:
            return []
        self.doing = "read"
        return self.read_up_to(self.confirmed())

    def finish(self):
        """No new readings: everything that was stored has to arrive now."""
        self.kill_firmware()
        self.start_firmware(86_400_000)
        self.doing, errors = "end", []
        errors += self.read_up_to(self.stored)
        # Nothing may come behind the last.
        errors += self.reader.read("-W", "5")
        if self.reader.last < self.stored:
            errors.append(f"readings {self.reader.last + 1} to {self.stored} did not arrive")
        self.firmware.kill()
        self.gateway.kill()
        self.gateway.wait()
        return errors

    def summary(self):
        return (f"leaf: {self.gateway_kills} of the kills were the gateway's, {self.cuts} cuts of the line; readings up to "
                f"{self.stored} stored, up to {self.reader.last} read, {self.reader.lost} lost, {self.reader.doubled} doubled; {self.reader.again} handed out again by MQTT")


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("scene", nargs="?", default="leaf", choices=["broker", "leaf"])
    ap.add_argument("--firmware", default=IMAGES, help="where the images are")
    ap.add_argument("--broker", default="target/release/forebay", help="the gateway")
    ap.add_argument("--kills", type=int, default=100)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    rng = random.Random(args.seed)
    passed = failed = said = 0

    def judge(errors):
        nonlocal passed, failed
        passed, failed = passed + (not errors), failed + bool(errors)
        for error in errors[:5]:
            print(f"FAILED at kill {scene.kills}, {scene.doing}: {error}", flush=True)

    with tempfile.TemporaryDirectory() as dir:
        scene = {"broker": Broker, "leaf": Leaf}[args.scene](args, dir, rng)
        while scene.kills < args.kills:
            judge(scene.cycle())
            if scene.kills // 100 > said:
                said = scene.kills // 100
                print(f"{scene.kills} kills; {scene.summary()}", flush=True)
        judge(scene.finish())
        print(f"{scene.kills} kills, seed {args.seed}; {scene.summary()}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
