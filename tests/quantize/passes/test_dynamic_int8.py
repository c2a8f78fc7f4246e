"""Dynamic int8 is near float, and a text's vector does depend on its batch mates, which it is labelled with."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import graph_of, kinds, run

from edgebert.batching import pad
from edgebert.engines.base import feed
from edgebert.errors import RecipeError
from edgebert.quantize.context import Context
from edgebert.quantize.passes.dynamic_int8 import DynamicInt8
from edgebert.quantize.passes.weight_only import WeightOnly
from edgebert.quantize.recipe import DYNAMIC, LADDER
from edgebert.quantize.saturation import is_safe


def test_the_result_depends_on_batch_mates(exported: Context) -> None:
    graph = graph_of(exported.original)
    DynamicInt8()(graph, exported)
    assert kinds(graph.model).count("MatMulInteger") == 4 * 6
    rows = [row for row in exported.rows if 4 < len(row) < 12][:8]

    def vectors(batch: list[tuple[int, ...]]) -> np.ndarray:
        ids, mask = pad(batch, exported.pad_token_id, to=12)
        found: np.ndarray = run(graph.model, feed(exported.inputs, ids, mask), ["sentence_embedding"])[0]
        return found

    alone, together = np.concatenate([vectors([row]) for row in rows]), vectors(rows)
    assert np.abs(alone - together).max() > 1e-4
    ids, mask = pad(rows, exported.pad_token_id, to=12)
    (exact,) = run(exported.original, feed(exported.inputs, ids, mask), ["sentence_embedding"])
    assert (together * exact).sum(axis=1).min() > 0.98


def test_it_is_labelled_and_no_recipe_of_the_ladder_is() -> None:
    assert DYNAMIC.depends_on_batch
    assert not any(recipe.depends_on_batch for recipe in LADDER)


def test_its_weights_are_safe_on_every_processor(exported: Context) -> None:
    graph = graph_of(exported.original)
    DynamicInt8()(graph, exported)
    products = [node for node in graph.graph.node if node.op_type == "MatMulInteger"]
    for node in products:
        assert is_safe(graph.value(node.input[1]).astype(np.int8))


def test_an_excluded_layer_stays_in_float_and_a_wrong_name_is_refused(exported: Context) -> None:
    graph = graph_of(exported.original)
    left = graph.linears()[3].name
    DynamicInt8(exclude=(left,))(graph, exported)
    assert kinds(graph.model).count("MatMulInteger") == 4 * 6 - 1
    assert left in {node.name for node in graph.graph.node if node.op_type == "MatMul"}
    with pytest.raises(RecipeError, match="dynamic-int8: exclude names 'querry', which is no linear layer"):
        DynamicInt8(exclude=("querry",))(graph_of(exported.original), exported)


def test_a_graph_without_a_float_layer_left_is_refused(exported: Context) -> None:
    graph = graph_of(exported.original)
    WeightOnly(linears=8)(graph, exported)
    with pytest.raises(RecipeError, match="dynamic-int8 finds no linear layer in float: it must come before passes"):
        DynamicInt8()(graph, exported)
