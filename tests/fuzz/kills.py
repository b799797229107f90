"""Processes killed at random moments: `python tests/fuzz/kills.py --kills 200`.

`lrq encode`, `lrq decode` (of a small image, of many, and of a large one that is written strip by strip) and
`lrq train` run as processes that are ended by SIGKILL, SIGTERM or SIGINT at any moment of their life. Every output must
then be what it was before (absent, or an older file) or what an undisturbed run makes, to the byte. Training goes on
after each kill, and must end in the pack that an undisturbed run makes. Only SIGKILL may leave a temporary file.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image
from seeds import picture

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
OLD = b"an older file"
WEIGHTS = (2, 2, 2, 2, 1)
"""How often each of `jobs` is killed."""
Content = dict[str, bytes]
"""Names of files, below a folder, and what they hold."""


def lrq(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start the command."""
    command = [sys.executable, "-m", "lrcodec", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def content(folder: Path) -> Content:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Job(ABC):
    """A command, and what must hold after it was killed."""

    def __init__(self, name: str, out: Path, *arguments: str | Path):
        self.name, self.out, self.arguments = name, out, arguments
        start = time.perf_counter()
        self.reset(False)
        process = lrq(*arguments)
        message = process.communicate()[1]
        assert process.returncode == 0, message
        self.seconds, self.expected = time.perf_counter() - start, content(out)
        print(f"{name}: undisturbed {self.seconds:.1f} s, {sum(map(len, self.expected.values())):,} bytes", flush=True)
        self.reset(False)

    def reset(self, old: bool) -> None:
        """Empty the folder of the outputs. old: put older files there that the command shall replace."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        if old:
            for name in self.expected:
                (self.out / name).write_bytes(OLD)

    @abstractmethod
    def kill(self, random: Random, number: signal.Signals) -> str:
        """Run the command, and kill it. Returns how it ended; raises AssertionError."""

    def end(self, random: Random, number: signal.Signals) -> str:
        """Start the command, send it a signal at a random moment of its life, and wait. Returns how it ended."""
        process, wait = lrq(*self.arguments), random.uniform(0, 1.05 * self.seconds)
        time.sleep(wait)
        process.send_signal(number)
        message = process.communicate()[1]
        if process.returncode == 0:
            self.seconds = min(self.seconds, wait)  # the first run was slower, or late signals have no effect
            return "had ended"
        if number == signal.SIGKILL:
            assert process.returncode == -number
            return "killed"
        if "lrq: error" not in message and ", in invoke" not in message:
            # Python, or numpy, ends with a traceback of its own as long as the command is not yet in charge.
            return "killed while Python started"
        # Python ends by SIGINT itself if that came while it ran a string, as namedtuple does, even if we caught it.
        assert process.returncode in (130, -signal.SIGINT), (process.returncode, message)
        assert message.splitlines()[-1:] == ["lrq: error: interrupted"] and "Traceback" not in message, message
        return "interrupted, exit code 130"


class Files(Job):
    """A command that writes files, each of them whole or not at all."""

    def kill(self, random: Random, number: signal.Signals) -> str:
        old = random.random() < 0.5
        self.reset(old)
        how = self.end(random, number)
        left = content(self.out)
        temporary = [name for name in left if name.startswith(".lrq-") and name.endswith(".tmp")]
        assert not temporary or how == "killed", f"{temporary} left: {how}"
        for name in temporary:
            del left[name]
        assert left.keys() <= self.expected.keys() and (not old or left.keys() == self.expected.keys()), list(left)
        for name, data in left.items():
            assert data == self.expected[name] or old and data == OLD, f"{name} is damaged"
        if how == "had ended":
            assert left == self.expected
        return how + ", temporary file left" * bool(temporary)


class Training(Job):
    """`lrq train`, which goes on where it was killed until it has made the pack; then anew."""

    def kill(self, random: Random, number: signal.Signals) -> str:
        how = self.end(random, number)
        pack, work = self.out / "pack", self.out / "pack.work"
        if pack.exists():
            self.check(pack)
        if how == "had ended":
            shutil.rmtree(work)
            if random.random() < 0.5:
                shutil.rmtree(pack)
        return how

    def check(self, pack: Path) -> None:
        """The pack must be that of an undisturbed run; its card alone says how long that took."""
        expected = {
            name.removeprefix("pack/"): data for name, data in self.expected.items() if name.startswith("pack/")
        }
        left = content(pack)
        assert left.pop("card.md") and expected.pop("card.md")
        assert left == expected, "another pack"

    def finish(self) -> None:
        """Run to the end."""
        process = lrq(*self.arguments)
        message = process.communicate()[1]
        assert process.returncode == 0, message
        self.check(self.out / "pack")


def jobs(folder: Path) -> list[Files | Training]:
    """All commands, with their inputs in `folder`."""

    def save(name: str, image: np.ndarray) -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
        return path

    def out(name: str) -> Path:
        return folder / name

    small = save("small.png", picture(80, 120))
    encode = Files("encode", out("1"), "encode", small, "-o", out("1") / "a.lrq", "--effort", "0")
    files = [folder / "small.lrq", folder / "large.lrq"]
    for path, image in zip(files, (small, save("large.png", picture(1500, 1500))), strict=True):
        assert lrq("encode", image, "-o", path, "--effort", "0").wait() == 0
    many = []
    for number in range(60):
        many.append(folder / f"{number}.lrq")
        shutil.copy(files[0], many[-1])
    for number in range(12):
        save(f"photos/{number}.png", picture(64, 64 + number))
    return [
        encode,
        Files("decode, small", out("2"), "decode", files[0], "-o", out("2") / "a.png"),
        Files("decode, many", out("3"), "decode", *many, "-f", "--out-dir", out("3")),
        Files("decode, in strips", out("4"), "decode", files[1], "-o", out("4") / "a.png"),
        Training("train", out("5"), "train", folder / "photos", "-o", out("5") / "pack", "--preset", "tiny"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = Random(arguments.seed)
    failures, survived, ends = 0, 0, Counter[tuple[str, str, str]]()
    with tempfile.TemporaryDirectory() as folder:
        commands = jobs(Path(folder))
        while survived + failures < arguments.kills:
            (job,), number = random.choices(commands, WEIGHTS), random.choice(SIGNALS)
            try:
                how = job.kill(random, number)
            except AssertionError as error:
                failures += 1
                how = f"FAILED: {error}"
                print(f"{job.name}, {number.name}: {how}", flush=True)
                job.reset(False)
            else:
                survived += how != "had ended"  # that was no kill
            ends[job.name, number.name, how] += 1
            if how != "had ended" and (survived + failures) % 20 == 0:
                print(f"{survived + failures} kills", flush=True)
        for job in commands:
            if isinstance(job, Training):
                job.finish()
                print("training was finished: the pack of an undisturbed run")
    for (name, number_name, how), count in sorted(ends.items()):
        print(f"{count:4}  {name:<18} {number_name:<8} {how}")
    print(f"{survived} of {survived + failures} kills survived", flush=True)
    sys.exit(bool(failures))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and all they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
