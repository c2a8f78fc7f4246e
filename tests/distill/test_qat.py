"""Quantization-aware training from end to end: switched off, on, broken off and gone on with, on several processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Result
from helpers import assert_refused, sentences
from runs import STEPS, begun, checkpoints, command, environment, same_weights
from safetensors.torch import load_file

from edgebert.bundle import Bundle
from edgebert.distill import fake_quant, training
from edgebert.distill.encoder import torch_embedder

Cli = Callable[..., Result]
SHARE = "[student]\nlayers = 2\n[training]\nqat = 0.5\n"  # of 180 steps: measured from 90 on, imitated from 99 on
QUICK = ("--layers", "1", "--batch-size", "16", "--held-out", "40", "--precision", "fp32", "--epochs", "0.5")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 sentences, of which 40 are held out, and a recipe beside them."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n".join(sentences(400)) + "\n", encoding="utf-8")
    (path.parent / "recipe.toml").write_text(SHARE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path, corpus: Path) -> tuple[Path, str]:
    """The student of a run with `SHARE` that was not interrupted, and what it printed."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = subprocess.run(
        [sys.executable, "-m", "edgebert", *imitating(tiny_teacher, corpus, folder / "student")],
        env=environment(folder / "cache"), check=True, capture_output=True, text=True,
    )  # fmt: skip
    return folder / "student", done.stderr


