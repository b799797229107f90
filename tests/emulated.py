"""Other processors: `python tests/emulated.py [MACHINE...]` decodes the vectors on machines that QEMU emulates.

Those that have ONNX Runtime run `lrq selftest`, with the decoder in C compiled for them; the others the decoder in C
alone. Prints what the machines are and have, and of each way of decoding how many vectors are equal. The exit code is 1
if one is wrong.

On Debian on x86-64, as any user, with these packages:

    apt-get install qemu-user-static mmdebstrap gcc {compilers}

The arm64 Python is Debian's, unpacked into a temporary folder; its wheels are those that pip takes for it.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from lrcodec import selftest

REPOSITORY = Path(__file__).parent.parent
SOURCES = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")
"""Where this machine's own packages come from: one of them is there."""


class Machine(NamedTuple):
    """cpu: as QEMU names it. python: whether there is an ONNX Runtime for it. part: ARM's number of the processor."""

    qemu: str
    cpu: str
    compiler: str
    what: str
    python: bool = False
    part: str = ""

    @property
    def name(self) -> str:
        """On the command line."""
        return f"{self.qemu}:{self.cpu}"

    @property
    def emulator(self) -> list[str]:
        """The command that runs a program of this machine."""
        return [tool(f"qemu-{self.qemu}-static"), "-cpu", self.cpu]


MACHINES = {
    machine.name: machine
    for machine in (
        Machine("aarch64", "cortex-a53", "aarch64-linux-gnu-gcc", "64-bit ARM without dot products", True, "0xd03"),
        Machine("aarch64", "neoverse-n1", "aarch64-linux-gnu-gcc", "64-bit ARM with dot products", True, "0xd0c"),
        Machine("aarch64", "max", "aarch64-linux-gnu-gcc", "64-bit ARM with SVE and SME", True, "0xd40"),
        Machine("x86_64", "Nehalem", "x86_64-linux-gnu-gcc", "x86-64 without AVX", True),
        Machine("x86_64", "max", "x86_64-linux-gnu-gcc", "x86-64 with AVX2, without AVX-512", True),
        Machine("i386", "pentium3", "i686-linux-gnu-gcc", "32 bits, without SSE2"),
        Machine("s390x", "max", "s390x-linux-gnu-gcc", "big-endian"),
    )
}
COMPILERS = sorted({machine.compiler for machine in MACHINES.values()} - {"x86_64-linux-gnu-gcc"})
"""Those that do not come with gcc itself."""


def tool(name: str) -> str:
    """The path of a program."""
    return shutil.which(name) or sys.exit(f"{name} is not here: see python {Path(__file__).name} --help")


def output(*command: str | Path) -> str:
    """What a command prints. Ends the program if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{command[0]} failed: {result.stderr.strip()}")
    return result.stdout


@cache
def arm_root(folder: Path) -> Path:
    """A folder with Debian's Python for arm64, of the same release as this machine's, nothing of it configured."""
    sources = next((path for path in SOURCES if path.is_file()), None)
    release = platform.freedesktop_os_release()
    if sources is None or release["ID"] != "debian":
        sys.exit(f"this is {release['PRETTY_NAME']}, not Debian")
    root, suite = folder / "root", release["VERSION_CODENAME"]
    how = "--quiet", "--mode=chrootless", "--variant=extract"
    what = "--architectures=arm64", "--include=python3,libstdc++6"
    output(tool("mmdebstrap"), *how, *what, suite, root, sources)
    return root


@cache
def arm_wheels(python: tuple[str, ...], folder: Path) -> Path:
    """A folder with all that decoding needs, which the pip of this Python installs in that one."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    how = "--quiet", "--no-compile", "--only-binary=:all:", "--disable-pip-version-check"
    if not (pip := find_spec("pip")) or not pip.origin:
        sys.exit("pip is not here")
    command = *python, str(Path(pip.origin).parent), "install", *how, "--target", str(folder / "wheels")
    output(*command, *project["dependencies"])
    return folder / "wheels"


