"""What rounding the weights adds to the mean output of a layer is gone after the correction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import graph_of, kinds, lookup_model, run, surroundings

from edgebert.errors import RecipeError
from edgebert.quantize.passes import Pass
from edgebert.quantize.passes.bias_correction import BiasCorrection
from edgebert.quantize.passes.outliers import Outliers
from edgebert.quantize.passes.static_int8 import StaticInt8

IDS = np.arange(80).reshape(2, 40)


def mean_error(passes: tuple[Pass, ...], folder: Path, *, biased: bool = True) -> float:
    """How far the mean of the outputs is from that in float, the root of the mean square over output features."""
    rng = np.random.default_rng(0)
    table = rng.normal(3.0, 1.0, size=(80, 64))  # a mean far from zero: rounding errors of weights add up
    table[:, 9] *= 40
    weight = rng.normal(size=(64, 16)) * 0.2
    model = lookup_model(table, [weight], bias=rng.normal(size=16) if biased else None)
    graph, context = graph_of(model), surroundings(model, IDS, folder)
    for one in passes:
        one(graph, context)
        graph.history = (*graph.history, one)
    (found,), (wanted,) = run(graph.model, {"input_ids": IDS}), run(model, {"input_ids": IDS})
    return float(np.sqrt(((found - wanted).mean(axis=(0, 1)) ** 2).mean()))


@pytest.mark.parametrize("weights", ["safe", "7-bit", "full"])
@pytest.mark.parametrize("first", [(), (Outliers(),)])
def test_the_mean_error_shrinks(weights: str, first: tuple[Pass, ...], tmp_path: Path) -> None:
    rounded = StaticInt8(weights=weights)  # type: ignore[arg-type]
    before = mean_error((*first, rounded), tmp_path)
    after = mean_error((*first, rounded, BiasCorrection()), tmp_path)
    # What is left is what rounding the activations does to the mean.
    assert after < before / 2


def test_a_layer_without_a_bias_stays_as_it_is(tmp_path: Path) -> None:
    rounded = StaticInt8(weights="7-bit")
    before = mean_error((rounded,), tmp_path, biased=False)
    assert mean_error((rounded, BiasCorrection()), tmp_path, biased=False) == before > 0


def test_before_anything_is_rounded_there_is_nothing_to_correct(tmp_path: Path) -> None:
    model = lookup_model(np.ones((80, 64)), [np.ones((64, 16))], bias=np.ones(16))
    graph = graph_of(model)
    with pytest.raises(RecipeError, match="bias-correction finds no rounded weights: it comes after static-int8"):
        BiasCorrection()(graph, surroundings(model, IDS, tmp_path))
    assert graph.model.SerializeToString() == model.SerializeToString()
    assert kinds(graph.model) == ["Gather", "MatMul", "Add"]
