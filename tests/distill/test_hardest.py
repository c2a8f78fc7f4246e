"""Disagreement sampling, and the warning about text of another language."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Result
from helpers import assert_refused, sentences
from runs import command

from edgebert.bundle import Bundle
from edgebert.distill import stage
from edgebert.distill.encoder import encode_ids, load_encoder, load_tokenizer
from edgebert.distill.hardest import count_hardest
from edgebert.distill.recipe import Student
from edgebert.distill.students import build_student
from edgebert.vectors import row_cosines

Cli = Callable[..., Result]


def recipe(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_hardest_texts_are_those_farthest_from_the_teacher(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[np.ndarray] = []
    trained: list[int] = []
    choose, train = stage.hardest, stage.train

    def note(*arguments: object, **more: object) -> object:
        kept.append(choose(*arguments, **more))  # type: ignore[arg-type]
        return kept[-1]

    def count(run: stage.TrainingRun) -> object:
        trained.append(len(run.rows))
        return train(run)

    monkeypatch.setattr(stage, "hardest", note)
    monkeypatch.setattr(stage, "train", count)
    rules = recipe(tmp_path / "hard.toml", "[data]\nhardest = 0.25\nmax_sentences = 400\nheld_out = 40\n")
    done = cli(*command(tiny_teacher, corpus_file, tmp_path / "student", "--recipe", rules, "--epochs", 1))
    assert done.code == 0, done.err
    assert trained == [90]
    assert "trained on the 90 of 360 texts with the least cosine to the teacher" in done.err

    teacher = Bundle.from_pretrained(tiny_teacher)
    texts = list(dict.fromkeys(corpus_file.read_text(encoding="utf-8").split("\n")))[:400]
    untrained = build_student(teacher, Student(layers=2), seed=0).encoder.eval()
    ids = [tokens.ids for tokens in load_tokenizer(teacher)(texts)]
    ours, theirs = (
        encode_ids(model, ids, teacher.manifest.pad_token_id) for model in (untrained, load_encoder(teacher))
    )
    cosines = row_cosines(ours, theirs)
    rest = np.setdiff1d(np.arange(len(texts)), kept[0])
    assert cosines[kept[0]].max() <= np.sort(cosines[rest])[40] + 1e-6  # 40 of the rest are held out


def test_a_share_is_at_least_one_text() -> None:
    assert [count_hardest(10, share) for share in (0.01, 0.25, 1.0)] == [1, 2, 10]


@pytest.mark.parametrize("share", ["0", "1.5", "-0.5"])
def test_a_share_out_of_range_is_refused(
    share: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    rules, out = recipe(tmp_path / "hard.toml", f"[data]\nhardest = {float(share)}\n"), tmp_path / "out" / "student"
    refused = cli(*command(tiny_teacher, corpus_file, out, "--recipe", rules))
    assert_refused(refused, out, f"data.hardest is {float(share)}; it must be above 0 and at most 1")


def test_text_of_another_language_is_a_warning_with_the_share_of_unknown_tokens(
    tiny_teacher: Path, tmp_path: Path, cli: Cli
) -> None:
    corpus, out = tmp_path / "greek.txt", tmp_path / "student"
    corpus.write_text("".join(f"ο σκύλος τρέχει {text}\n" for text in sentences(60, seed=2)), encoding="utf-8")
    done = cli("distill", tiny_teacher, "--corpus", corpus, "-o", out, "--take-layers", "0", "--epochs", 1,
               "--batch-size", 8)  # fmt: skip
    assert done.code == 0, done.err
    assert "warning: " in done.err
    assert "% of the text's tokens are [UNK] to the teacher" in done.err
    lineage = json.loads((out / "edgebert.json").read_text(encoding="utf-8"))["lineage"]
    assert lineage["corpus"]["unknown_tokens"] > 0.1


def test_text_of_its_own_language_is_none(tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli(*command(tiny_teacher, corpus_file, tmp_path / "student", "--epochs", "0.1"))
    assert done.code == 0, done.err
    assert "warning" not in done.err
