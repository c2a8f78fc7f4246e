"""The stage from end to end: what it writes, its gates, recipes that compete, interrupts, unusual heads."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from architectures import make_architecture, make_headed
from conftest import Result
from helpers import sentences

import edgebert
from edgebert.bundle import Bundle
from edgebert.cli.quantize import _show
from edgebert.distill.encoder import torch_embedder
from edgebert.errors import BudgetError
from edgebert.golden import read_golden
from edgebert.manifest import Parity
from edgebert.quantize import reference, search, stage
from edgebert.quantize.parity import Gates, Measured, measure, require
from edgebert.quantize.recipe import RECIPES
from edgebert.quantize.stage import Options, quantize
from edgebert.quantize.task_gate import TaskGate

Cli = Callable[..., Result]
NAMES = {"onnxruntime-fp32", "openvino-fp32", "onnxruntime-int8", "openvino-int8"}
LOOSE = Gates(min_cosine=0.8, min_degenerate=0.7, min_agreement=0.5)  # random tiny models lose more than trained ones


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines in this process, and few texts timed. `test_worker` and the fixture `tiny_bundle` have real workers."""
    monkeypatch.setattr(search, "measured", measure)
    monkeypatch.setattr(reference, "_MOST_TIMED", 8)
    monkeypatch.setattr(stage, "_SINGLES", 2)


