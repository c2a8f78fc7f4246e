"""The stage from end to end, through the command line, on the tiny teacher."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architectures import ARCHITECTURES, make_architecture, make_headed
from conftest import Result
from helpers import make_teacher, reframed, sentences
from numpy.typing import NDArray
from safetensors.torch import load_file

import edgebert
from edgebert.bundle import Bundle
from edgebert.distill import prepare, stage
from edgebert.distill.agreement import agreement
from edgebert.distill.encoder import encode_ids, load_encoder, torch_embedder
from edgebert.golden import read_golden

Cli = Callable[..., Result]
QUICK = ("--batch-size", "16", "--epochs", "2", "--held-out", "60", "--precision", "fp32", "--learning-rate", "1e-3")


def weights_of(folder: Path) -> dict[str, Any]:
    """The student's tensors as arrays."""
    return {name: tensor.numpy() for name, tensor in load_file(folder / "model.safetensors").items()}


def same_weights(one: Path, other: Path) -> bool:
    """Whether two students are equal to the bit."""
    first, second = weights_of(one), weights_of(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def assert_refused(result: Result, out: Path, *parts: str) -> None:
    """One line on standard error that names the matter, exit code 1, and nothing half written."""
    assert result.code == 1
    errors = [line for line in result.err.splitlines() if line.startswith("edgebert: ")]
    assert len(errors) == 1
    assert result.err.splitlines()[-1] == errors[0]
    assert "Traceback" not in result.err
    for part in parts:
        assert part in errors[0]
    assert not out.exists()
    assert [path.name for path in out.parent.glob("*.partial")] == []
    assert [path.name for path in out.parent.glob(".*.partial")] == []


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path) -> tuple[Path, Result]:
    """A student of the tiny teacher, made by a process of its own, and what it printed."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("student")
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(["", *sentences(400), "", *sentences(3)]) + "\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "edgebert", "distill", str(tiny_teacher), "--corpus", str(corpus), "-o",
         str(folder / "student"), "--layers", "2", *QUICK],
        capture_output=True, text=True, check=False, env=environment(folder / "cache"),
    )  # fmt: skip
    return folder / "student", Result(done.returncode, done.stdout, done.stderr)


def environment(cache: Path) -> dict[str, str]:
    """The variables of a process that keeps its cache in that folder."""
    import os

    return {**os.environ, "EDGEBERT_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_the_command_tells_what_it_read_and_what_came_out(student: tuple[Path, Result]) -> None:
    folder, result = student
    assert result.code == 0, result.err
    out = result.out.splitlines()
    assert out[0] == "text: 405 lines read, 2 blank and 3 repeated left out, 0 longer than 48 tokens and cut"
    assert out[1].startswith("agreement_spearman: 0.")
    assert out[1].endswith("(60 held-out sentences of the training text)")
    assert out[3] == f"student: {folder} (layers 0, 3 of the teacher)"
    assert "before training: agreement with the teacher" in result.err
    assert "Warning" not in result.err
    assert [path.name for path in (folder.parent / "cache" / "runs").glob("*")] == []


def test_the_manifest_holds_quality_and_lineage(student: tuple[Path, Result], tiny_teacher: Path) -> None:
    bundle = Bundle.open(student[0])
    bundle.check()
    lineage = bundle.manifest.lineage
    assert lineage["teacher"] == "tiny"
    assert lineage["student"] == "layers 0, 3 of the teacher"
    corpus = lineage["corpus"]
    assert [corpus[key] for key in ("read", "blank", "duplicate", "kept", "truncated")] == [405, 2, 3, 400, 0]
    assert len(corpus["sha256"]) == len(lineage["teacher_sha256"]) == 64
    assert lineage["objectives"] == {"vector": 1.0, "similarity": 1.0, "hidden": 1.0}
    assert lineage["recipe"]["student"]["layers"] == 2
    assert lineage["recipe"]["training"]["seed"] == 0
    assert set(lineage["versions"]) == {"edgebert", "torch", "transformers"}
    quality = {q.metric: q for q in bundle.manifest.quality}
    assert quality["agreement_spearman"].value > lineage["agreement_before_training"] + 0.01
    assert quality["agreement_spearman"].value > 0.84
    assert quality["teacher_mean_cosine"].value > 0.9
    assert str(tiny_teacher.parent) not in json.dumps(lineage)


def test_the_student_agrees_with_its_teacher_on_other_text(student: tuple[Path, Result], tiny_teacher: Path) -> None:
    texts = sentences(80, seed=99)
    teacher = torch_embedder(Bundle.from_pretrained(tiny_teacher)).encode(texts)
    ours = torch_embedder(Bundle.from_pretrained(student[0])).encode(texts)
    assert agreement(ours, teacher).spearman > 0.84


def test_the_students_golden_vectors_are_its_own(student: tuple[Path, Result]) -> None:
    bundle = Bundle.open(student[0])
    golden = read_golden(bundle)
    vectors = encode_ids(load_encoder(bundle), [case.input_ids for case in golden.cases], 0)
    assert np.abs(vectors - golden.vectors).max() < 1e-5
    assert {case.kind for case in golden.cases} == {"ordinary", "degenerate"}
    assert max(len(case.input_ids) for case in golden.cases) == 48


def test_the_student_opens_in_sentence_transformers_with_the_same_vectors(student: tuple[Path, Result]) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["", *sentences(10, seed=5)]
    theirs = SentenceTransformer(str(student[0]), device="cpu").encode(texts, convert_to_numpy=True)
    ours = torch_embedder(Bundle.from_pretrained(student[0])).encode(texts)
    assert np.abs(theirs - ours).max() < 1e-5


def test_the_embeddings_copied_from_the_teacher_stay_as_they_are(
    student: tuple[Path, Result], tiny_teacher: Path
) -> None:
    ours, theirs = weights_of(student[0]), weights_of(tiny_teacher)
    name = next(name for name in ours if name.endswith("word_embeddings.weight"))
    assert np.array_equal(ours[name], theirs[name])
    name = next(name for name in ours if name.endswith("layer.0.attention.self.query.weight"))
    assert not np.array_equal(ours[name], theirs[name])


def test_the_same_seed_gives_the_same_student_and_another_seed_another(
    student: tuple[Path, Result], tiny_teacher: Path, tmp_path: Path, cli: Cli
) -> None:
    corpus = tmp_path / "other-name.txt"
    corpus.write_text("\n".join(sentences(400)) + "\n", encoding="utf-8")
    for name, seed in (("same", "0"), ("other", "1")):
        result = cli("distill", tiny_teacher, "--corpus", corpus, "-o", tmp_path / name, "--layers", "2", *QUICK,
                     "--seed", seed)  # fmt: skip
        assert result.code == 0, result.err
    assert same_weights(tmp_path / "same", student[0])
    assert not same_weights(tmp_path / "other", student[0])


def test_json_prints_the_manifest(tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "student"
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--layers", "1", *QUICK, "--epochs",
                 "0.2", "--max-sentences", "200", "--json")  # fmt: skip
    assert result.code == 0, result.err
    assert result.out == (out / "edgebert.json").read_text(encoding="utf-8")
    manifest = json.loads(result.out)
    assert manifest["lineage"]["corpus"]["kept"] == 400
    assert manifest["quality"][0]["data"] == "40 held-out sentences of the training text"


def test_a_recipe_file_gives_the_shape_and_options_override_it(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[student]\nstart = "fresh"\nlayers = 1\nwidth = 24\nheads = 2\nfeed_forward = 48\nprojection = "keep"\n'
        "[training]\nepochs = 9\nbatch_size = 16\nfreeze_embeddings = false\n[data]\nheld_out = 30\n",
        encoding="utf-8",
    )
    out = tmp_path / "student"
    arguments = ("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--recipe", recipe)
    result = cli(*arguments, "--epochs", "1", "--heads", "3", "--precision", "fp32")
    assert result.code == 0, result.err
    bundle = Bundle.open(out)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert (config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]) == (24, 3, 1)
    assert bundle.manifest.lineage["recipe"]["training"]["epochs"] == 1.0
    # the map into the teacher's space is kept as a Dense module, so the vectors are the teacher's in kind
    assert (bundle.manifest.dense, bundle.manifest.dimension) == (("2_Dense",), 64)
    assert {q.metric for q in bundle.manifest.quality} == {"agreement_spearman", "teacher_mean_cosine"}
    refused = cli(*arguments[:-4], "-o", tmp_path / "other", "--recipe", recipe, "--preset", "2-layer")
    assert_refused(refused, tmp_path / "other", "--preset 2-layer", str(recipe))


def test_a_dropped_projection_leaves_the_students_own_dimension(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--start", "fresh", "--layers", "1",
                 "--width", "24", "--heads", "2", "--projection", "drop", *QUICK, "--hidden", "0")  # fmt: skip
    assert result.code == 0, result.err
    bundle = Bundle.open(out)
    assert (bundle.manifest.dense, bundle.manifest.dimension) == ((), 24)
    assert [q.metric for q in bundle.manifest.quality] == ["agreement_spearman"]
    assert bundle.manifest.lineage["objectives"]["hidden"] == 0
    assert torch_embedder(bundle).encode(["a dog"]).shape == (1, 24)


def test_a_rotation_brings_another_model_into_the_teachers_space_and_keeps_its_cosines(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    small = tmp_path / "small"
    made = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", small, "--start", "fresh", "--layers", "1",
               "--width", "24", "--heads", "2", "--projection", "drop", *QUICK, "--hidden", "0")  # fmt: skip
    assert made.code == 0, made.err
    texts = [f"text {i} about {word}" for i, word in enumerate(("dogs", "rain", "tea", "books", "rain and tea"))]

    def cosines(model: Path) -> NDArray[Any]:
        vectors = torch_embedder(Bundle.open(model)).encode(texts)
        return vectors @ vectors.T

    def start(teacher: Path, out: Path, projection: str) -> dict[str, float]:
        result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--start", small, "--projection",
                     projection, *QUICK, "--epochs", "0")  # fmt: skip
        assert result.code == 0, result.err
        return {quality.metric: quality.value for quality in Bundle.open(out).manifest.quality}

    found = start(tiny_teacher, tmp_path / "rotated", "rotate")
    assert Bundle.open(tmp_path / "rotated").manifest.dimension == 64
    assert np.abs(cosines(tmp_path / "rotated") - cosines(small)).max() < 1e-5
    assert found["teacher_mean_cosine"] > 0.3
    assert Bundle.open(tmp_path / "rotated").manifest.lineage["objectives"] == {}
    kept = start(tiny_teacher, tmp_path / "kept", "keep")
    assert kept["teacher_mean_cosine"] > found["teacher_mean_cosine"]  # ridge regression may stretch, too
    assert np.abs(cosines(tmp_path / "kept") - cosines(small)).max() > 1e-3
    # Into a space of as many dimensions a rotation is a map like another, and two maps are one.
    start(small, tmp_path / "same", "rotate")
    assert Bundle.open(tmp_path / "same").manifest.dense == ("2_Dense",)
    small = tmp_path / "rotated"
    start(tiny_teacher, tmp_path / "twice", "rotate")
    assert Bundle.open(tmp_path / "twice").manifest.dense == ("2_Dense",)
    assert np.abs(cosines(tmp_path / "twice") - cosines(small)).max() < 1e-5


def test_without_training_there_is_no_plot_and_an_earlier_one_goes(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out, recipe = tmp_path / "student", tmp_path / "recipe.toml"
    recipe.write_text("[data]\nhardest = 0.5\n", encoding="utf-8")
    arguments = ("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, *QUICK, "--recipe", recipe)
    assert cli(*arguments, "--epochs", "0.3").code == 0
    assert {path.name for path in tmp_path.glob("student.*")} == {"student.training.csv", "student.training.svg"}
    shutil.rmtree(out)
    result = cli(*arguments, "--epochs", "0")
    assert result.code == 0, result.err
    assert "hardest" not in result.err
    assert not list(tmp_path.glob("student.*"))
    lineage = Bundle.open(out).manifest.lineage
    assert (lineage["final_loss"], lineage["objectives"]) == (None, {})
    refused = cli(*arguments[:3], "-o", tmp_path / "other", "--epochs", "0", "--qat")
    assert refused.code != 0


def test_a_teacher_of_fewer_dimensions_cannot_hold_a_rotation(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "student", "--start", "fresh",
                 "--layers", "1", "--width", "96", "--heads", "2", "--projection", "rotate", *QUICK)  # fmt: skip
    assert_refused(
        result, tmp_path / "student", "the teacher's 64 dimensions cannot hold the student's 96", 'use "keep"'
    )


def test_a_student_from_another_checkpoint_with_another_tokenizer_learns_without_hidden_states(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    other = reframed(make_architecture(tmp_path / "other", "roberta", layers=2))
    out = tmp_path / "student"
    arguments = ("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--start", other, *QUICK)
    refused = cli(*arguments, "--hidden", "1")
    assert_refused(refused, out, "objectives.hidden compares token by token")
    result = cli(*arguments)
    assert result.code == 0, result.err
    bundle = Bundle.open(out)
    assert bundle.manifest.architecture == "roberta"
    assert bundle.manifest.pad_token_id == 1
    assert bundle.manifest.dimension == 64
    assert bundle.manifest.lineage["objectives"]["hidden"] == bundle.manifest.lineage["aligned_share"] == 0
    assert bundle.manifest.quality[0].value > bundle.manifest.lineage["agreement_before_training"]


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "bert"])
def test_a_teacher_of_every_architecture_gives_a_student(
    architecture: str, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    teacher = make_architecture(tmp_path / architecture, architecture)
    out = tmp_path / "student"
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--take-layers", "0,2", *QUICK)
    assert result.code == 0, result.err
    bundle = Bundle.open(out)
    assert bundle.manifest.architecture == architecture
    assert bundle.manifest.quality[0].value > bundle.manifest.lineage["agreement_before_training"]
    assert bundle.manifest.quality[0].value > 0.8


@pytest.mark.parametrize(
    ("pooling", "dense"), [(("cls",), None), (("max",), None), (("max", "mean"), None), (("mean",), 24),
                           (("cls", "mean"), 20)],
)  # fmt: skip
def test_pooling_modes_and_dense_modules_survive(
    pooling: tuple[str, ...], dense: int | None, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    from sentence_transformers import SentenceTransformer

    teacher = make_headed(tmp_path / "teacher", pooling=pooling, dense=dense)
    out = tmp_path / "student"
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--layers", "2", *QUICK)
    assert result.code == 0, result.err
    bundle = Bundle.open(out)
    assert bundle.manifest.pooling == pooling
    assert bundle.manifest.dense == (("2_Dense",) if dense else ())
    assert bundle.manifest.dimension == (dense or 32 * len(pooling))
    assert bundle.manifest.quality[0].value > bundle.manifest.lineage["agreement_before_training"]
    texts = sentences(5, seed=8)
    theirs = SentenceTransformer(str(out), device="cpu").encode(texts, convert_to_numpy=True)
    assert np.abs(theirs - torch_embedder(bundle).encode(texts)).max() < 1e-5


def test_prompts_of_the_teacher_are_learnt_and_written(corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    teacher = make_teacher(tmp_path / "teacher")
    prompts = {"prompts": {"query": "question a ", "passage": "answer the "}, "default_prompt_name": "passage"}
    (teacher / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    out = tmp_path / "student"
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--layers", "1", *QUICK, "--epochs", "0.2")
    assert result.code == 0, result.err
    manifest = Bundle.open(out).manifest
    assert manifest.prompts == {"query": "question a ", "passage": "answer the "}
    assert manifest.default_prompt_name == "passage"


def test_a_corpus_longer_than_the_model_is_cut_and_counted(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    with corpus_file.open("a", encoding="utf-8") as stream:
        stream.write("dog " * 100 + "\n" + "cat " * 47 + "\n" + "cat " * 46 + "\n")
    out = tmp_path / "student"
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--layers", "1", *QUICK, "--epochs",
                 "0.1")  # fmt: skip
    assert result.code == 0, result.err
    assert Bundle.open(out).manifest.lineage["corpus"]["truncated"] == 2


def test_without_training_only_the_text_of_the_map_is_read(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "MAP_ROWS", 100)
    for name, more, expected in (("none", (), 140), ("as asked", ("--max-sentences", "200"), 200)):
        result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / name, *QUICK, "--held-out",
                     "40", "--projection", "rotate", "--epochs", "0", *more)  # fmt: skip
        assert result.code == 0, result.err
        assert f"teacher vectors: {expected} of {expected}" in result.err


def test_an_output_that_exists_is_refused_at_once_and_left_alone(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "student"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(stage, "build_student", lambda *_, **__: pytest.fail("work was begun"))
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out)
    assert result.code == 1
    assert result.err == f"edgebert: the output {out} exists already: choose another name or remove it first\n"
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ("corpus.txt", "no usable line: 0 lines were read")),
        (b"\n\n\n", ("corpus.txt", "no usable line: 3 lines were read and 3 of them are blank")),
        (b"a\0b\n", ("corpus.txt", "line 1 holds NUL bytes")),
        (b"one\ntwo\nthree\n", ("3 distinct sentences are too few", "a batch of 16")),
        (b"".join(b"line %d\n" % i for i in range(18)), ("18 distinct sentences are too few",)),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused(
    content: bytes, parts: tuple[str, ...], tiny_teacher: Path, tmp_path: Path, cli: Cli
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(content)
    result = cli("distill", tiny_teacher, "--corpus", corpus, "-o", tmp_path / "student", "--layers", "1", *QUICK)
    assert_refused(result, tmp_path / "student", *parts)


def test_a_missing_corpus_and_a_wrong_column_are_refused(tiny_teacher: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "student"
    result = cli("distill", tiny_teacher, "--corpus", tmp_path / "none.txt", "-o", out)
    assert_refused(result, out, "no such file", "none.txt")
    (tmp_path / "a.csv").write_text("id,body\n1,hello\n", encoding="utf-8")
    result = cli("distill", tiny_teacher, "--corpus", tmp_path / "a.csv", "-o", out, "--column", "title")
    assert_refused(result, out, "a.csv", "'title'", "'id', 'body'")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--layers", "9"), "student.layers is 9"),
        (("--take-layers", "0,4"), "student.take_layers names layer 4"),
        (("--take-layers", "0,2", "--layers", "3"), "student.layers is 3 and student.take_layers names 2"),
        (("--heads", "7"), "student.heads is 7"),
        (("--epochs", "nan"), "training.epochs is nan"),
        (("--epochs", "inf"), "training.epochs is inf"),
        (("--batch-size", "1"), "training.batch_size is 1"),
        (("--seed", "-3"), "training.seed is -3"),
        (("--preset", "giant"), "unknown preset 'giant'"),
        (("--recipe", "none.toml"), "no such recipe: none.toml"),
        (("--start", "./nowhere"), "no such file or folder: ./nowhere"),
        (("--vector", "0", "--similarity", "0", "--hidden", "0"), "all objectives have weight 0"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    arguments: tuple[str, ...], part: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    assert_refused(cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, *arguments), out, part)


def test_a_list_of_layers_that_is_none_is_wrong_usage(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--take-layers", "0;1")
    assert result.code == 2
    assert "'0;1' is not a list of layer numbers" in result.err


def test_a_loss_that_is_no_number_ends_the_run_with_advice(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgebert.distill import registry

    known = registry.OBJECTIVES["vector"]
    calls: list[int] = []

    def broken(step: Any) -> Any:
        calls.append(1)
        return known.loss(step) * (float("nan") if len(calls) > 12 else 1.0)

    changed = dataclasses.replace(known, loss=broken)
    monkeypatch.setitem(registry.OBJECTIVES, "vector", changed)  # type: ignore[arg-type]
    out, work = tmp_path / "student", tmp_path / "work"
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--layers", "1", *QUICK, "--work", work)
    assert_refused(result, out, "the loss became nan", "0.001", "precision fp32", "checkpoint-10")
    assert len(list(work.glob("*/checkpoint-10/complete"))) == 1


def test_a_learning_rate_far_too_high_ends_the_run_with_advice(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "student"
    result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", out, "--layers", "1", *QUICK,
                 "--learning-rate", "1e30")  # fmt: skip
    assert_refused(result, out, "the loss became nan", "1e+30", "none, it was too early")


def test_a_work_folder_of_the_users_keeps_what_was_in_it(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine.txt").write_text("mine", encoding="utf-8")
    for name, layers in (("one", "1"), ("two", "2")):
        result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / name, "--layers", layers,
                     *QUICK, "--epochs", "0.2", "--work", work)  # fmt: skip
        assert result.code == 0, result.err
    assert [path.name for path in work.iterdir()] == ["mine.txt"]
    config = json.loads((tmp_path / "two" / "config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == 2


def test_a_work_folder_is_not_mistaken_for_that_of_another_recipe(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(stage, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        result = cli("distill", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "one", "--layers", "1", *QUICK,
                     "--epochs", "0.5", "--work", tmp_path / "work")  # fmt: skip
        assert result.code == 130
    arguments = ("distill", tiny_teacher, "--corpus", corpus_file, "--layers", "1", *QUICK, "--epochs", "0.5",
                 "--max-sentences", "100")  # fmt: skip
    assert cli(*arguments, "-o", tmp_path / "two", "--work", tmp_path / "work").code == 0
    assert cli(*arguments, "-o", tmp_path / "three").code == 0
    assert same_weights(tmp_path / "two", tmp_path / "three")


def test_the_library_gives_the_bundle_it_wrote(tiny_teacher: Path, corpus_file: Path, tmp_path: Path) -> None:
    from edgebert.distill.recipe import Data, Recipe, Student, Training

    recipe = Recipe(
        Student(layers=1), training=Training(epochs=0.1, batch_size=16, precision="fp32"), data=Data(held_out=20)
    )
    teacher = edgebert.Bundle.from_pretrained(tiny_teacher)
    bundle = stage.distill(teacher, [corpus_file], tmp_path / "student", recipe)
    assert bundle.root == tmp_path / "student"
    assert bundle.manifest == Bundle.open(tmp_path / "student").manifest
    again = Bundle.from_pretrained(shutil.copytree(bundle.root, tmp_path / "moved"))
    assert again.manifest == bundle.manifest
