"""The stage from end to end on the tiny teacher, with made-up speeds: what is dropped, trained, kept and written."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from helpers import sentences

from edgebert.bench import Measured, Subject
from edgebert.bundle import Bundle
from edgebert.distill.fit import costs, rungs
from edgebert.distill.fit.budget import Budget
from edgebert.distill.fit.device import THIS, find_device
from edgebert.distill.fit.opening import Options
from edgebert.distill.fit.outcome import Outcome
from edgebert.distill.fit.quick import quick_int8
from edgebert.distill.fit.space import Space
from edgebert.distill.fit.stage import fit
from edgebert.distill.lock import sole_user
from edgebert.distill.recipe import Data, Objectives, Recipe, Student, Training
from edgebert.errors import BudgetError, DataError, EdgeBertError, RecipeError, TargetError
from edgebert.timing import Timing

Cli = Callable[..., Result]
# Candidates in this order: layers (3,), (0, 3) and all four. The four-layer one is too slow in the fixture.
SPACE = "layers = [1, 2, 4]\nvocabulary = [0]\ntables = [8]\n"
RECIPE = Recipe(
    training=Training(epochs=1.0, batch_size=16, precision="fp32", learning_rate=1e-3), data=Data(held_out=40)
)
OPTIONS = Options(Space(layers=(1, 2, 4), vocabulary=(0,), tables=(8,)), RECIPE, threads=1)
BUDGET = Budget(max_mb=1.0, p99_ms=4.5, min_retention=0.5)
QUICK = ("--epochs", 1, "--batch-size", 16, "--learning-rate", 1e-3, "--held-out", 40)


def made_up(subjects: list[Subject], texts: list[str], **_: Any) -> list[Measured]:
    """Speeds by depth: p99 is a millisecond and one more for each layer."""
    found = []
    for subject in subjects:
        assert subject.artifact is not None
        depth = json.loads((Path(subject.model) / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
        timing = Timing(float(depth), float(depth), depth + 1.0, 1000.0 / depth)
        found.append(Measured(subject.model, "openvino", "int8", 1, timing, 0.1, 100))
    return found


real_quantize = rungs.quantize


def unproven(model: Bundle, texts: list[str], out: Path, options: Any, **_: Any) -> tuple[Bundle, None]:
    """`quantize` without its proofs, which start processes; one test has the real one."""
    return quick_int8(model, texts, out, tables=options.tables), None


@pytest.fixture(autouse=True)
def speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started to time or to prove a model."""
    monkeypatch.setattr(costs, "bench", made_up)
    monkeypatch.setattr(rungs, "quantize", unproven)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path) -> Iterator[tuple[Path, Outcome]]:
    """A folder with `corpus.txt`, the fit `out` and all it kept in `work`; do not change it, see `again`."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "corpus.txt").write_text("\n".join(sentences(240)) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("EDGEBERT_CACHE", str(folder / "cache"))
        patched.setattr(costs, "bench", made_up)
        patched.setattr(rungs, "quantize", unproven)
        options = dataclasses.replace(OPTIONS, work=folder / "work")
        teacher = Bundle.from_pretrained(tiny_teacher)
        yield folder, fit(teacher, [folder / "corpus.txt"], folder / "out", BUDGET, find_device(THIS), options)


@pytest.fixture
def again(done: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the fit of `done` again into `tmp_path / "out"`, with what it kept."""
    folder, _ = done
    shutil.copytree(folder / "work", tmp_path / "work")
    monkeypatch.setenv("EDGEBERT_CACHE", str(folder / "cache"))

    def run(teacher: Path, budget: Budget, options: Options = OPTIONS) -> Outcome:
        given = dataclasses.replace(options, work=tmp_path / "work")
        model = Bundle.from_pretrained(teacher)
        return fit(model, [folder / "corpus.txt"], tmp_path / "out", budget, find_device(THIS), given)

    return run


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained and quantized in this test."""
    found: list[str] = []
    for name in ("distill", "quantize", "quick_int8"):
        whole = getattr(rungs, name)

        def noted(*args: Any, name: str = name, whole: Any = whole, **kwargs: Any) -> Any:
            found.append(name)
            return whole(*args, **kwargs)

        monkeypatch.setattr(rungs, name, noted)
    return found


def test_what_is_over_budget_is_dropped_untrained_and_the_best_of_the_rest_is_written(
    done: tuple[Path, Outcome],
) -> None:
    folder, outcome = done
    one, two, four = outcome.rows
    assert (four.status, four.why, four.epochs, four.retention) == (
        "over budget",
        "p99 5.00 ms (--p99-ms 4.5)",
        0,
        None,
    )
    assert (one.status, two.status) == ("pareto", "chosen")
    assert (one.epochs, two.epochs) == (0.5, 1.5)
    assert one.retention is not None and two.retention is not None
    assert 0.5 < one.retention < two.retention < 1
    assert one.size_mb < two.size_mb < four.size_mb < 1
    assert [row.p99_ms for row in outcome.rows] == [2.0, 3.0, 5.0]
    assert {row.tokens for row in outcome.rows} == {165}
    units = sorted(path.name for path in (folder / "work").glob("*/rungs/*"))
    assert units == ["l0.3-vall", "l3-vall"]


def test_the_bundle_is_sealed_and_says_what_was_asked_tried_and_measured(
    done: tuple[Path, Outcome], tiny_teacher: Path
) -> None:
    folder, outcome = done
    bundle = Bundle.open(folder / "out")
    bundle.check()
    assert set(bundle.manifest.artifacts) >= {"openvino-int8", "onnxruntime-int8"}
    lineage = bundle.manifest.lineage
    told = lineage["fit"]
    assert told["budget"] == {"max_mb": 1.0, "p99_ms": 4.5, "min_retention": 0.5, "size_option": "--max-mb"}
    assert [row["status"] for row in told["tried"]] == ["pareto", "chosen", "over budget"]
    assert told["measured"]["retention"] == outcome.chosen.retention
    assert (told["device"], told["artifact"], told["rungs"]) == ("this", "openvino-int8", [0.5, 1.0])
    assert lineage["student"] == "layers 0, 3 of the teacher"
    assert lineage["recipe"]["student"]["take_layers"] == [0, 3]
    assert lineage["recipe"]["student"]["start"] == "teacher"
    quality = {(q.metric, q.artifact): q.value for q in bundle.manifest.quality}
    assert quality["agreement_spearman", "openvino-int8"] == pytest.approx(outcome.chosen.retention, abs=1e-6)
    for place in (folder, tiny_teacher.parent):
        assert str(place) not in (folder / "out" / "edgebert.json").read_text(encoding="utf-8")


def test_the_chosen_student_is_quantized_with_all_proofs(
    tiny_teacher: Path, again: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proven in (tmp_path / "work").glob("*/rungs/*/*-t8"):
        shutil.rmtree(proven)
    monkeypatch.setattr(rungs, "quantize", real_quantize)
    outcome = again(tiny_teacher, BUDGET)
    artifact = outcome.bundle.manifest.artifacts["openvino-int8"]
    assert artifact.parity is not None and artifact.min_cosine["ordinary"] == 0.97
    assert outcome.bundle.manifest.lineage["quantize"]["recipe"].startswith("outliers")


def test_the_size_is_that_of_the_package(done: tuple[Path, Outcome], tmp_path: Path) -> None:
    from edgebert.targets.build import build_package

    folder, outcome = done
    device = find_device(THIS)
    size = outcome.chosen.size_mb
    # To the card's own words: it names the bundle and what it keeps.
    build_package(Bundle.open(folder / "out"), tmp_path / "a.edgebert",
                  dataclasses.replace(device.profile, max_size_mb=size + 0.001))  # fmt: skip
    with pytest.raises(TargetError, match="max_size_mb"):
        build_package(Bundle.open(folder / "out"), tmp_path / "b.edgebert",
                      dataclasses.replace(device.profile, max_size_mb=size - 0.001))  # fmt: skip


def test_the_table_and_the_plot_lie_beside_it_and_nothing_else_is_left(done: tuple[Path, Outcome]) -> None:
    folder, outcome = done
    names = {path.name for path in folder.iterdir()}
    assert names == {"cache", "corpus.txt", "out", "out.fit.csv", "out.fit.svg", "work"}
    with (folder / "out.fit.csv").open(encoding="utf-8") as stream:
        assert [line["status"] for line in csv.DictReader(stream)] == [row.status for row in outcome.rows]
    assert (folder / "out.fit.svg").read_text(encoding="utf-8").count("<circle") == 2
    (kept,) = (folder / "work").iterdir()
    assert sorted(path.name for path in kept.iterdir()) == ["rungs", "sizes", "teacher.npy", "times"]


def test_the_word_table_stays_frozen_from_rung_to_rung(done: tuple[Path, Outcome], tiny_teacher: Path) -> None:
    import torch
    from safetensors.torch import load_file

    ours, theirs = load_file(done[0] / "out" / "model.safetensors"), load_file(tiny_teacher / "model.safetensors")
    (name,) = [name for name in ours if name.endswith("word_embeddings.weight")]
    assert torch.equal(ours[name], theirs[name])


def test_a_second_run_trains_and_quantizes_nothing(
    tiny_teacher: Path, again: Callable[..., Outcome], trained: list[str], done: tuple[Path, Outcome]
) -> None:
    assert again(tiny_teacher, BUDGET).rows == done[1].rows
    assert trained == []


def test_a_retention_that_nothing_reaches_is_told_and_a_looser_one_trains_nothing(
    tiny_teacher: Path, again: Callable[..., Outcome], trained: list[str], done: tuple[Path, Outcome], tmp_path: Path
) -> None:
    best = done[1].chosen.retention
    assert best is not None
    with pytest.raises(BudgetError) as raised:
        again(tiny_teacher, dataclasses.replace(BUDGET, min_retention=0.9999))
    told = str(raised.value)
    assert told.startswith(
        "no candidate meets the whole budget after training: the nearest of 2 is 2 layers (0, 3), 165 tokens, 8-bit "
        "table with 0."
    )
    assert f"retention {best:.4f}: lower --min-retention from 0.9999 to 0." in told
    assert "what was trained is kept" in told
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    looser = float(told.partition("from 0.9999 to ")[2].partition(";")[0])
    assert again(tiny_teacher, dataclasses.replace(BUDGET, min_retention=looser)).chosen.retention == best
    assert trained == []


def test_no_candidate_within_size_and_p99_is_told_before_training(
    tiny_teacher: Path, again: Callable[..., Outcome], trained: list[str], tmp_path: Path, done: tuple[Path, Outcome]
) -> None:
    small = done[1].rows[0]
    with pytest.raises(BudgetError) as raised:
        again(tiny_teacher, Budget(max_mb=1.0, p99_ms=1.5))
    assert str(raised.value) == (
        f"no candidate fits the budget, nothing was trained: the nearest of 3 is {small.candidate} with "
        f"{small.size_mb:.2f} MB, p99 2.00 ms: raise --p99-ms from 1.5 to 2; or give smaller candidates with --space"
    )
    with pytest.raises(BudgetError, match="raise --max-mb from 0.1 to 0"):
        again(tiny_teacher, Budget(max_mb=0.1))
    assert trained == []
    assert not (tmp_path / "out").exists()


def test_a_candidate_that_is_too_slow_once_quantized_makes_way_for_the_next(
    tiny_teacher: Path, again: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(subjects: list[Subject], texts: list[str], **_: Any) -> list[Measured]:
        found = made_up(subjects, texts)
        return [
            dataclasses.replace(m, timing=dataclasses.replace(m.timing, p99_ms=9.0 if m.timing.p50_ms == 2 else 2.5))
            for m in found
        ]

    monkeypatch.setattr(costs, "bench", slower)
    one, two, _ = again(tiny_teacher, BUDGET).rows
    assert (one.status, one.p99_ms) == ("chosen", 2.5)
    assert (two.status, two.why) == ("missed", "p99 9.00 ms (--p99-ms 4.5)")


def test_what_the_gates_of_int8_refuse_makes_way_too(
    tiny_teacher: Path, again: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Any, candidate: Any, chain: Any) -> Bundle:
        raise BudgetError("not accurate enough, nothing was written")

    monkeypatch.setattr(rungs.Rungs, "quantized", refused)
    with pytest.raises(BudgetError, match="the nearest of 2 is .*: not accurate enough, nothing was written; what"):
        again(tiny_teacher, BUDGET)


def test_an_interrupted_fit_goes_on_after_the_last_rung(
    tiny_teacher: Path, done: tuple[Path, Outcome], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch,
    trained: list[str],
) -> None:  # fmt: skip
    folder, outcome = done
    shutil.copytree(folder / "work", tmp_path / "work")
    (kept,) = (tmp_path / "work").iterdir()
    shutil.rmtree(kept / "rungs" / "l0.3-vall")
    (kept / "scratch" / "left").mkdir(parents=True)
    (kept / "rungs" / ".l9.x.partial").mkdir()
    (kept / "sizes" / ".x.json.y.partial").touch()
    monkeypatch.setenv("EDGEBERT_CACHE", str(folder / "cache"))
    (tmp_path / "space.toml").write_text(SPACE, encoding="utf-8")
    out = tmp_path / "out"
    arguments = ("fit", tiny_teacher, "--corpus", folder / "corpus.txt", "--space", tmp_path / "space.toml",
                 "-o", out,
                 "--max-mb", 1, "--p99-ms", 4.5, "--min-retention", 0.5, "--work", tmp_path / "work",
                 *QUICK)  # fmt: skip
    (tmp_path / "recipe.toml").write_text('[training]\nprecision = "fp32"\n', encoding="utf-8")
    arguments = (*arguments, "--recipe", tmp_path / "recipe.toml")
    whole, calls = rungs.distill, 0

    def interrupted(*args: Any, **kwargs: Any) -> Bundle:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(rungs, "distill", interrupted)
        result = cli(*arguments)
    assert result.code == 130
    assert result.err.splitlines()[-1] == "edgebert: interrupted"
    assert {path.name for path in tmp_path.iterdir()} == {"work", "space.toml", "recipe.toml"}
    assert [path.name for path in kept.rglob(".*.partial")] == []
    trained.clear()
    result = cli(*arguments)
    assert result.code == 0, result.err
    assert trained == ["distill", "quick_int8", "quantize"]
    lines = result.out.splitlines()
    assert lines[0].split() == "candidate MB p50 ms p99 ms texts/s epochs retention".split()
    assert "over budget: p99 5.00 ms (--p99-ms 4.5)" in lines[3]
    assert lines[2].rstrip().endswith("chosen")
    assert lines[4] == (
        "retention: agreement_spearman in int8 (40 held-out sentences of the training text); device: this"
    )
    assert lines[5].startswith("chosen: 2 layers (0, 3), 165 tokens, 8-bit table with 0.")
    assert lines[6] == f"bundle: {out}"
    assert "dropped: 4 layers (0, 1, 2, 3), 165 tokens, 8-bit table: p99 5.00 ms (--p99-ms 4.5)" in result.err
    assert "rung 2 of 2, 1 epochs: 2 layers (0, 3), all tokens" in result.err
    Bundle.open(out).check()
    shutil.rmtree(out)
    result = cli(*arguments, "--json")
    told = json.loads(result.out)
    assert told["chosen"] in told["candidates"]
    assert [row["status"] for row in told["candidates"]] == [row.status for row in outcome.rows]
    result = cli(*arguments)
    assert (result.code, result.err) == (1, f"edgebert: the output {out} exists already: choose another name or remove "
                                            "it first\n")  # fmt: skip


def test_pairs_that_people_judged_give_the_retention(
    tiny_teacher: Path, again: Callable[..., Outcome], tmp_path: Path, trained: list[str]
) -> None:
    texts = sentences(40, seed=7)
    rows = [{"text": a, "text_pair": b, "score": len(set(a.split()) & set(b.split()))} for a, b in
            pairwise(texts)]  # fmt: skip
    dev = tmp_path / "dev.jsonl"
    dev.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    options = dataclasses.replace(
        OPTIONS, dev=dev, space=Space(layers=(1,), vocabulary=(0,), tables=(8, 4)),
        recipe=dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, epochs=0.25)),
    )  # fmt: skip
    outcome = again(tiny_teacher, Budget(), options)
    assert (outcome.metric, outcome.data) == ("similarity_retention", "dev.jsonl")
    assert [row.epochs for row in outcome.rows] == [0.25, 0.25]
    assert trained.count("distill") == 1  # the bits of a table are no training
    assert outcome.chosen.retention == max(row.retention or 0 for row in outcome.rows)


def test_a_trimmed_candidate_is_trained_on_and_tells_its_vocabulary(
    tiny_teacher: Path, again: Callable[..., Outcome], tmp_path: Path
) -> None:
    options = dataclasses.replace(OPTIONS, space=Space(layers=(1, 2), vocabulary=(130,), tables=(8,)))
    outcome = again(tiny_teacher, Budget(), options)
    assert [row.tokens for row in outcome.rows] == [130, 130]
    lineage = Bundle.open(tmp_path / "out").manifest.lineage
    assert lineage["vocabulary"]["tokens"] == 130
    assert len(lineage["fit"]["rungs"]) == (2 if outcome.chosen.epochs == 1.5 else 1)


def test_narrow_candidates_are_sized_untrained_as_they_are_when_trained(
    tiny_teacher: Path, again: Callable[..., Outcome], tmp_path: Path
) -> None:
    space = Space(layers=(1,), vocabulary=(0,), tables=(8,), width=(32,), feed_forward=(64,))
    outcome = again(tiny_teacher, Budget(), dataclasses.replace(OPTIONS, space=space))
    chosen = outcome.chosen
    assert "width 32, feed-forward 64" in chosen.candidate
    bundle = Bundle.open(tmp_path / "out")
    config = json.loads((bundle.root / "config.json").read_text(encoding="utf-8"))
    assert config["intermediate_size"] == 64
    assert config["hidden_size"] == 32
    assert bundle.manifest.dimension == 64  # the narrow one has a map into its teacher's space
    (kept,) = (tmp_path / "work").glob("*/sizes/l3-vall-w32-f64-t8-*.json")
    assert json.loads(kept.read_text(encoding="utf-8"))["size_mb"] == pytest.approx(chosen.size_mb, rel=0.02)


def test_a_profile_with_a_table_is_fitted_without_timing(
    tiny_teacher: Path, done: tuple[Path, Outcome], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = done
    monkeypatch.setenv("EDGEBERT_CACHE", str(folder / "cache"))
    shutil.copytree(folder / "work", tmp_path / "work")
    table, space = tmp_path / "box.toml", tmp_path / "space.toml"
    space.write_text(SPACE, encoding="utf-8")
    common = ("--corpus", folder / "corpus.txt", "--space", space, "--work", tmp_path / "work", *QUICK)
    result = cli("fit", tiny_teacher, *common, "--measure-only", "-o", table)
    assert (result.code, result.out) == (0, f"{table}: 3 shapes\n"), result.err
    table.write_text("max_size_mb = 0.2\n" + table.read_text(encoding="utf-8"), encoding="utf-8")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("this machine is not the device")

    monkeypatch.setattr(costs, "bench", refuse)
    result = cli("fit", tiny_teacher, *common, "--device", table, "-o", tmp_path / "out", "--max-mb", 5)
    assert result.code == 0, result.err
    assert "MB (max_size_mb of box 0.2)" in result.out
    assert "device: box" in result.out
    assert Bundle.open(tmp_path / "out").manifest.lineage["fit"]["timed_on"] == "the device's own table"
    space.write_text("layers = [3]\nvocabulary = [0]\ntables = [8]\n", encoding="utf-8")
    result = cli("fit", tiny_teacher, *common, "--device", table, "-o", tmp_path / "other", "--max-mb", 0.19)
    if "no candidate fits" not in result.err:
        assert "the table of box has no model of 3 layers, width 64, 4 heads and feed_forward 128" in result.err
    assert result.code == 1


def test_a_shape_that_the_devices_table_lacks_is_named(tiny_teacher: Path, done: tuple[Path, Outcome]) -> None:
    from edgebert.distill.fit.costs import Built, Costs
    from edgebert.distill.fit.device import Device
    from edgebert.targets.profile import Profile

    device = Device(Profile("box", "b", ("openvino-int8",)), False)
    measure: Any = Costs
    empty = measure(None, None, None, None, device, done[0], (), (), None, None)
    with pytest.raises(TargetError) as raised:
        empty.listed(Built(1.0, 165, 3, 64, 4, 128))
    assert str(raised.value) == (
        "the table of box has no model of 3 layers, width 64, 4 heads and feed_forward 128: measure it there with "
        "`edgebert fit --measure-only`, or leave that shape out of the space"
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dataclasses.replace(OPTIONS, recipe=Recipe(student=Student(start="fresh"))), RecipeError,
         "student.start is 'fresh'; edgebert fit copies the teacher's layers: leave it out"),
        (dataclasses.replace(OPTIONS, recipe=Recipe(training=Training(batch_size=230))), DataError,
         "240 distinct sentences are too few"),
        (dataclasses.replace(OPTIONS, recipe=dataclasses.replace(RECIPE, data=Data(max_sentences=48, held_out=40))),
         DataError, "39 sentences to train on are too few to fit a budget: at least 40 are needed"),
        (dataclasses.replace(OPTIONS, dev=Path("none.jsonl")), DataError, "no such file: none.jsonl"),
        (dataclasses.replace(OPTIONS, space=Space(layers=())), RecipeError, "the space is empty"),
        (
            dataclasses.replace(OPTIONS, recipe=Recipe(student=Student(table_codes=3))), RecipeError,
            "student.table_codes is 3; a fit looks for tables of 8 and 4 bits",
        ),
        (
            dataclasses.replace(OPTIONS, recipe=Recipe(student=Student(projection="rotate"))), RecipeError,
            'student.projection is "rotate"; a fit trains its students',
        ),
        (
            dataclasses.replace(OPTIONS, recipe=Recipe(objectives=Objectives(contrastive=1.0))), RecipeError,
            "objectives.contrastive is 1.0 and learns from pairs, of which edgebert fit takes none",
        ),
        (
            dataclasses.replace(OPTIONS, recipe=Recipe(training=Training(epochs=0.0))), RecipeError,
            "training.epochs is 0; edgebert fit trains its candidates",
        ),
        (
            dataclasses.replace(
                OPTIONS, recipe=dataclasses.replace(
                    RECIPE, training=dataclasses.replace(RECIPE.training, epochs=0.1, qat=0.25)
                )
            ), RecipeError, "training.qat is 0.25 and training has 1 steps",
        ),
        (
            dataclasses.replace(OPTIONS, recipe=Recipe(objectives=Objectives(matryoshka=(4096,)))), RecipeError,
            "objectives.matryoshka names 4096 dimensions",
        ),
        (
            dataclasses.replace(
                OPTIONS, space=Space(width=(32,)), recipe=Recipe(objectives=Objectives(attention=1.0))
            ), RecipeError, "objectives.attention compares head by head",
        ),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_before_any_work(
    options: Options, error: type[EdgeBertError], message: str, tiny_teacher: Path, again: Callable[..., Outcome],
    trained: list[str],
) -> None:  # fmt: skip
    with pytest.raises(error) as raised:
        again(tiny_teacher, BUDGET, options)
    assert str(raised.value).startswith(message)
    assert trained == []


def test_a_folder_in_use_and_several_processes_are_refused(
    tiny_teacher: Path, again: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = (tmp_path / "work").iterdir()
    with sole_user(kept), pytest.raises(EdgeBertError, match="is in use by process"):
        again(tiny_teacher, BUDGET)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="edgebert fit times models and runs in one process: start it without"):
        again(tiny_teacher, BUDGET)


def test_standard_input_is_refused(tiny_teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        fit(Bundle.from_pretrained(tiny_teacher), ["-"], tmp_path / "out", BUDGET, find_device(THIS), OPTIONS)
    assert str(raised.value) == (
        "standard input (-) can be read once, and a fit reads the text again and again: write the text to a file first"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--max-mb", 0), 1, "edgebert: --max-mb is 0.0; it must be a finite number above 0\n"),
        (("--min-retention", 97), 1, "edgebert: --min-retention is 97.0; it must be within 0 to 1\n"),
        (("--device", "phone"), 1, "edgebert: no target 'phone'; known are "),
        (("--space", "none.toml"), 1, "edgebert: no such space: none.toml"),
        (("--measure-only", "--max-mb", 3), 2, "--measure-only times shapes: a budget and --dev have no meaning there"),
    ],
)
def test_wrong_options_are_one_clear_error(
    arguments: tuple[object, ...], code: int, message: str, tiny_teacher: Path, corpus_file: Path, tmp_path: Path,
    cli: Cli,
) -> None:  # fmt: skip
    result = cli("fit", tiny_teacher, "--corpus", corpus_file, "-o", tmp_path / "out", *arguments)
    assert result.code == code
    assert message in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]
