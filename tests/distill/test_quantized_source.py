"""A model that is quantized already is refused in one line: its float weights are gone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Result
from helpers import assert_refused
from safetensors.torch import load_file, save_file

from edgebert.bundle import Bundle
from edgebert.distill.encoder import load_encoder
from edgebert.errors import BundleError

Cli = Callable[..., Result]


@pytest.fixture
def model(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher that may be spoilt."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "model"))


def test_a_quantization_config_is_refused(model: Path, corpus_file: Path, tmp_path: Path, cli: Cli) -> None:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    out = tmp_path / "out" / "bundle"
    told = f"{model} is quantized already (quantization_config: 'bitsandbytes'): give the model in float that it was"
    for command, option in (("quantize", "--calibration"), ("distill", "--corpus")):
        assert_refused(cli(command, model, option, corpus_file, "-o", out), out, told)


@pytest.mark.parametrize(("dtype", "name"), [(torch.int8, "I8"), (torch.uint8, "U8")])
def test_integer_weights_of_a_layer_are_refused(dtype: torch.dtype, name: str, model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    layer = "encoder.layer.0.attention.self.query.weight"
    weights[layer] = (weights[layer] * 100).to(dtype)
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BundleError) as raised:
        load_encoder(Bundle.from_pretrained(model))
    assert f"is quantized already ({layer} is {name} in model.safetensors): give the model in float" in str(
        raised.value
    )


def test_weights_in_half_precision_and_integer_buffers_are_fine(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights = {key: value.to(torch.bfloat16) for key, value in weights.items()}
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    assert next(load_encoder(Bundle.from_pretrained(model)).parameters()).dtype == torch.float32
