"""Fine-tuning on two processes, of several tasks: a run that is killed goes on to the very same model."""

from __future__ import annotations

from pathlib import Path

from helpers import make_teacher
from runs import checkpoints, finished, killed, same_weights, together
from tasks import made

from edgebert.bundle import Bundle

TASKS = """
[[tasks]]
name = "mood"
task = "classify"
train = ["mood.jsonl"]
dev = ["mood.jsonl"]

[[tasks]]
name = "things"
task = "tag"
train = ["things.jsonl"]
dev = ["things.jsonl"]
"""


def test_two_processes_that_are_killed_go_on_to_the_very_same_model(tmp_path: Path) -> None:
    base = make_teacher(tmp_path / "base", layers=2)
    made.write_rows(tmp_path / "mood.jsonl", made.class_rows(130, seed=1))
    made.write_rows(tmp_path / "things.jsonl", made.tag_rows(90, seed=2))  # no whole number of batches of either
    (tmp_path / "tasks.toml").write_text(TASKS, encoding="utf-8")
    command = [
        "finetune", str(base), "--task", "multi", "--tasks", str(tmp_path / "tasks.toml"), "--batch-size", "8",
        "--epochs", "6", "--precision", "fp32", "--learning-rate", "1e-3", "-o",
    ]  # fmt: skip
    finished(together([*command, str(tmp_path / "unbroken")], tmp_path / "cache"))
    broken = [*command, str(tmp_path / "model"), "--work", str(tmp_path / "work")]
    killed(together(broken, tmp_path / "cache"), tmp_path / "work", step=50)  # of 90 steps, 15 an epoch
    assert 50 <= checkpoints(tmp_path / "work")[-1] < 90
    finished(together(broken, tmp_path / "cache"))
    assert same_weights(tmp_path / "model", tmp_path / "unbroken")
    assert Bundle.open(tmp_path / "model").manifest.quality == Bundle.open(tmp_path / "unbroken").manifest.quality