def python_of(machine: Machine, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The command that starts Python on a machine, and its environment."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(REPOSITORY)}
    if machine.qemu == "x86_64":
        return [*machine.emulator, sys.executable], environment
    root = arm_root(folder)
    # ONNX Runtime reads it, and without one of an ARM it crashes. QEMU 7 would show that of this machine.
    lines = "processor\t: {}", "CPU implementer\t: 0x41", "CPU architecture: 8", f"CPU part\t: {machine.part}\n\n"
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text("".join("\n".join(lines).format(n) for n in range(os.cpu_count() or 1)))
    inside = "-L", str(root), str(root / "usr" / "bin" / "python3")
    wheels = arm_wheels((tool("qemu-aarch64-static"), *inside), folder)
    environment["PYTHONPATH"] += os.pathsep + str(wheels)
    return [*machine.emulator, *inside], environment


def compiled(machine: Machine, folder: Path) -> Path:
    """A program that runs the decoder in C there, on any machine as one of its own."""
    program, start = folder / f"lrqdec-{machine.name}", folder / machine.name
    source = selftest.LRQDEC.with_suffix(".c")
    output(tool(machine.compiler), "-std=c99", "-O3", "-static", "-o", program, source)
    start.write_text(f'#!/bin/sh\nexec {" ".join(machine.emulator)} {program} "$@"\n')
    start.chmod(0o755)
    return start


def in_all_ways(machine: Machine, folder: Path) -> bool:
    """Run `lrq selftest` there; whether all is well."""
    python, environment = python_of(machine, folder)
    command = [*python, "-c", "import numpy; numpy.show_runtime()"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    for name, of_text in re.findall(r"'(baseline|found|not_found)': \[([^]]*)\]", shown):
        print(f"NumPy, {name.replace('_', ' ')}: {', '.join(re.findall(r'[A-Z0-9_]+', of_text)) or 'nothing'}")
    sys.stdout.flush()
    command = [*python, "-m", "lrcodec", "selftest", "--c", str(compiled(machine, folder))]
    return not subprocess.run(command, env=environment, check=False).returncode


def in_c(machine: Machine, folder: Path) -> bool:
    """Run the decoder in C there, from this machine; whether all is well."""
    known, _ = selftest.vectors()
    start = compiled(machine, folder)
    (way,) = (way for way in selftest.ways([start]) if way.name == f"C, {start}")
    outcome = selftest.outcome(way, known)
    equal, wrong = len(known) - len(outcome.wrong), len(outcome.wrong)
    print(f"{equal:>4} equal, {wrong} wrong in {outcome.seconds:6.2f} s: {outcome.name}")
    for vector, what in outcome.wrong.items():
        print(f"     {vector}: {what}")
    return not wrong


def manual() -> str:
    """What this program does and needs."""
    return (__doc__ or "").format(compilers=" ".join(f"gcc-{name.removesuffix('-gcc')}" for name in COMPILERS))


def main() -> None:
    """Run the machines that the command line names, by default all."""
    parser = argparse.ArgumentParser(description=manual(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machines", metavar="MACHINE", nargs="*", help=f"one of {', '.join(MACHINES)}; default: all")
    names = parser.parse_args().machines or [*MACHINES]
    if unknown := {*names} - {*MACHINES}:
        parser.error(f"no such machine: {', '.join(sorted(unknown))}")
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        sys.exit("this needs Linux on x86-64")
    print(output(tool("qemu-x86_64-static"), "--version").splitlines()[0])
    well = True
    with tempfile.TemporaryDirectory(prefix="lrq-") as folder:
        for machine in map(MACHINES.__getitem__, names):
            compiler = output(tool(machine.compiler), "--version").splitlines()[0]
            print(f"\n{machine.name}: {machine.what}; {compiler}", flush=True)
            decode = in_all_ways if machine.python else in_c
            well = decode(machine, Path(folder)) and well
    if not well:
        sys.exit("a vector is wrong")


if __name__ == "__main__":
    main()