def imitating(tiny_teacher: Path, corpus: Path, out: Path, *more: object) -> list[str]:
    """The arguments of a run of `STEPS` steps with `SHARE`."""
    return command(tiny_teacher, corpus, out, "--recipe", corpus.parent / "recipe.toml", *more)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Interrupts the training of this process, as Ctrl-C does, at the end of that step."""
    end = training.Figures.on_step_end

    def interrupted(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.interrupted |= state.global_step == step
        end(self, args, state, control, **more)

    monkeypatch.setattr(training.Figures, "on_step_end", interrupted)


def imitated(student: Path) -> dict[str, Any]:
    """What the lineage says of imitating int8."""
    found: dict[str, Any] = Bundle.open(student).manifest.lineage["qat"]
    return found


def test_plain_training_has_nothing_of_it(
    tiny_teacher: Path, corpus: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_quant.FakeQuant, "__init__", lambda *_: pytest.fail("int8 was imitated"))
    for name, more in (("default", ()), ("off", ("--no-qat",))):
        result = cli("distill", tiny_teacher, "--corpus", corpus, "-o", tmp_path / name, *QUICK, *more)
        assert result.code == 0, result.err
        assert "int8" not in result.err
        assert "after training: agreement with the teacher" in result.err
        lineage = Bundle.open(tmp_path / name).manifest.lineage
        assert "qat" not in lineage
        assert lineage["recipe"]["training"]["qat"] == 0.0
    assert same_weights(tmp_path / "default", tmp_path / "off")


def test_until_int8_is_imitated_training_is_plain_to_the_bit(
    tiny_teacher: Path, corpus: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, 100)
    for name, arguments in (("plain", command), ("qat", imitating)):
        assert cli(*arguments(tiny_teacher, corpus, tmp_path / name, "--work", tmp_path / f"{name}-work")).code == 130
    for step, same in ((90, True), (100, False)):
        plain, qat = (
            load_file(next((tmp_path / f"{name}-work").glob(f"*/checkpoint-{step}")) / "model.safetensors")
            for name in ("plain", "qat")
        )
        assert set(qat) - set(plain) == {"fake_quant.low", "fake_quant.high", "fake_quant.seen"}
        assert all(torch.equal(plain[name], qat[name]) for name in plain) == same
        assert int(qat["fake_quant.seen"]) == step - 90


def test_the_student_is_a_plain_one_and_says_how_it_was_made(
    unbroken: tuple[Path, str], tiny_teacher: Path, corpus: Path, tmp_path: Path, cli: Cli
) -> None:
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    student, err = unbroken
    Bundle.open(student).check()
    assert imitated(student)["observe_from"] == 90
    assert imitated(student)["quantize_from"] == 99
    assert imitated(student)["imitating_int8"]["sentences"] == 40
    in_float = Bundle.open(student).manifest.quality[0]
    as_int8 = imitated(student)["imitating_int8"]["spearman"]
    assert 0 < abs(in_float.value - as_int8) < 0.01
    assert f"after training, in float: agreement with the teacher {in_float.value:.4f}" in err
    assert f"after training, imitating int8: agreement with the teacher {as_int8:.4f}" in err
    assert "imitating int8 0.9" in next(line for line in err.splitlines() if line.startswith("training: 180 of 180"))
    assert "Warning" not in err
    assert cli(*command(tiny_teacher, corpus, tmp_path / "plain")).code == 0
    ours, plain = (load_file(folder / "model.safetensors") for folder in (student, tmp_path / "plain"))
    assert {name: tensor.dtype for name, tensor in ours.items()} == {n: t.dtype for n, t in plain.items()}
    assert not same_weights(student, tmp_path / "plain")
    weight = next(tensor for name, tensor in ours.items() if name.endswith("layer.0.attention.self.query.weight"))
    assert not torch.equal(fake_quant.quantize_rows(weight), weight)
    name = next(name for name in ours if name.endswith("word_embeddings.weight"))
    assert torch.equal(ours[name], plain[name])
    _, report = AutoModel.from_pretrained(student, add_pooling_layer=False, output_loading_info=True)
    assert [report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")] == [set(), set(), set()]
    texts = sentences(10, seed=5)
    theirs = SentenceTransformer(str(student), device="cpu").encode(texts, convert_to_numpy=True)
    assert np.abs(theirs - torch_embedder(Bundle.from_pretrained(student)).encode(texts)).max() < 1e-5


@pytest.mark.parametrize("step", [94, 99, 117])
def test_a_run_interrupted_while_it_measures_or_imitates_goes_on_to_the_very_same_student(
    step: int, tiny_teacher: Path, corpus: Path, unbroken: tuple[Path, str], tmp_path: Path, cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, work = tmp_path / "student", tmp_path / "work"
    with monkeypatch.context() as patched:
        stop_at(patched, step)
        assert cli(*imitating(tiny_teacher, corpus, out, "--work", work)).code == 130
    assert checkpoints(work)[-1] == step
    result = cli(*imitating(tiny_teacher, corpus, out, "--work", work))
    assert result.code == 0, result.err
    assert same_weights(out, unbroken[0])
    assert imitated(out) == imitated(unbroken[0])


def test_a_run_killed_while_it_imitates_goes_on_to_the_very_same_student(
    tiny_teacher: Path, corpus: Path, unbroken: tuple[Path, str], tmp_path: Path, cli: Cli
) -> None:
    out, work = tmp_path / "student", tmp_path / "work"
    arguments = imitating(tiny_teacher, corpus, out)
    process = begun(arguments, work, step=108)
    process.kill()
    process.communicate()
    assert 108 <= checkpoints(work)[-1] < STEPS
    result = cli(*arguments, "--work", work)
    assert result.code == 0, result.err
    assert same_weights(out, unbroken[0])
    assert imitated(out) == imitated(unbroken[0])


def test_two_processes_train_one_student_that_imitates(tiny_teacher: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "edgebert",
         *command(tiny_teacher, corpus, out, "--epochs", "2", "--qat")],
        env=environment(tmp_path / "cache"), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # 360 sentences in batches of 8 on two processes are 23 steps, twice; a quarter of 46 are 12
    assert (imitated(out)["observe_from"], imitated(out)["quantize_from"]) == (34, 35)
    found = Bundle.open(out).manifest
    assert found.quality[0].value > found.lineage["agreement_before_training"]
    assert imitated(out)["imitating_int8"]["spearman"] == pytest.approx(found.quality[0].value, abs=0.01)


@pytest.mark.parametrize(
    ("recipe", "options", "share"),
    [(None, ("--qat",), 0.25), (0.0, ("--qat",), 0.25), (0.5, ("--qat",), 0.5), (0.5, (), 0.5),
     (0.5, ("--no-qat",), 0.0)],
)  # fmt: skip
def test_the_switch_takes_the_recipes_share_or_a_quarter(
    recipe: float | None, options: tuple[str, ...], share: float, tiny_teacher: Path, corpus: Path, tmp_path: Path,
    cli: Cli, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from edgebert.distill import stage

    seen: list[float] = []

    def noted(*arguments: Any, **_: Any) -> None:
        seen.append(arguments[3].training.qat)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "distill", noted)
    given: tuple[object, ...] = ()
    if recipe is not None:
        (tmp_path / "recipe.toml").write_text(f"[training]\nqat = {recipe}\n", encoding="utf-8")
        given = ("--recipe", tmp_path / "recipe.toml")
    cli("distill", tiny_teacher, "--corpus", corpus, "-o", tmp_path / "student", *given, *options)
    assert seen == [share]


@pytest.mark.parametrize(
    ("value", "told"),
    [("-0.1", "training.qat is -0.1; it must be within 0 (off) to 1 (all steps)"),
     ("1.01", "training.qat is 1.01; it must be within 0 (off) to 1 (all steps)"),
     ("nan", "training.qat is nan; it must be within 0 (off) to 1 (all steps)"),
     ("inf", "training.qat is inf; it must be within 0 (off) to 1 (all steps)"),
     ("true", "qat: float is wanted, not True"),
     ('"half"', "qat: float is wanted, not 'half'"),
     ("0.02", "training.qat is 0.02 and training has 68 steps: that leaves 1 to quantize")],
)  # fmt: skip
def test_a_share_that_does_not_fit_is_refused(
    value: str, told: str, tiny_teacher: Path, corpus: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"[training]\nbatch_size = 16\nqat = {value}\n[data]\nheld_out = 40\n", encoding="utf-8")
    out = tmp_path / "out" / "student"
    out.parent.mkdir()
    result = cli("distill", tiny_teacher, "--corpus", corpus, "-o", out, "--recipe", recipe, "--epochs", "2.95")
    line = next(line for line in result.err.splitlines() if line.startswith("edgebert: "))
    assert_refused(Result(result.code, result.out, f"{line}\n"), out, told)


def test_a_student_without_frozen_embeddings_and_all_steps_imitating_learns_in_bf16(
    tiny_teacher: Path, corpus: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    (tmp_path / "recipe.toml").write_text("[training]\nqat = 1\n", encoding="utf-8")
    result = cli("distill", tiny_teacher, "--corpus", corpus, "-o", out, "--layers", "2", "--batch-size", "16",
                 "--held-out", "40", "--precision", "bf16", "--train-embeddings", "--learning-rate", "1e-3",
                 "--recipe", tmp_path / "recipe.toml")  # fmt: skip
    assert result.code == 0, result.err
    manifest = Bundle.open(out).manifest
    assert manifest.quality[0].value > manifest.lineage["agreement_before_training"] + 0.05
    ours, theirs = load_file(out / "model.safetensors"), load_file(tiny_teacher / "model.safetensors")
    name = next(name for name in ours if name.endswith("word_embeddings.weight"))
    assert not torch.equal(ours[name], theirs[name])


def test_a_loss_that_is_no_number_while_imitating_ends_the_run_with_advice(
    tiny_teacher: Path, corpus: Path, tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "recipe.toml").write_text("[training]\nqat = 1\nlearning_rate = 1e30\n", encoding="utf-8")
    out = tmp_path / "out" / "student"
    result = cli("distill", tiny_teacher, "--corpus", corpus, "-o", out, "--recipe", tmp_path / "recipe.toml",
                 *QUICK[:-2], "--work", tmp_path / "work")  # fmt: skip
    assert result.code == 1
    assert "edgebert: the loss became nan: try a lower learning rate than 1e+30" in result.err
    assert "Traceback" not in result.err