@pytest.fixture(scope="module")
def short_teacher(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny teacher with 12 tokens at most, so that every length is proven in no time."""
    folder = Path(shutil.copytree(tiny_teacher, tmp_path_factory.mktemp("short") / "tiny"))
    return shortened(folder)


def shortened(folder: Path) -> Path:
    """The model folder with inputs of at most 12 tokens."""
    settings = {"max_seq_length": 12, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def assert_refused(result: Result, out: Path, *parts: str) -> None:
    """One line on standard error that names the matter, exit code 1, and nothing half written."""
    assert result.code == 1
    errors = [line for line in result.err.splitlines() if line.startswith("edgebert: ")]
    assert len(errors) == 1
    assert result.err.splitlines()[-1] == errors[0]
    for part in parts:
        assert part in errors[0]
    assert not out.exists()
    assert list(out.parent.glob(".*")) == []


def test_the_bundle_has_four_artifacts_with_recipe_parity_and_gates(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    bundle.check()
    artifacts = bundle.manifest.artifacts
    assert set(artifacts) == NAMES
    for name, artifact in artifacts.items():
        assert name == f"{artifact.engine}-{artifact.precision}"
        assert artifact.shapes == "dynamic"
        assert artifact.inputs == ("input_ids", "attention_mask", "token_type_ids")
        assert artifact.parity is not None
        assert artifact.parity.agreement is not None
        least = 0.9999 if artifact.precision == "fp32" else 0.97
        assert least <= artifact.parity.ordinary_min <= artifact.parity.ordinary_mean <= 1.000001
        assert artifact.parity.degenerate_min <= artifact.parity.degenerate_mean
        if artifact.precision == "int8":
            assert artifact.recipe == RECIPES["outliers-8"].facts()
            passes = ["split-outliers", "outliers", "static-int8", "weight-only"]
            assert [one["pass"] for one in artifact.recipe["passes"]] == passes
            assert artifact.min_cosine == {"ordinary": 0.97, "degenerate": 0.95}
            assert artifact.parity.ordinary_min < 0.999999
        else:
            assert not artifact.recipe
    assert artifacts["onnxruntime-int8"].recipe == artifacts["openvino-int8"].recipe


def test_quality_and_lineage_say_what_was_measured_on(tiny_bundle: Path) -> None:
    manifest = Bundle.open(tiny_bundle).manifest
    found = {q.artifact: q for q in manifest.quality if q.metric == "agreement_with_fp32"}
    assert set(found) == NAMES
    assert found["onnxruntime-fp32"].value > 0.9999
    assert 0.98 <= found["openvino-int8"].value < 1
    assert {q.data for q in found.values()} == {"100 texts of the calibration file that calibration did not see"}
    facts = manifest.lineage["quantize"]
    assert facts["calibration_texts"] == 100
    assert facts["calibration_rows"] > 150
    assert facts["recipe"] == "outliers-8"
    assert facts["unknown_tokens"] == 0
    assert set(facts["versions"]) == {"onnx", "onnxruntime", "openvino"}
    assert manifest.lineage["source"] == "tiny"


def test_the_files_of_int8_are_smaller_and_the_model_card_names_every_artifact(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    size = {name: sum(bundle.manifest.files[f].size for f in a.files) for name, a in bundle.manifest.artifacts.items()}
    assert size["onnxruntime-int8"] < 0.8 * size["onnxruntime-fp32"]
    assert size["openvino-int8"] < 0.8 * size["openvino-fp32"]
    card = (tiny_bundle / "README.md").read_text(encoding="utf-8")
    for name, artifact in bundle.manifest.artifacts.items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        assert artifact.files[0] in row
        assert f"{artifact.parity.ordinary_min:.4f}" in row  # type: ignore[union-attr]
        assert f"| {size[name] / 1e6:.1f} |" in row
        assert any(name in line and "agreement_with_fp32" in line for line in card.splitlines())


def test_the_golden_vectors_are_those_of_torch(tiny_bundle: Path, tiny_teacher: Path) -> None:
    golden = read_golden(Bundle.open(tiny_bundle))
    texts = [case.text for case in golden.cases]
    vectors = torch_embedder(Bundle.from_pretrained(tiny_teacher)).encode(texts)
    assert np.abs(vectors - golden.vectors).max() < 1e-5


def test_the_command_prints_a_table_and_as_json_the_same(
    short_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "bundle"
    arguments = ("quantize", short_teacher, "--calibration", corpus_file, "--samples", "40")
    result = cli(*arguments, "-o", out, "--json")
    assert result.code == 0, result.err
    table = {row["name"]: row for row in json.loads(result.out)}
    assert set(table) == NAMES | {"torch-fp32"}
    assert table["torch-fp32"]["parity"] is None
    artifacts = Bundle.open(out).manifest.artifacts
    for name in NAMES:
        assert table[name]["parity"]["ordinary_min"] == artifacts[name].parity.ordinary_min  # type: ignore[union-attr]
        assert table[name]["timing"]["p50_ms"] > 0
    assert Bundle.open(out).manifest.lineage["quantize"]["calibration_texts"] == 40
    shown = cli(*arguments, "-o", tmp_path / "other", "--recipe", "dynamic", "--half", "--min-cosine", "0.9")
    assert shown.code == 0, shown.err
    assert {line.split()[0] for line in shown.out.splitlines()[:8] if line.strip()} >= NAMES | {"torch-fp32"}
    assert shown.out.splitlines()[-2:] == [
        "recipe dynamic: the first one that passes",
        "warning: with dynamic int8 a text's vector depends on what shares its batch",
    ]
    half = Bundle.open(tmp_path / "other")
    assert half.manifest.artifacts["openvino-fp32"].recipe["name"] == "float16"
    for name in ("onnx/model.onnx", "openvino/openvino_model.bin"):
        assert half.path(name).stat().st_size < 0.65 * Bundle.open(out).path(name).stat().st_size
    vectors = edgebert.load(out, precision="int8").encode(["a dog reads a letter."])
    assert abs(float(np.linalg.norm(vectors)) - 1) < 1e-3


def test_an_impossible_gate_names_recipe_artifact_and_place_and_writes_nothing(
    short_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out" / "bundle"
    arguments = ("quantize", short_teacher, "--calibration", corpus_file, "-o", out, "--samples", "16")
    result = cli(*arguments, "--min-cosine", "1", "--recipe", "outliers-8")
    assert_refused(
        result, out, "not accurate enough, nothing was written. outliers-8, the nearest of 1 recipes: onnxruntime-int8"
        ": cosine 0.9", "on ordinary text (", "), at least 1 is needed", "--min-cosine",
    )  # fmt: skip
    assert "recipe outliers-8: onnxruntime-int8: cosine 0.9" in " ".join(result.err.split())


def test_every_fault_and_a_low_agreement_are_named() -> None:
    def told(
        fault: str, agreement: float, retention: float = 1.0, task: TaskGate | None = None, answers: float | None = None
    ) -> str:
        return Measured(Parity(1, 1, 1, 1, agreement), fault, retention, (), answers).faults(Gates(), task)

    require({"a": told("", 0.99)})
    with pytest.raises(BudgetError) as raised:
        require({"a": told("cosine 0.5 here", 0.99), "b": told("", 0.97)})
    assert "a: cosine 0.5 here; b: agreement 0.9700, at least 0.98 is needed" in str(raised.value)
    assert told("", float("nan")) == "agreement nan, at least 0.98 is needed"
    assert told("", 1, 0.9, TaskGate(min_retention=0.95)) == "keeps 0.9000 of the agreement, at least 0.95 is needed"
    assert told("", 1, float("nan"), TaskGate()).startswith("keeps nan of the agreement")
    assert told("", 1, 0.9) == ""
    task = TaskGate("task", ("dev.jsonl",))
    assert told("", 0.5, 1.0, task, 0.99) == ""  # the agreement of answers stands in for that of vectors
    assert told("", 1.0, 1.0, task, 0.97) == "agreement 0.9700, at least 0.98 is needed"
    assert told("cosine 0.9", 1.0, 1.0, task, 0.99) == "cosine 0.9 (of vectors; its answers agree to 0.9900)"
    assert told("", 0.5, 1.0, TaskGate("similarity", ("dev.tsv",))) == "agreement 0.5000, at least 0.98 is needed"


def test_the_most_sensitive_layers_are_left_in_float_where_the_recipe_says_so(
    short_teacher: Path, tmp_path: Path
) -> None:
    recipe = RECIPES["smooth-outliers-32-float-2"]
    options = Options(samples=30, recipe=recipe, gates=LOOSE)
    bundle, findings = quantize(Bundle.from_pretrained(short_teacher), sentences(60), tmp_path / "bundle", options)
    facts = bundle.manifest.artifacts["onnxruntime-int8"].recipe
    assert bundle.manifest.artifacts["openvino-int8"].recipe == facts
    left = next(p for p in facts["passes"] if p["pass"] == "static-int8")["exclude"]
    assert len(left) == 2
    assert len(findings.sensitivity) == 4 * 6
    assert next(iter(findings.sensitivity)).replace(".", "/") in left[0].replace(".", "/")
    nodes = {node.name: node for node in onnx.load(bundle.path("onnx/model_qint8.onnx")).graph.node}
    producer = {name: node.op_type for node in nodes.values() for name in node.output}
    quantized = {
        name for name, node in nodes.items()
        if node.op_type == "MatMul" and all(producer.get(i) == "DequantizeLinear" for i in node.input)
    }  # fmt: skip
    assert not set(left) & quantized
    assert len(quantized) == 4 * 6 - 2
    bundle.check()


def test_with_a_task_the_recipes_compete_and_the_score_that_is_kept_is_written(
    short_teacher: Path, tmp_path: Path
) -> None:
    model = Bundle.from_pretrained(short_teacher)
    one, other = sentences(40, seed=3), sentences(40, seed=4)
    torch_model = torch_embedder(model)
    scores = (torch_model.encode(one) * torch_model.encode(other)).sum(axis=1)
    rows = zip(one, other, scores.tolist(), strict=True)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "\n".join(json.dumps({"sentence1": a, "sentence2": b, "score": c}) for a, b, c in rows), encoding="utf-8"
    )
    options = Options(samples=30, gates=LOOSE, task=TaskGate("similarity", (str(pairs),), 0.9))
    bundle, findings = quantize(model, sentences(60), tmp_path / "bundle", options)
    tried = [attempt for attempt in findings.attempts if attempt.measured]
    assert len([attempt for attempt in tried if attempt.status in ("chosen", "passed")]) == 3
    assert all(set(attempt.timing) == {"onnxruntime-int8", "openvino-int8"} for attempt in tried)
    chosen = max((a for a in tried if a.status != "rejected"), key=lambda attempt: attempt.sentences_s)
    assert chosen.status == "chosen"
    assert chosen in findings.chosen
    names = bundle.manifest.lineage["quantize"]["recipe"].split(" and ")
    assert sorted(names) == sorted(attempt.recipe.name for attempt in findings.chosen)
    kept = {q.artifact: q for q in bundle.manifest.quality if q.metric == "similarity_retention"}
    assert set(kept) == {"onnxruntime-int8", "openvino-int8"}
    assert all(0.9 <= q.value <= 1.1 and q.data == "pairs.jsonl" for q in kept.values())
    assert not (tmp_path / "bundle" / search.CANDIDATES).exists()
    bundle.check()


def test_each_engine_may_have_a_recipe_of_its_own(
    short_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {"onnxruntime-int8": "outliers-16", "openvino-int8": "outliers-8"}

    def one_sided(bundle: Bundle, name: str, *given: Any) -> Measured:
        recipe = bundle.manifest.artifacts[name].recipe
        assert recipe is not None
        return dataclasses.replace(measure(bundle, name, *given), fault="" if recipe["name"] == wanted[name] else "no")

    monkeypatch.setattr(search, "measured", one_sided)
    monkeypatch.setattr(Options, "recipes", (RECIPES["outliers-8"], RECIPES["outliers-16"]))
    model, options = Bundle.from_pretrained(short_teacher), Options(samples=30, gates=LOOSE)
    bundle, findings = quantize(model, sentences(60), tmp_path / "bundle", options)
    bundle.check()
    artifacts = bundle.manifest.artifacts
    assert {name: (artifacts[name].recipe or {})["name"] for name in wanted} == wanted
    assert bundle.manifest.lineage["quantize"]["recipe"] == "outliers-16 and outliers-8"
    assert {q.artifact for q in bundle.manifest.quality if q.metric == "agreement_with_fp32"} == NAMES
    _show(findings, 0.98)
    told = capsys.readouterr().out
    assert "recipe outliers-16: the first one that passes in ONNX Runtime; left for OpenVINO: no" in told
    assert "recipe outliers-8: the first one that passes in OpenVINO; left for ONNX Runtime: no" in told
    with edgebert.load(bundle.root, precision="int8") as opened:
        assert opened.encode(["a dog"]).shape == (1, bundle.manifest.dimension)


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("--samples", "7"), 2, "7 is not in the range x>=8"),
        (("--min-cosine", "1.5"), 2, "1.5 is not in the range 0"),
        (("--column", "text", "--revision", "x"), 1, "revision 'x' goes with a Hub id"),
        (("--tables", "5"), 2, "'5' is not one of '4', '8'"),
        (("--min-retention", "2"), 2, "2.0 is not in the range 0"),
        (("--metric", "similarity"), 2, "--metric and --eval belong to --min-retention, which is missing"),
        (("--eval", "x.tsv"), 2, "--metric and --eval belong to --min-retention, which is missing"),
        (
            ("--min-retention", "0.9", "--metric", "similarity"),
            1,
            "needs one file of text pairs with scores; 0 were given",
        ),
        (("--recipe", "statik"), 1, "no recipe 'statik'; there are static"),
        (("--recipe", "none.toml"), 1, "none.toml"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    arguments: tuple[str, ...], code: int, part: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "bundle"
    result = cli("quantize", tiny_teacher, "--calibration", corpus_file, "-o", out, *arguments)
    assert result.code == code
    assert part in result.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ("has 0 distinct usable lines; at least 16",)),
        ("a dog.\n" * 50, ("has 1 distinct usable lines; at least 16",)),
        ("\n".join(sentences(15)), ("has 15 distinct usable lines; at least 16",)),
        ("a\0b\n", ("calibration.txt", "line 1 holds NUL bytes")),
    ],
)
def test_calibration_text_that_cannot_be_used_is_refused(
    content: str, parts: tuple[str, ...], tiny_teacher: Path, tmp_path: Path, cli: Cli
) -> None:
    path, out = tmp_path / "calibration.txt", tmp_path / "bundle"
    path.write_text(content, encoding="utf-8")
    assert_refused(cli("quantize", tiny_teacher, "--calibration", path, "-o", out), out, *parts)


def test_a_missing_model_and_a_missing_calibration_file_are_named(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out" / "bundle"
    assert_refused(
        cli("quantize", tiny_teacher, "--calibration", tmp_path / "none.txt", "-o", out),
        out,
        "no such file",
        "none.txt",
    )
    result = cli("quantize", tmp_path / "none", "--calibration", corpus_file, "-o", out)
    assert_refused(result, out, "no such file or folder", "none")


def test_an_output_that_exists_is_left_alone(tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")
    result = cli("quantize", tiny_teacher, "--calibration", corpus_file, "-o", out)
    assert result.code == 1
    assert result.err == f"edgebert: the output {out} exists already: choose another name or remove it first\n"
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "name",
    ["stage.write_model", "stage.export_openvino", "stage.reference", "stage.measure", "search.export_openvino",
     "search.measured", "stage._table", "stage.seal"],
)  # fmt: skip
def test_an_interrupt_leaves_nothing_half_written(
    name: str, short_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    owner, attribute = name.split(".")
    monkeypatch.setattr({"stage": stage, "search": search}[owner], attribute, interrupted)
    out = tmp_path / "out" / "bundle"
    result = cli("quantize", short_teacher, "--calibration", corpus_file, "-o", out, "--samples", "8")
    assert result.code == 130
    assert result.err.splitlines()[-1] == "edgebert: interrupted"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_quantized_again_has_each_figure_once(short_teacher: Path, tmp_path: Path) -> None:
    options = Options(samples=30, gates=LOOSE)
    first, _ = quantize(Bundle.from_pretrained(short_teacher), sentences(80), tmp_path / "first", options)
    again, _ = quantize(first, sentences(60), tmp_path / "again", options)
    measured = [(q.metric, q.artifact) for q in again.manifest.quality]
    assert sorted(measured) == sorted(("agreement_with_fp32", name) for name in NAMES)
    assert {q.data for q in again.manifest.quality} == {"30 texts of the calibration file that calibration did not see"}


@pytest.mark.parametrize("architecture", ["mpnet", "roberta", "xlm-roberta", "distilbert", "electra"])
def test_every_architecture_is_quantized_for_both_engines(architecture: str, tmp_path: Path) -> None:
    model = Bundle.from_pretrained(shortened(make_architecture(tmp_path / architecture, architecture, layers=2)))
    texts = sentences(60)
    bundle, _ = quantize(model, texts, tmp_path / "bundle", Options(gates=LOOSE))
    assert set(bundle.manifest.artifacts) == NAMES
    assert ("token_type_ids" in bundle.manifest.artifacts["openvino-int8"].inputs) == (architecture == "electra")
    assert bundle.manifest.pad_token_id == int(architecture in ("mpnet", "roberta", "xlm-roberta"))
    expected = torch_embedder(model).encode(texts)
    for engine in ("onnxruntime", "openvino"):
        found = edgebert.load(tmp_path / "bundle", engine=engine, precision="fp32").encode(texts)
        assert np.abs(found - expected).max() < 1e-5
        found = edgebert.load(tmp_path / "bundle", engine=engine, precision="int8").encode(texts)
        assert (found * expected).sum(axis=1).min() > 0.8


@pytest.mark.parametrize(
    ("pooling", "dense"), [(("cls",), None), (("max",), None), (("max", "mean"), None), (("mean",), 24)]
)
def test_pooling_modes_and_dense_modules_survive(pooling: tuple[str, ...], dense: int | None, tmp_path: Path) -> None:
    model = Bundle.from_pretrained(shortened(make_headed(tmp_path / "model", pooling=pooling, dense=dense)))
    texts = sentences(60)
    bundle, _ = quantize(model, texts, tmp_path / "bundle", Options(gates=LOOSE))
    assert (bundle.manifest.pooling, bundle.manifest.dimension) == (pooling, dense or 32 * len(pooling))
    assert bundle.manifest.dense == (("2_Dense",) if dense else ())
    expected = torch_embedder(model).encode(texts)
    assert np.abs(torch_embedder(bundle).encode(texts) - expected).max() < 1e-6
    for engine in ("onnxruntime", "openvino"):
        found = edgebert.load(tmp_path / "bundle", engine=engine, precision="fp32").encode(texts)
        assert np.abs(found - expected).max() < 1e-5


def test_a_model_whose_weights_are_missing_is_refused(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    model = Path(shutil.copytree(tiny_teacher, tmp_path / "model"))
    (model / "model.safetensors").unlink()
    out = tmp_path / "out" / "bundle"
    result = cli("quantize", model, "--calibration", corpus_file, "-o", out)
    assert_refused(result, out, f"{model} has no weights")


def test_a_damaged_bundle_is_neither_quantized_nor_a_teacher(
    copied_bundle: Path, corpus_file: Path, tmp_path: Path, cli: Cli
) -> None:
    weights = copied_bundle / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    out = tmp_path / "out" / "bundle"
    for command, option in (("quantize", "--calibration"), ("distill", "--corpus")):
        assert_refused(
            cli(command, copied_bundle, option, corpus_file, "-o", out), out, "model.safetensors was changed"
        )


def test_a_gate_that_is_no_number_is_refused(tiny_teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out" / "bundle"
    result = cli("quantize", tiny_teacher, "--calibration", corpus_file, "-o", out, "--min-cosine", "nan")
    assert_refused(result, out, "min_cosine is nan; it must be within 0 to 1")
