"""Runs that are killed or interrupted, and that go on; several processes; a machine without the workshop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Result
from helpers import make_teacher, sentences
from runs import EVERY, STEPS, begun, checkpoints, command, environment, finished, killed, same_weights, together

from edgebert.bundle import Bundle
from edgebert.distill import prepare, stage, teacher, training
from edgebert.distill.job import run_key
from edgebert.distill.recipe import Recipe

Cli = Callable[..., Result]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 sentences, of which 40 are held out."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(sentences(400)) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path, corpus: Path) -> Path:
    """The student of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("unbroken")
    subprocess.run(
        [sys.executable, "-m", "edgebert", *command(tiny_teacher, corpus, folder / "student")],
        env=environment(folder / "cache"), check=True, capture_output=True,
    )  # fmt: skip
    return folder / "student"


@pytest.fixture
def started_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps at which training began in this process."""
    steps: list[int] = []
    begin = training.Figures.on_train_begin

    def note(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        steps.append(state.global_step)
        begin(self, args, state, control, **more)

    monkeypatch.setattr(training.Figures, "on_train_begin", note)
    return steps


def test_a_run_killed_in_training_goes_on_to_the_very_same_student(
    tiny_teacher: Path, corpus: Path, unbroken: Path, tmp_path: Path, cli: Cli, started_at: list[int]
) -> None:
    out, work = tmp_path / "student", tmp_path / "work"
    arguments = command(tiny_teacher, corpus, out)
    process = begun(arguments, work, step=3 * EVERY)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    left = checkpoints(work)
    assert 3 * EVERY <= left[-1] < STEPS
    result = cli(*arguments, "--work", work)
    assert result.code == 0, result.err
    assert started_at == [left[-1]]
    assert same_weights(out, unbroken)
    assert list(work.glob("*/checkpoint-*")) == []


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, complete in ((90, True), (100, True), (110, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{step}" / "complete").touch()
    assert training.newest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert not (tmp_path / "checkpoint-110").exists()
    assert training.newest_checkpoint(tmp_path / "nothing") is None


def test_an_interrupt_in_training_keeps_a_checkpoint_and_a_second_run_finishes(
    tiny_teacher: Path, corpus: Path, unbroken: Path, tmp_path: Path, cli: Cli, started_at: list[int]
) -> None:
    out, work = tmp_path / "student", tmp_path / "work"
    arguments = command(tiny_teacher, corpus, out)
    process = begun(arguments, work, step=EVERY)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "interrupted: writing a checkpoint (Ctrl-C again stops at once)" in err
    assert err.splitlines()[-1] == "edgebert: interrupted"
    assert "Traceback" not in err
    assert not out.exists()
    assert list(tmp_path.glob(".*.partial")) == []
    left = checkpoints(work)
    assert EVERY <= left[-1] < STEPS
    result = cli(*arguments, "--work", work)
    assert result.code == 0, result.err
    assert started_at == [left[-1]]
    assert same_weights(out, unbroken)


def test_an_interrupt_at_the_last_step_loses_nothing(
    tiny_teacher: Path, corpus: Path, unbroken: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, work = tmp_path / "student", tmp_path / "work"
    end = training.Figures.on_step_end

    def interrupted(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == STEPS:
            os.kill(os.getpid(), signal.SIGINT)
        end(self, args, state, control, **more)

    with monkeypatch.context() as patched:
        patched.setattr(training.Figures, "on_step_end", interrupted)
        assert cli(*command(tiny_teacher, corpus, out, "--work", work)).code == 130
    assert not out.exists()
    assert checkpoints(work)[-1] == STEPS
    assert cli(*command(tiny_teacher, corpus, out, "--work", work)).code == 0
    assert same_weights(out, unbroken)


def test_a_second_interrupt_stops_at_once(
    tiny_teacher: Path, corpus: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def interrupted(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        seen.append(state.global_step)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    monkeypatch.setattr(training.Figures, "on_step_end", interrupted)
    before = signal.getsignal(signal.SIGINT)
    result = cli(*command(tiny_teacher, corpus, tmp_path / "student", "--work", tmp_path / "work"))
    assert result.code == 130
    assert seen == [1]
    assert checkpoints(tmp_path / "work") == []
    assert not (tmp_path / "student").exists()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (prepare, "_Writer.write"),
        (teacher, "TeacherCache._answers"),
        (stage, "build_model"),
        (stage, "write_model"),
        (stage, "model_card"),
        (stage, "seal"),
    ],
)
def test_an_interrupt_anywhere_leaves_nothing_half_written_and_a_second_run_finishes(
    module: Any, name: str, tiny_teacher: Path, corpus: Path, tmp_path: Path, cli: Cli, own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "student"
    arguments = command(tiny_teacher, corpus, out, "--epochs", "0.1")
    with monkeypatch.context() as patched:
        owner, _, attribute = name.rpartition(".")
        patched.setattr(getattr(module, owner) if owner else module, attribute, interrupted)
        result = cli(*arguments)
    assert result.code == 130
    assert result.err.splitlines()[-1] == "edgebert: interrupted"
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == []
    assert list(own_cache.rglob("*.partial")) == []
    result = cli(*arguments)
    assert result.code == 0, result.err
    Bundle.open(out).check()
    assert list((own_cache / "runs").iterdir()) == []


def test_two_processes_train_one_student(tiny_teacher: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    told = finished(together(command(tiny_teacher, corpus, out, "--epochs", "2"), tmp_path / "cache"))
    bundle = Bundle.open(out)
    bundle.check()
    assert bundle.manifest.quality[0].value > bundle.manifest.lineage["agreement_before_training"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cache", "student", "student.training.csv", "student.training.svg",
    ]  # fmt: skip
    assert list((tmp_path / "cache" / "runs").iterdir()) == []
    # 360 sentences in batches of 8 on two processes are 23 steps, twice
    assert "training: 46 of 46" in told


def test_two_processes_that_are_killed_in_a_later_epoch_go_on_to_the_very_same_student(
    tiny_teacher: Path, corpus: Path, tmp_path: Path
) -> None:
    finished(together(command(tiny_teacher, corpus, tmp_path / "unbroken"), tmp_path / "cache"))
    arguments = [*command(tiny_teacher, corpus, tmp_path / "student"), "--work", str(tmp_path / "work")]
    killed(together(arguments, tmp_path / "cache"), tmp_path / "work", step=50)  # of 92 steps, 23 an epoch
    assert 50 <= checkpoints(tmp_path / "work")[-1] < 92
    finished(together(arguments, tmp_path / "cache"))
    assert same_weights(tmp_path / "student", tmp_path / "unbroken")
    one = Bundle.open(tmp_path / "student").manifest.lineage["final_loss"]
    assert one == pytest.approx(Bundle.open(tmp_path / "unbroken").manifest.lineage["final_loss"], abs=1e-5)


def test_two_processes_train_where_no_objective_reaches_the_last_weights(
    tiny_teacher: Path, corpus: Path, tmp_path: Path
) -> None:
    arguments = command(tiny_teacher, corpus, tmp_path / "student", "--epochs", "0.3", "--width", "32")
    finished(together([*arguments, "--vector", "0", "--similarity", "0"], tmp_path / "cache"))
    assert Bundle.open(tmp_path / "student").manifest.dense == ("2_Dense",)


def test_a_run_on_more_processes_is_another_run(tiny_teacher: Path, corpus: Path, tmp_path: Path) -> None:
    facts = Bundle.from_pretrained(tiny_teacher), "text", Recipe()
    assert run_key(*facts, 1) != run_key(*facts, 2)
    assert run_key(*facts, 1) == run_key(*facts, 1)


def test_a_teacher_that_reads_otherwise_is_another_run(tmp_path: Path) -> None:
    folder = make_teacher(tmp_path / "model", layers=1, width=32)
    keys = [run_key(Bundle.from_pretrained(folder), "text", Recipe())]
    settings = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
    shorter = settings | {"max_seq_length": settings["max_seq_length"] - 1}
    (folder / "sentence_bert_config.json").write_text(json.dumps(shorter), encoding="utf-8")
    keys.append(run_key(Bundle.from_pretrained(folder), "text", Recipe()))
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(content | {"normalizer": None}), encoding="utf-8")
    keys.append(run_key(Bundle.from_pretrained(folder), "text", Recipe()))
    assert len(set(keys)) == 3


def test_standard_input_is_not_shared_by_several_processes(
    tiny_teacher: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "PartialState", lambda **_: SimpleNamespace(is_main_process=True, num_processes=2))
    result = cli(*command(tiny_teacher, Path("-"), tmp_path / "student"))
    assert result.code == 1
    assert result.err == (
        "edgebert: standard input (-) cannot be shared by several processes: write the text to a file first\n"
    )


@pytest.mark.parametrize(
    ("arguments", "package", "what"),
    [
        (("distill", "t", "--corpus", "c", "-o", "out"), "torch", "edgebert distill"),
        (("distill", "t", "--corpus", "c", "-o", "out"), "accelerate", "edgebert distill"),
        (("quantize", "t", "--calibration", "c", "-o", "out"), "torch", "edgebert quantize"),
        (("quantize", "t", "--calibration", "c", "-o", "out"), "onnxruntime.quantization", "edgebert quantize"),
    ],
)
def test_a_machine_without_the_workshop_is_told_what_to_install(
    arguments: tuple[str, ...], package: str, what: str, tmp_path: Path
) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from edgebert.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"edgebert: {what} needs the package {package!r}, which is not installed: pip install 'edgebert[workshop]'\n"
    )
    assert list(tmp_path.iterdir()) == []
