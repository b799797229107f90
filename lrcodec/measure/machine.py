"""What measured: the machine and the versions, without names of hosts or paths."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..runtime import cores

PACKAGES = """
lrcodec numpy pillow onnxruntime constriction torch pillow-jxl-plugin scikit-image scipy bjontegaard ssimulacra2
""".split()


def machine() -> dict[str, Any]:
    """System, kind of machine, name of the processor ("" if it is not known), and how many this process may use."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpus": cores(),
    }


def _processor() -> str:
    """As Linux tells it, where Python knows little more than the kind of machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def versions() -> dict[str, str]:
    """The versions of Python and of those `PACKAGES` that are installed."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
