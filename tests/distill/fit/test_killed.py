"""A fit that is killed, and goes on to what an unbroken one finds."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result
from helpers import sentences
from runs import environment, same_weights

Cli = Callable[..., Result]
BOX = "".join(
    f"[[measured]]\nlayers = {layers}\nwidth = 64\nheads = 4\nfeed_forward = 128\np50_ms = {layers}\n"
    f"p99_ms = {layers}\ntexts_per_second = {100 / layers}\n"
    for layers in (1, 2)
)


def killed_after_a_rung(arguments: list[str], work: Path) -> None:
    """Runs the fit in a process and kills it as soon as the first student of a rung is complete."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edgebert", *arguments], env=environment(work.parent / "cache"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not [path for path in work.glob("*/rungs/*/*/edgebert.json") if ".partial" not in str(path)]:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no student was trained: {process.communicate()[1]}")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_fit_goes_on_to_the_same_student(
    tiny_teacher: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "corpus.txt": "\n".join(sentences(240)) + "\n",
        "space.toml": "layers = [1, 2]\nvocabulary = [0]\ntables = [8]\n",
        "box.toml": f'name = "box"\ndescription = "a box"\nartifacts = ["openvino-int8"]\n{BOX}',
        "recipe.toml": '[training]\nprecision = "fp32"\nbatch_size = 16\nepochs = 2\n[data]\nheld_out = 40\n',
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("EDGEBERT_CACHE", str(tmp_path / "cache"))

    def arguments(run: str) -> list[str]:
        files = [part for name in ("space", "recipe", "corpus") for part in (f"--{name}", tmp_path / f"{name}.toml")]
        files[-1] = tmp_path / "corpus.txt"
        parts = ("fit", tiny_teacher, *files, "--device", tmp_path / "box.toml", "--min-retention", 0.2, "--p99-ms", 9,
                 "--work", tmp_path / run / "work", "-o", tmp_path / run / "out")  # fmt: skip
        return [str(part) for part in parts]

    killed_after_a_rung(arguments("broken"), tmp_path / "broken" / "work")
    assert not (tmp_path / "broken" / "out").exists()
    for run in ("broken", "whole"):
        result = cli(*arguments(run))
        assert result.code == 0, result.err
    assert same_weights(tmp_path / "broken" / "out", tmp_path / "whole" / "out")
    texts = [(tmp_path / run / "out.fit.csv").read_text(encoding="utf-8") for run in ("broken", "whole")]
    tables = [list(csv.reader(text.splitlines())) for text in texts]
    broken, whole = ([[*row[:1], *row[2:]] for row in table] for table in tables)  # without the size
    assert broken == whole
    assert not list((tmp_path / "broken" / "work").glob("*/runs/*"))
    assert not list((tmp_path / "broken").glob(".*"))
