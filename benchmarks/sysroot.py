"""A small arm64 Debian with Python, numpy and the engines, in which qemu runs them.

It is made from packages by apt-get and pip into a folder of its own, apt-get's lists too: the system's packages and
architectures stay as they are. The engines have the versions that are installed here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from edgebert.errors import EngineError
from edgebert.files import new_folder

DEBIAN = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1")
WHEELS = ("numpy", "onnxruntime", "openvino")
GLIBC = (39, 36, 35, 34, 31, 28, 27, 26, 17)  # of the manylinux wheels that a Debian can take, the newest first
# Without these two `import onnxruntime` crashes: it asks the processor's name of the system, not of the processor.
MIDR = "0x00000000413fd0c1\n"
CPUINFO = """processor\t: {core}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""


class MissingTool(EngineError):
    """Something that emulation needs is not on this machine; the message says what to install."""


def arm64_sysroot() -> Path:
    """The folder of the system, made at the first call (about 300 MB).

    It lies in EDGEBERT_SYSROOTS, else in the user's cache folder; a change of the recipe or of a version makes another.

    Raises: MissingTool when apt-get, dpkg-deb or pip is missing or cannot fetch something.
    """
    wheels = [f"{name}=={version(name)}" for name in WHEELS]
    recipe = hashlib.sha256("\n".join([Path(__file__).read_text("utf-8"), *wheels]).encode()).hexdigest()[:12]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("EDGEBERT_SYSROOTS") or user / "edgebert-sysroots") / f"arm64-{recipe}"
    if not root.exists():
        with new_folder(root.absolute()) as partial:
            _debian(partial)
            _wheels(partial, wheels)
            _processor(partial)
    return root


def python_command(root: Path) -> tuple[str, ...]:
    """The Python of `root` with its libraries, to be put behind a qemu command."""
    (python,) = (root / "usr" / "bin").glob("python3.*[0-9]")
    variables = {
        "PYTHONHOME": root / "usr",
        "PYTHONPATH": root / "wheels",
        "LD_LIBRARY_PATH": root / "usr" / "lib" / "aarch64-linux-gnu",
    }
    stated = [part for name, value in variables.items() for part in ("-E", f"{name}={value}")]
    return ("-L", str(root), *stated, str(python), "-S")


def _debian(root: Path) -> None:
    """Fetches the packages with all they depend on, and unpacks them; nothing is installed or run."""
    state = root / "apt"
    for folder in ("lists/partial", "archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()  # as if nothing were installed
    settings = {
        "APT::Architecture": "arm64", "APT::Architectures": "arm64", "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "root", "Debug::NoLocking": "1", "Acquire::Languages": "none",
        "Dir::State": state, "Dir::State::lists": state / "lists", "Dir::State::status": state / "status",
        "Dir::Cache": state, "Dir::Cache::archives": state / "archives", "Dir::Log": state,
    }  # fmt: skip
    apt = ["apt-get", "-qq", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
    _run([*apt, "update"])
    _run([*apt, "--yes", "--download-only", "install", *DEBIAN])
    for package in sorted((state / "archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", package, root])
    if not (root / "lib").exists():  # newer Debians have it as a link that an installation makes
        (root / "lib").symlink_to("usr/lib")
    shutil.rmtree(state)


def _wheels(root: Path, wheels: Sequence[str]) -> None:
    (python,) = (root / "usr" / "bin").glob("python3.*[0-9]")
    platforms = [part for minor in GLIBC for part in ("--platform", f"manylinux_2_{minor}_aarch64")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    asked = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python.name.removeprefix("python")]
    _run([*pip, *asked, *platforms, "--platform", "manylinux2014_aarch64", "--target", root / "wheels", *wheels])


def _processor(root: Path) -> None:
    """What Linux says about a Neoverse N1 with two cores; qemu looks here first."""
    for path, text in {
        "proc/cpuinfo": "".join(CPUINFO.format(core=core) for core in range(2)),
        "sys/devices/system/cpu/cpu0/regs/identification/midr_el1": MIDR,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def _run(command: Sequence[str | Path]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MissingTool(f"{command[0]} is not on this machine: the arm64 system is made on Debian alone") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[-400:]
        raise MissingTool(f"{Path(command[0]).name} failed while making the arm64 system: {said}")
