"""The search over recipes: what passes, why others were left, the fastest of several, and engines that crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgebert.bundle import Bundle
from edgebert.errors import BudgetError, EngineError
from edgebert.manifest import Artifact, Parity
from edgebert.progress import Progress
from edgebert.quantize import search as module
from edgebert.quantize.context import Context
from edgebert.quantize.parity import Gates, Measured
from edgebert.quantize.passes.static_int8 import StaticInt8
from edgebert.quantize.recipe import DYNAMIC, Recipe
from edgebert.quantize.reference import Reference, timed_texts
from edgebert.quantize.search import INT8, Attempt, Search, keep
from edgebert.quantize.task_gate import Judged, TaskGate
from edgebert.timing import Timing
from edgebert.tokenizer import Tokens

A, B, C, D = (Recipe(name, (StaticInt8(),)) for name in "abcd")
KNOWN = Reference((), (), ("a text",), np.ones((1, 2), np.float32), Judged())


class Told(Progress):
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def worth(cosine: float, *, agreement: float = 1.0, retention: float = 1.0, answers: float | None = None) -> Measured:
    """A measurement whose least cosine is that."""
    fault = "" if cosine >= 0.97 else f"cosine {cosine} on ordinary text, at least 0.97 is needed"
    return Measured(Parity(cosine, 1, 1, 1, agreement), fault, retention, (), answers)


def speed(sentences_s: float) -> Timing:
    """A timing of so many sentences a second."""
    return Timing(p50_ms=1, p95_ms=1, p99_ms=1, sentences_s=sentences_s)


@pytest.fixture
def searching(
    copied_bundle: Path, exported: Context, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Search, list[str]]]:
    """Makes a search whose measurements and speeds are given by recipe; graphs are not built."""

    def make(
        found: dict[str, Measured | EngineError | dict[str, Measured | EngineError]], *,
        speeds: dict[str, float | tuple[float, float]] | None = None,
        task: TaskGate | None = None, proven: dict[str, Measured | dict[str, Measured]] | None = None,
        ranked: Sequence[str] = (),
    ) -> tuple[Search, list[str]]:  # fmt: skip
        told, seen = Told(), list[str]()
        bundle = Bundle.open(copied_bundle)
        search = Search(bundle, exported, KNOWN, Gates(), task, lambda: tuple(ranked), told)

        def build(recipe: Recipe) -> dict[str, Artifact]:
            folder = bundle.root / module.CANDIDATES / recipe.name
            folder.mkdir(parents=True)
            (folder / "model_qint8.onnx").write_bytes(b"12345678")
            files = (f"{module.CANDIDATES}/{recipe.name}/model_qint8.onnx",)
            return {name: Artifact(name.split("-")[0], "int8", files, ()) for name in INT8}

        def measured(of: Bundle, name: str, known: Reference, gate: TaskGate | None) -> Measured:
            recipe = of.manifest.artifacts[name].files[0].split("/")[1]
            seen.append(recipe)
            answer = (proven or {}).get(recipe, found[recipe]) if known is KNOWN else found[recipe]
            answer = answer[name] if isinstance(answer, dict) else answer
            if isinstance(answer, EngineError):
                raise answer
            return answer

        def timings(of: Bundle, names: Sequence[str], texts: Sequence[str], singles: int) -> dict[str, Timing]:
            if speeds is None:
                raise EngineError("the engine's process ended with SIGABRT, a crash of the engine")
            both = {recipe: one if isinstance(one, tuple) else (one, one) for recipe, one in speeds.items()}
            return {name: speed(both[name.split("/")[0]][INT8.index(name.split("/")[1])]) for name in names}

        monkeypatch.setattr(search, "_build", build)
        monkeypatch.setattr(module, "measured", measured)
        monkeypatch.setattr(module, "timings", timings)
        return search, told.lines

    return make


def only(chosen: dict[str, Attempt]) -> Attempt:
    """The attempt that is chosen for both engines."""
    assert tuple(chosen) == INT8
    one, other = chosen.values()
    assert one is other
    return one


def states(search: Search) -> dict[str, str]:
    """Status by recipe."""
    return {attempt.recipe.name: attempt.status for attempt in search.attempts}


def test_the_first_that_passes_is_taken_and_the_rest_is_told_to_be_untried(searching: Callable[..., object]) -> None:
    search, lines = searching({"a": worth(0.9), "b": worth(0.99)})  # type: ignore[misc]
    best = only(search.run([A, B, C]))
    assert best.recipe == B
    assert states(search) == {"a": "rejected", "b": "chosen", "c": "not tried"}
    left, chosen, untried = search.attempts
    assert left.why == "; ".join(f"{n}: cosine 0.9 on ordinary text, at least 0.97 is needed" for n in INT8)
    assert lines == [f"recipe a: {left.why}"]
    assert (chosen.why, untried.why) == ("the first one that passes", "1 cheaper ones pass")
    assert (untried.measured, untried.size_mb, untried.retention) == ({}, None, None)
    assert chosen.size_mb == 8e-6


@pytest.mark.parametrize(("quickest", "speeds"), [("a", (30, 20, 10)), ("b", (10, 30, 20)), ("c", (10, 20, 30))])
def test_of_several_that_pass_the_fastest_is_taken(
    quickest: str, speeds: tuple[int, ...], searching: Callable[..., object]
) -> None:
    good = {name: worth(0.99) for name in "abc"}
    search, _ = searching(good, speeds=dict(zip("abc", speeds, strict=True)), task=TaskGate())  # type: ignore[misc]
    best = only(search.run([A, B, C, D], enough=3))
    assert (best.recipe.name, best.why) == (quickest, "the fastest one that passes")
    assert states(search) == {**dict.fromkeys("abc", "passed"), quickest: "chosen", "d": "not tried"}
    assert best.sentences_s == 30
    assert search.attempts[-1].why == "3 cheaper ones pass"


def test_one_that_fails_at_every_length_gives_way_to_the_next(searching: Callable[..., object]) -> None:
    good = {name: worth(0.99) for name in "abcd"}
    search, lines = searching(  # type: ignore[misc]
        good, speeds={"a": 30, "b": 20, "c": 10, "d": 5}, task=TaskGate(), proven={"a": worth(0.5)}
    )
    assert only(search.run([A, B, C, D], enough=3)).recipe == B
    assert states(search) == {"a": "rejected", "b": "chosen", "c": "passed", "d": "passed"}
    assert lines[0].startswith("recipe a: onnxruntime-int8: cosine 0.5 on ordinary text")


ORT, OPENVINO = ({INT8[0]: worth(0.99), INT8[1]: worth(0.9)}, {INT8[0]: worth(0.9), INT8[1]: worth(0.99)})


def test_each_engine_has_the_recipe_that_is_much_faster_in_it(searching: Callable[..., object]) -> None:
    search, lines = searching(  # type: ignore[misc]
        {"a": ORT, "b": OPENVINO, "c": worth(0.99)},
        speeds={"a": (30, 40), "b": (40, 30), "c": (10, 10)}, task=TaskGate(),
    )  # fmt: skip
    chosen = search.run([A, B, C], enough=3)
    assert {name: one.recipe.name for name, one in chosen.items()} == {INT8[0]: "a", INT8[1]: "b"}
    assert states(search) == {"a": "chosen", "b": "chosen", "c": "passed"}
    a, b, c = search.attempts
    assert a.why == (
        "the fastest one that passes in ONNX Runtime; left for OpenVINO: cosine 0.9 on ordinary text, at least 0.97 is "
        "needed"
    )
    assert b.why.startswith("the fastest one that passes in OpenVINO; left for ONNX Runtime: cosine 0.9")
    assert [[one.state(name) for name in INT8] for one in (a, b, c)] == [
        ["chosen", "rejected"], ["rejected", "chosen"], ["passed", "passed"],
    ]  # fmt: skip
    kept = keep(chosen, search.bundle.root)
    assert sorted(kept) == sorted(INT8)
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("speeds", "proven", "expected"),
    [
        ({"a": (10.9, 40), "c": (10, 10)}, {}, "c c"),  # not much faster
        ({"a": (30, 40), "c": (10, 10)}, {"a": worth(0.5)}, "c c"),  # not at every length
        ({"a": (30, 40), "c": (10, 10)}, {}, "a c"),
        ({"a": (30, 10), "c": (10, 40)}, {"c": ORT}, "none"),  # the only one for OpenVINO falls at some length
        ({"a": (10, 10), "c": (30, 40)}, {"c": OPENVINO}, "a c"),  # that for both falls in ONNX Runtime
    ],
)
def test_an_engine_has_its_own_recipe_only_where_it_is_worth_it_and_proven(
    speeds: dict[str, Any], proven: dict[str, Any], expected: str, searching: Callable[..., object]
) -> None:
    search, _ = searching(  # type: ignore[misc]
        {"a": ORT, "c": worth(0.99)}, speeds=speeds, task=TaskGate(), proven=proven
    )
    if expected == "none":
        with pytest.raises(BudgetError):
            search.run([A, C], enough=3)
        return
    assert " ".join(one.recipe.name for one in search.run([A, C], enough=3).values()) == expected


def test_each_engine_has_a_recipe_of_its_own_where_none_passes_in_both(searching: Callable[..., object]) -> None:
    found = {"a": worth(0.5), "b": ORT, "c": OPENVINO, "d": ORT}
    search, _ = searching(found, speeds={"a": 50, "b": 20, "c": 10, "d": 30}, task=TaskGate())  # type: ignore[misc]
    assert [one.recipe for one in search.run([A, B, C, D], enough=3).values()] == [D, C]
    shutil.rmtree(search.bundle.root / module.CANDIDATES)
    search, _ = searching(found)  # type: ignore[misc]
    assert [one.recipe for one in search.run([A, B, C, D]).values()] == [B, C]  # not timed: the cheapest
    assert search.attempts[1].why.startswith("the first one that passes in ONNX Runtime; left for OpenVINO: cosine 0.9")


def test_a_crash_in_one_engine_leaves_the_recipe_to_the_other(searching: Callable[..., object]) -> None:
    crash = EngineError("a crash of the engine")
    search, _ = searching(  # type: ignore[misc]
        {"a": worth(0.99), "b": OPENVINO}, speeds={"a": 20, "b": 10}, task=TaskGate(),
        proven={"a": {INT8[0]: worth(0.99), INT8[1]: crash}},
    )  # fmt: skip
    assert [one.recipe for one in search.run([A, B], enough=3).values()] == [A, B]
    assert search.attempts[0].why == "the fastest one that passes in ONNX Runtime; left for OpenVINO: " + str(crash)
    assert [search.attempts[0].state(name) for name in INT8] == ["chosen", "failed"]


def test_what_passes_in_both_may_stay_for_one_engine(searching: Callable[..., object]) -> None:
    search, _ = searching(  # type: ignore[misc]
        {"a": ORT, "b": worth(0.99)}, speeds={"a": (150, 1), "b": (100, 50)}, task=TaskGate()
    )
    assert [one.recipe for one in search.run([A, B], enough=3).values()] == [A, B]
    assert search.attempts[1].why == "the fastest one that passes in both engines, for OpenVINO"


def test_without_a_candidate_for_an_engine_nothing_more_is_done(searching: Callable[..., object]) -> None:
    search, lines = searching({"a": ORT, "b": worth(0.5)}, task=TaskGate())  # type: ignore[misc]
    with pytest.raises(BudgetError):
        search.run([A, B], enough=3)
    assert not any("timed" in line for line in lines)


def test_where_speeds_cannot_be_measured_the_cheapest_that_passes_is_taken(searching: Callable[..., object]) -> None:
    search, lines = searching({name: worth(0.99) for name in "abc"}, task=TaskGate())  # type: ignore[misc]
    assert only(search.run([A, B, C], enough=3)).recipe == A
    assert lines == [
        "the recipes could not be timed, the cheapest that passes is taken: the engine's process ended with SIGABRT, "
        "a crash of the engine"
    ]


def test_an_engine_that_crashes_is_told_and_the_next_recipe_tried(searching: Callable[..., object]) -> None:
    crash = EngineError("the engine's process ended with SIGABRT, a crash of the engine")
    search, lines = searching({"a": crash, "b": worth(0.99)})  # type: ignore[misc]
    assert only(search.run([A, B])).recipe == B
    assert states(search) == {"a": "failed", "b": "chosen"}
    told = "the engine's process ended with SIGABRT, a crash of the engine"
    assert lines == [f"recipe a: onnxruntime-int8: {told}; openvino-int8: {told}"]


def test_where_none_passes_the_nearest_miss_is_told(searching: Callable[..., object]) -> None:
    search, _ = searching(  # type: ignore[misc]
        {"a": worth(0.5), "b": worth(0.96), "c": EngineError("no such operation")}
    )
    with pytest.raises(BudgetError) as raised:
        search.run([A, B, C])
    told = str(raised.value)
    assert told.startswith(
        "not accurate enough, nothing was written. b, the nearest of 3 recipes: onnxruntime-int8: co"
    )
    assert "cosine 0.96" in told
    assert "--min-cosine" in told
    assert states(search) == {"a": "rejected", "b": "rejected", "c": "failed"}


def test_every_gate_can_reject(searching: Callable[..., object]) -> None:
    search, _ = searching(  # type: ignore[misc]
        {"a": worth(0.99, agreement=0.9), "b": worth(0.99, retention=0.9)}, task=TaskGate(min_retention=0.95)
    )
    with pytest.raises(
        BudgetError, match="b, the nearest of 2 recipes: onnxruntime-int8: keeps 0.9000 of the agreement"
    ):
        search.run([A, B], enough=3)
    assert "agreement 0.9000, at least 0.98 is needed" in search.attempts[0].why
    assert search.attempts[1].retention == 0.9


def test_a_task_is_kept_where_its_answers_are(searching: Callable[..., object]) -> None:
    search, _ = searching(  # type: ignore[misc]
        {"a": worth(0.99, answers=0.9), "b": worth(0.99, answers=0.97), "c": worth(0.99, agreement=0.5, answers=0.99)},
        task=TaskGate("task", ("dev.jsonl",)),
    )
    assert only(search.run([A, B, C])).recipe.name == "c"
    assert "agreement 0.9700, at least 0.98 is needed" in search.attempts[1].why


def test_of_a_task_the_nearest_miss_is_told_by_its_answers(searching: Callable[..., object]) -> None:
    search, _ = searching(  # type: ignore[misc]
        {"a": worth(0.99, answers=0.9), "b": worth(0.99, agreement=0.5, answers=0.97)},
        task=TaskGate("task", ("dev.jsonl",)),
    )
    with pytest.raises(BudgetError, match="b, the nearest of 2 recipes: onnxruntime-int8: agreement 0.9700, at least"):
        search.run([A, B])


def test_only_crashes_are_told_as_such(searching: Callable[..., object]) -> None:
    search, _ = searching({"a": EngineError("no such operation")})  # type: ignore[misc]
    with pytest.raises(BudgetError, match="a, the nearest of 1 recipes: onnxruntime-int8: no such operation"):
        search.run([A])


def test_layers_left_in_float_are_the_most_sensitive_ones(searching: Callable[..., object]) -> None:
    search, _ = searching({"e": worth(0.99)}, ranked=("first", "second", "third"))  # type: ignore[misc]
    best = only(search.run([Recipe("e", (StaticInt8(exclude=("mine",)),), float_layers=2)]))
    assert best.recipe.passes == (StaticInt8(exclude=("mine", "first", "second")),)


def test_a_recipe_that_depends_on_the_batch_says_so() -> None:
    assert DYNAMIC.depends_on_batch
    assert not A.depends_on_batch


def test_the_files_of_the_chosen_are_kept_and_the_others_removed(searching: Callable[..., object]) -> None:
    search, _ = searching({"a": worth(0.5), "b": worth(0.99)})  # type: ignore[misc]
    chosen = search.run([A, B])
    root = search.bundle.root
    del chosen["openvino-int8"]
    shutil.rmtree(root / "onnx")
    kept = keep(chosen, root)
    assert kept["onnxruntime-int8"].files == ("onnx/model_qint8.onnx",)
    assert (root / "onnx" / "model_qint8.onnx").read_bytes() == b"12345678"
    assert not (root / module.CANDIDATES).exists()


@pytest.mark.parametrize(("tokens", "texts"), [(5, 256), (64, 256), (384, 43), (2000, 32)])
def test_long_texts_are_timed_less_often(tokens: int, texts: int) -> None:
    def tokenizer(read: Sequence[str]) -> list[Tokens]:
        return [Tokens(list(range(tokens)), truncated=False) for _ in read]

    given = [f"text {number}" for number in range(40)]
    found = timed_texts(given, cast("Any", tokenizer))
    assert len(found) == texts
    assert found[:32] == tuple(given[:32])
