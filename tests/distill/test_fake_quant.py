"""Imitated int8: its arithmetic against numpy, gradients, ranges, schedule, and the encoder it is laid over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from architectures import ARCHITECTURES, make_architecture, make_headed
from helpers import make_teacher
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from edgebert.bundle import Bundle
from edgebert.distill.encoder import SentenceEncoder, load_encoder
from edgebert.distill.fake_quant import FakeQuant, Schedule, quantize_input, quantize_rows, schedule
from edgebert.distill.model import DistillationModel
from edgebert.errors import RecipeError

ALWAYS = Schedule(0, 0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Seeded numbers of that shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(rows: int = 3, length: int = 9) -> tuple[Tensor, Tensor]:
    """Token ids and a mask with padding in the last row."""
    ids = torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[-1, length // 2 :] = 0
    return ids, mask


def encoder_of(folder: Path) -> SentenceEncoder:
    """The model in that folder."""
    return load_encoder(Bundle.from_pretrained(folder))


def linears(encoder: SentenceEncoder) -> list[nn.Linear]:
    """Its linear layers, in the order of its modules."""
    return [module for module in encoder.modules() if isinstance(module, nn.Linear)]


@pytest.mark.parametrize(("low", "high"), [(-2.0, 3.0), (0.0, 1.5), (-4.0, 0.0), (-0.01, 3.99), (-1e-6, 1.1e-6)])
def test_an_input_is_rounded_to_the_steps_of_uint8(low: float, high: float) -> None:
    values = normal(50, 40) * 2 * max(-low, high)
    found = quantize_input(values, torch.tensor(low), torch.tensor(high)).numpy()
    scale = (high - low) / 255
    zero = np.clip(np.rint(-low / scale), 0, 255)
    steps = np.clip(np.rint(values.numpy() / scale) + zero, 0, 255)
    np.testing.assert_allclose(found, (steps - zero) * scale, rtol=1e-5, atol=1e-3 * scale)
    assert len(np.unique(found)) > 150
    assert found.min() == pytest.approx(low, abs=0.51 * scale)
    assert found.max() == pytest.approx(high, abs=0.51 * scale)


def test_zero_is_a_step_of_every_range() -> None:
    zeros = torch.zeros(4)
    for low, high in ((-0.37, 2.11), (0.0, 7.3), (-5.9, 0.0), (0.0, 0.0)):
        assert torch.equal(quantize_input(zeros, torch.tensor(low), torch.tensor(high)), zeros)


@pytest.mark.parametrize("shape", [(24, 16), (2, 5, 8)])
def test_rows_are_rounded_to_the_steps_of_int8_each_with_its_own_scale(shape: tuple[int, ...]) -> None:
    weight = normal(*shape) * torch.logspace(-4, 2, shape[-2])[:, None]
    found = quantize_rows(weight).numpy()
    scale = np.abs(weight.numpy()).max(axis=-1, keepdims=True) / 127
    np.testing.assert_allclose(found / scale, np.rint(weight.numpy() / scale), atol=1e-3)
    assert np.abs(found / scale).max() == pytest.approx(127, abs=1e-3)


def test_a_row_of_zeros_stays_one() -> None:
    assert torch.equal(quantize_rows(torch.zeros(2, 8)), torch.zeros(2, 8))


def test_a_table_is_rounded_as_the_int8_file_has_it(tiny_bundle: Path) -> None:
    graph = onnx.load(tiny_bundle / "onnx" / "model_qint8.onnx").graph
    table = encoder_of(tiny_bundle).backbone.embeddings.word_embeddings.weight.detach()
    (stored,) = (
        array for array in map(numpy_helper.to_array, graph.initializer)
        if array.dtype == np.int8 and array.shape == tuple(table.shape)
    )  # fmt: skip
    used = table.abs().amax(dim=1) > 0
    ours = (quantize_rows(table) / (table.abs().amax(dim=1, keepdim=True) / 127))[used]
    np.testing.assert_allclose(ours.numpy(), stored[used.numpy()].astype(np.float32), atol=1e-3)


def test_gradients_go_straight_through_except_where_values_are_cut_off() -> None:
    values = torch.tensor([-3.0, -0.9, 0.0, 0.31, 1.9, 2.5], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    (quantize_input(values, torch.tensor(-1.0), torch.tensor(2.0)) * weights).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 0.0]
    rows = normal(4, 6).requires_grad_()
    (quantize_rows(rows) * normal(4, 6, seed=1)).sum().backward()
    assert rows.grad is not None
    assert torch.equal(rows.grad, normal(4, 6, seed=1))


def test_a_linear_layers_gradients_are_those_of_the_rounded_numbers(tmp_path: Path) -> None:
    encoder = encoder_of(make_headed(tmp_path / "m", pooling=("mean",), dense=20))
    layer = linears(encoder)[-1]
    fake = FakeQuant(encoder, ALWAYS)
    fake.low[-1], fake.high[-1] = -3.0, 3.0
    x = normal(5, layer.in_features).requires_grad_()
    with fake.int8(encoder):
        layer(x).pow(2).sum().backward()
    rounded_x = quantize_input(x.detach(), torch.tensor(-3.0), torch.tensor(3.0))
    rounded_w = quantize_rows(layer.weight.detach())
    upstream = 2 * (rounded_x @ rounded_w.T + layer.bias)
    assert layer.weight.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(layer.weight.grad, upstream.T @ rounded_x)
    torch.testing.assert_close(x.grad, upstream @ rounded_w * (x.detach().abs() <= 3.0))


def observed(batches: Sequence[Tensor]) -> FakeQuant:
    """Ranges of one linear layer that saw those batches."""
    encoder = SentenceEncoder(nn.Identity(), pooling=("mean",), dense=[nn.Linear(4, 2)], normalize=False)
    fake = FakeQuant(encoder, Schedule(0, 10**6))
    fake.at(0)
    for values in batches:
        with fake.training_step(encoder):
            encoder.dense[0](values)
    return fake


def test_ranges_are_the_mean_of_the_batches_extremes_and_hold_zero() -> None:
    fake = observed([torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[-2.0, 0.0, 1.0, 2.0]])])
    assert (fake.low.tolist(), fake.high.tolist(), int(fake.seen)) == ([-1.0], [3.0], 2)
    below = observed([torch.full((3, 4), -5.0)])
    assert (below.low.tolist(), below.high.tolist()) == ([-5.0], [0.0])


def test_after_a_hundred_batches_a_new_one_counts_one_percent() -> None:
    fake = observed([torch.full((1, 4), 1.0)] * 150 + [torch.full((1, 4), 11.0)])
    assert fake.high.item() == pytest.approx(1.1, abs=1e-5)
    assert observed([torch.full((1, 4), float(i)) for i in range(1, 101)]).high.item() == pytest.approx(50.5, abs=1e-3)


def test_what_is_no_number_is_not_hidden() -> None:
    fake = observed([torch.tensor([[1.0, float("nan"), 0.0, 0.0]])])
    assert fake.high.isnan().all()
    assert quantize_input(normal(3), fake.low[0], fake.high[0]).isnan().all()
    assert quantize_rows(torch.tensor([[1.0, float("nan")]])).isnan().any()


@pytest.mark.parametrize(
    ("share", "steps", "expected"),
    [
        (0.0, 1000, None),
        (0.25, 1000, Schedule(750, 775)),
        (1.0, 1000, Schedule(0, 100)),
        (0.5, 180, Schedule(90, 99)),
        (0.25, 8, Schedule(6, 7)),
        (1.0, 2, Schedule(0, 1)),
    ],
)
def test_the_last_steps_imitate_after_a_tenth_of_them_measured(
    share: float, steps: int, expected: Schedule | None
) -> None:
    assert schedule(share, steps) == expected


@pytest.mark.parametrize(("share", "steps", "left"), [(0.25, 4, 1), (0.001, 100, 0), (1.0, 1, 1)])
def test_too_few_steps_to_measure_and_imitate_are_refused(share: float, steps: int, left: int) -> None:
    with pytest.raises(RecipeError) as raised:
        schedule(share, steps)
    assert f"training.qat is {share} and training has {steps} steps: that leaves {left}" in str(raised.value)
    assert "at least 2 are needed" in str(raised.value)


def test_ranges_are_measured_first_and_used_later(tiny_teacher: Path) -> None:
    encoder = encoder_of(tiny_teacher)
    fake = FakeQuant(encoder, Schedule(3, 5))
    ids, mask = batch()
    plain = encoder(ids, mask).sentence_embedding
    for step in range(7):
        fake.at(step)
        with fake.training_step(encoder):
            found = encoder(ids, mask).sentence_embedding
        assert int(fake.seen) == max(0, step - 2)
        assert torch.equal(found, plain) == (step < 5)
    assert torch.equal(encoder(ids, mask).sentence_embedding, plain)
    assert bool((fake.low < 0).all() and (fake.high > 0).all())


class _Rows(nn.Module):
    """`quantize_rows` as a parametrization of a weight."""

    def forward(self, weight: Tensor) -> Tensor:
        """Shape: (rows, width) of both."""
        return quantize_rows(weight)


def by_hand(encoder: SentenceEncoder, fake: FakeQuant) -> None:
    """Changes the modules of `encoder` themselves so that they compute what `fake` imitates."""
    for place, layer in enumerate(linears(encoder)):
        low, high = fake.low[place], fake.high[place]

        def rounded(module: Any, args: tuple[Tensor], low: Tensor = low, high: Tensor = high) -> Tensor:
            return quantize_input(args[0], low, high)

        layer.register_forward_pre_hook(rounded)
    for module in list(encoder.modules()):
        if isinstance(module, nn.Linear | nn.Embedding):
            parametrize.register_parametrization(module, "weight", _Rows())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_linear_layer_and_table_is_imitated_and_nothing_else(architecture: str, tmp_path: Path) -> None:
    encoder = encoder_of(make_architecture(tmp_path / "m", architecture))
    fake = FakeQuant(encoder, ALWAYS)
    ids, mask = batch()
    plain = encoder(ids, mask).last_hidden_state
    fake.observes = True
    with fake.training_step(encoder):
        encoder(ids, mask)
    with fake.int8(encoder):
        found = encoder(ids, mask).last_hidden_state
    by_hand(encoder, fake)
    assert torch.equal(found, encoder(ids, mask).last_hidden_state)
    assert 1e-4 < float((found - plain).detach().abs().max() / plain.detach().abs().max()) < 0.2


def test_dense_layers_are_imitated_and_maps_that_serve_training_alone_are_not(tmp_path: Path) -> None:
    encoder = encoder_of(make_headed(tmp_path / "m", pooling=("mean",), dense=20))
    model = DistillationModel(encoder, {"vector": 1.0}, to_teacher=nn.Linear(20, 7, bias=False))
    model.fake_quant = FakeQuant(encoder, ALWAYS)
    assert len(model.fake_quant.low) == 3 * 6 + 1
    model.fake_quant.at(0)
    ids, mask = batch()
    losses = model(ids, mask, normal(3, 7))
    with model.fake_quant.int8(encoder):
        vector = encoder(ids, mask).sentence_embedding
    wanted = 1 - functional.cosine_similarity(model.to_teacher(vector), normal(3, 7), dim=-1).mean()
    torch.testing.assert_close(losses["loss"], wanted)
    assert model.fake_quant.high[-1] > 0
    assert not torch.equal(vector, encoder(ids, mask).sentence_embedding)


def test_under_bf16_it_is_rounded_from_float32_and_trains(tiny_teacher: Path) -> None:
    encoder = encoder_of(tiny_teacher)
    model = DistillationModel(encoder, {"vector": 1.0})
    model.fake_quant = FakeQuant(encoder, ALWAYS)
    model.fake_quant.at(0)
    ids, mask = batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(ids, mask, normal(3, 64))["loss"]
    loss.backward()
    exact = DistillationModel(encoder, {"vector": 1.0})(ids, mask, normal(3, 64))["loss"]
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), abs=0.02)
    assert all(layer.weight.grad is not None and bool(layer.weight.grad.any()) for layer in linears(encoder))
    assert encoder.backbone.embeddings.word_embeddings.weight.grad is not None


def test_ranges_are_part_of_the_models_state_and_nothing_is_left_in_the_encoder(tmp_path: Path) -> None:
    encoder = encoder_of(make_teacher(tmp_path / "m", layers=1))
    names, modules = set(encoder.state_dict()), [type(module) for module in encoder.modules()]
    model = DistillationModel(encoder, {"vector": 1.0})
    before = set(model.state_dict())
    model.fake_quant = FakeQuant(encoder, ALWAYS)
    assert set(model.state_dict()) - before == {"fake_quant.low", "fake_quant.high", "fake_quant.seen"}
    model.fake_quant.at(0)
    model(*batch(), normal(3, 64))["loss"].backward()
    assert set(encoder.state_dict()) == names
    assert [type(module) for module in encoder.modules()] == modules
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.modules())
