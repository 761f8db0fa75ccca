#!/usr/bin/env python3
"""Firmware in QEMU, killed at random: `tests/board.py [--kills N] [--seed S] [--firmware DIR]`.

Starts the firmware of boards/qemu-mps2-an386 (`cargo firmware` builds it) on a flash that is a file, and
kills QEMU again and again, at any moment: while it mounts, publishes or hands out. What the firmware said
was confirmed has to be there at the next start, once and in order; readings whose acknowledgement was
under way may come again, and only these.

Nothing but Python's own library and qemu-system-arm. Prints a line every hundred kills and
`N passed, M failed` at the end."""

import argparse, os, random, subprocess, sys, tempfile, threading, time

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
    return [int(line.split()[1]) for line in lines if line.startswith(word + " ")]


class Broker:
    """The broker alone: publish until killed, drain, compare."""

    def __init__(self, args, dir, rng):
        self.image, self.flash, self.rng = os.path.join(args.firmware, "broker"), os.path.join(dir, "flash.img"), rng
        self.kills = self.confirmed = self.doubled = 0

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

    def summary(self):
        return f"broker: {self.confirmed} confirmed, {self.doubled} handed out again after a kill before their acknowledgement was written"


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--firmware", default=IMAGES)
    ap.add_argument("--kills", type=int, default=100)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    rng = random.Random(args.seed)
    passed = failed = said = 0
    with tempfile.TemporaryDirectory() as dir:
        scene = Broker(args, dir, rng)
        while scene.kills < args.kills:
            errors = scene.cycle()
            passed, failed = passed + (not errors), failed + bool(errors)
            for error in errors[:5]:
                print(f"FAILED before kill {scene.kills}: {error}", flush=True)
            if scene.kills // 100 > said:
                said = scene.kills // 100
                print(f"{scene.kills} kills; {scene.summary()}", flush=True)
        print(f"{scene.kills} kills, seed {args.seed}; {scene.summary()}")
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
