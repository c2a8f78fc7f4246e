"""The training engine: accumulation, early stopping, the lock, what lies beside the student, and exact resuming."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from conftest import Result
from runs import EVERY, begun, command, environment, same_weights

from edgebert.bundle import Bundle
from edgebert.distill import held_out, stage, tensorboard, training
from edgebert.distill.agreement import Agreement
from edgebert.distill.history import History, Point, as_svg
from edgebert.distill.lock import sole_user
from edgebert.distill.recipe import Recipe, Training, override
from edgebert.distill.training import count_steps
from edgebert.errors import EdgeBertError, MissingExtraError, RecipeError

Cli = Callable[..., Result]


def test_a_killed_run_with_accumulation_ends_with_the_loss_and_student_of_an_unbroken_one(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    more = ("--accumulate", "2", "--epochs", "8")
    one, other, work = tmp_path / "one", tmp_path / "other", tmp_path / "work"
    process = begun(command(tiny_teacher, corpus_file, one, *more), work, step=3 * EVERY)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    result = cli(*command(tiny_teacher, corpus_file, one, *more), "--work", work)
    assert result.code == 0, result.err
    assert cli(*command(tiny_teacher, corpus_file, other, *more)).code == 0
    assert same_weights(one, other)
    losses = [Bundle.open(folder).manifest.lineage["final_loss"] for folder in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert (tmp_path / "one.training.csv").read_bytes() == (tmp_path / "other.training.csv").read_bytes()


def test_accumulated_batches_make_fewer_steps() -> None:
    assert count_steps(Training(epochs=2, batch_size=8), 360, 1) == 90
    assert repr(count_steps(Training(epochs=0, batch_size=8), 360, 1)) == "0"
    assert repr(count_steps(Training(epochs=1e-9, batch_size=8), 360, 1)) == "1"
    assert count_steps(Training(epochs=2, batch_size=8, accumulate=4), 360, 1) == 24  # 45 batches are 12 steps
    assert count_steps(Training(epochs=2, batch_size=8, accumulate=4), 360, 2) == 12


def test_training_stops_without_a_gain_and_keeps_the_best_student(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.1, 0.5, 0.9, 0.8, 0.7])  # before training, then after every eighth of it
    monkeypatch.setattr(held_out, "agreement", lambda *_: Agreement(next(values, 0.3), None, 40))
    kept: list[dict[str, Any]] = []
    keep = training.keep_best

    def note(folder: Path, model: Any, point: Point) -> None:
        keep(folder, model, point)
        kept.append({k: v.clone() for k, v in model.encoder.backbone.state_dict().items()})

    monkeypatch.setattr(training, "keep_best", note)
    out = tmp_path / "student"
    result = cli(*command(tiny_teacher, corpus_file, out, "--patience", "2"))
    assert result.code == 0, result.err
    assert "stopped at step 88: no gain since step 44, whose student is kept" in result.err
    assert Bundle.open(out).manifest.lineage["early_stop"] == {"stopped_at": 88, "kept_step": 44}
    from safetensors.torch import load_file

    written = load_file(out / "model.safetensors")
    assert len(kept) == 2
    assert all(torch.equal(written[name], kept[-1][name]) for name in written)


def test_a_student_that_was_better_before_is_told(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, last, expected in (("worse", 0.88, True), ("near", 0.895, False)):
        values = iter([0.1, 0.5, 0.9])
        monkeypatch.setattr(held_out, "agreement", lambda *_, v=values, e=last: Agreement(next(v, e), None, 40))
        result = cli(*command(tiny_teacher, corpus_file, tmp_path / name))
        assert result.code == 0, result.err
        told = f"the agreement was 0.9000 at step 44 and is {last:.4f} at the end; with --patience 8 the best model"
        assert (told in result.err) is expected


def test_a_run_that_stopped_early_stays_stopped_when_it_was_ended_before_its_student_was_written(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.1, 0.5, 0.9, 0.8, 0.7])
    monkeypatch.setattr(held_out, "agreement", lambda *_: Agreement(next(values, 0.95), None, 40))
    out = tmp_path / "student"
    arguments = command(tiny_teacher, corpus_file, out, "--patience", "2", "--work", tmp_path / "work")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "_write", interrupted)
        assert cli(*arguments).code == 130
    result = cli(*arguments)
    assert result.code == 0, result.err
    assert "stopped at step 88: no gain since step 44, whose student is kept" in result.err
    assert Bundle.open(out).manifest.lineage["early_stop"] == {"stopped_at": 88, "kept_step": 44}


def test_patience_and_qat_are_not_used_together() -> None:
    with pytest.raises(RecipeError, match=r"training.patience is 2 and training.qat 0.25"):
        override(Recipe(), "training", patience=2, qat=0.25)
    for name, value in (("accumulate", 0), ("patience", -1)):
        with pytest.raises(RecipeError, match=f"training.{name} is {value}; it must be"):
            override(Recipe(), "training", **{name: value})


def test_a_folder_in_use_is_refused_with_its_holder_and_free_afterwards(tmp_path: Path) -> None:
    with (
        sole_user(tmp_path / "run"),
        pytest.raises(EdgeBertError, match=rf"is in use by process {os.getpid()} on .*--work"),
        sole_user(tmp_path / "run"),
    ):
        pytest.fail("two were in")
    assert not (tmp_path / "run").exists()
    with sole_user(tmp_path / "run"):
        assert (tmp_path / "run" / "lock").exists()


def test_the_lock_of_a_killed_process_keeps_nobody_out(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom edgebert.distill.lock import sole_user\n"
        "with sole_user(Path(sys.argv[1])):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False, env=environment(tmp_path))
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "run" / "lock").exists()
    with sole_user(tmp_path / "run"):
        pass


def test_a_checkpoint_with_weights_that_are_no_numbers_is_not_kept(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = training.Figures.on_step_end

    def spoilt(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        end(self, args, state, control, **more)
        if state.global_step == 2 * EVERY:
            next(p for p in self.run.model.parameters() if p.requires_grad).data[0] = float("nan")

    monkeypatch.setattr(training.Figures, "on_step_end", spoilt)
    work = tmp_path / "work"
    result = cli(*command(tiny_teacher, corpus_file, tmp_path / "student", "--work", work))
    assert result.code == 1
    assert "became NaN or infinite: try a lower learning rate than 0.001 or precision fp32" in result.err
    assert f"checkpoint-{EVERY}" in result.err
    assert [path.name for path in work.glob("*/checkpoint-*")] == [f"checkpoint-{EVERY}"]


def test_figures_lie_beside_the_student_and_not_in_it(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    result = cli(*command(tiny_teacher, corpus_file, out, "--epochs", "1"))
    assert result.code == 0, result.err
    assert "teacher: openvino fp32" in result.err
    Bundle.open(out).check()
    assert not list(out.rglob("*training*"))
    rows = list(csv.DictReader((tmp_path / "student.training.csv").read_text(encoding="utf-8").splitlines()))
    assert int(rows[-1]["step"]) == 45
    assert sum(bool(row["agreement"]) for row in rows) == 9
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    picture = (tmp_path / "student.training.svg").read_text(encoding="utf-8")
    assert len(ElementTree.fromstring(picture).findall("{http://www.w3.org/2000/svg}polyline")) == 2
    assert picture.count("http") == 1  # the name space alone


def test_a_history_knows_its_best_and_its_picture_stands_titles_and_nothing() -> None:
    history = History([Point(1, 1.0, 0.5), Point(2, 0.9), Point(3, 0.8, 0.7), Point(4, 0.7, 0.7), Point(5, 0.7, 0.6)])
    assert (history.best, history.without_gain) == (Point(3, 0.8, 0.7), 2)
    assert (History().best, History().without_gain) == (None, 0)
    for one in (history, History()):
        assert ElementTree.fromstring(as_svg(one, "a < b & c")) is not None


def test_a_log_for_tensorboard_has_every_curve_and_is_no_part_of_the_student(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out, log = tmp_path / "student", tmp_path / "log"
    result = cli(*command(tiny_teacher, corpus_file, out, "--epochs", "1", "--tensorboard", log))
    assert result.code == 0, result.err
    events = EventAccumulator(str(log))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["training/agreement", "training/learning_rate", "training/loss"]
    with (tmp_path / "student.training.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    losses = [(event.step, event.value) for event in events.Scalars("training/loss")]
    assert losses == [(int(row["step"]), pytest.approx(float(row["loss"]), abs=1e-5)) for row in rows]
    assert "tensorboard" not in (out / "edgebert.json").read_text(encoding="utf-8").replace('"tensorboard": null', "")


def test_without_tensorboard_a_log_is_refused_before_any_work(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'tensorboard', which is not installed: .*edgebert\[tensorboard\]"):
        tensorboard.require_tensorboard()
    result = cli(*command(tiny_teacher, corpus_file, tmp_path / "student", "--tensorboard", tmp_path / "log"))
    assert result.code == 1
    assert "edgebert[tensorboard]" in result.err
    assert not (tmp_path / "log").exists()
