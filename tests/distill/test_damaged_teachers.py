"""Teachers that cannot be used: the command says which and why, and writes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from architectures import make_headed
from conftest import Result
from helpers import assert_refused
from safetensors.torch import load_file, save_file

Cli = Callable[..., Result]


@pytest.fixture
def teacher(tiny_teacher: Path, tmp_path: Path) -> Path:
    """A copy of the tiny teacher that a test may damage."""
    return Path(shutil.copytree(tiny_teacher, tmp_path / "teacher"))


@pytest.fixture
def refused(corpus_file: Path, tmp_path: Path, cli: Cli) -> Callable[..., None]:
    """Asserts that `distill` refuses a teacher in those words."""

    def check(teacher: Path, *parts: str) -> None:
        out = tmp_path / "out" / "student"
        assert_refused(cli("distill", teacher, "--corpus", corpus_file, "-o", out, "--layers", "1"), out, *parts)

    return check


def edit(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_teacher_that_does_not_exist(tmp_path: Path, refused: Callable[..., None]) -> None:
    refused(tmp_path / "none", "no such file or folder", str(tmp_path / "none"))


def test_a_folder_that_is_no_model(tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty is not a model folder: it has no config.json")


def test_a_teacher_without_weights(teacher: Path, refused: Callable[..., None]) -> None:
    (teacher / "model.safetensors").unlink()
    refused(teacher, "has no weights: one of model.safetensors", "pytorch_model.bin")


def test_a_teacher_without_a_tokenizer(teacher: Path, refused: Callable[..., None]) -> None:
    (teacher / "tokenizer.json").unlink()
    (teacher / "vocab.txt").unlink()
    refused(teacher, "has no tokenizer: one of tokenizer.json")


def test_a_teacher_with_a_slow_tokenizer_alone(teacher: Path, refused: Callable[..., None]) -> None:
    (teacher / "tokenizer.json").unlink()
    refused(teacher, "has no tokenizer.json: save the tokenizer with transformers once")


def test_a_teacher_of_an_unsupported_architecture(teacher: Path, refused: Callable[..., None]) -> None:
    edit(teacher / "config.json", model_type="gpt2")
    refused(teacher, "architecture 'gpt2' is not supported", "bert, mpnet, roberta, xlm-roberta, distilbert, electra")


def test_a_teacher_whose_configuration_is_no_json(teacher: Path, refused: Callable[..., None]) -> None:
    (teacher / "config.json").write_text("{", encoding="utf-8")
    refused(teacher, "config.json is damaged, it is not JSON")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_teacher_with_a_weight_that_is_no_number(value: float, teacher: Path, refused: Callable[..., None]) -> None:
    weights = load_file(teacher / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.2.output.dense.weight"))
    weights[name][3, 4] = value
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    refused(teacher, "layer.2.output.dense.weight holds NaN or infinite values")


def test_a_teacher_that_lacks_a_weight(teacher: Path, refused: Callable[..., None]) -> None:
    weights = load_file(teacher / "model.safetensors")
    name = next(name for name in weights if name.endswith("layer.1.attention.self.key.weight"))
    del weights[name]
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    refused(teacher, "1 weights are missing, the first is", "layer.1.attention.self.key.weight")


def test_a_teacher_whose_weights_have_another_shape(teacher: Path, refused: Callable[..., None]) -> None:
    edit(teacher / "config.json", intermediate_size=96)
    refused(teacher, "the weights cannot be loaded")


@pytest.mark.parametrize("size", [0, 5, 4000])
def test_a_teacher_whose_weights_were_cut_off(size: int, teacher: Path, refused: Callable[..., None]) -> None:
    path = teacher / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(teacher, str(teacher), "the weights cannot be loaded")


def test_a_teacher_whose_tokenizer_has_more_tokens_than_its_vocabulary(
    teacher: Path, refused: Callable[..., None]
) -> None:
    content = json.loads((teacher / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["extra"] = len(content["model"]["vocab"])
    (teacher / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    refused(teacher, "tokens and the model's vocabulary", "they do not match")


def test_a_teacher_whose_tokenizer_is_damaged(teacher: Path, refused: Callable[..., None]) -> None:
    (teacher / "tokenizer.json").write_text("{}", encoding="utf-8")
    refused(teacher, "tokenizer.json is not a tokenizer that can be read")


def test_a_teacher_whose_length_is_beyond_its_positions(teacher: Path, refused: Callable[..., None]) -> None:
    edit(teacher / "sentence_bert_config.json", max_seq_length=65)
    refused(teacher, "maximum length 65 is not within 3 to 64")


def test_a_teacher_with_a_module_that_is_not_supported(teacher: Path, refused: Callable[..., None]) -> None:
    modules = json.loads((teacher / "modules.json").read_text(encoding="utf-8"))
    modules[2]["type"] = "sentence_transformers.models.LSTM"
    (teacher / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    refused(teacher, "module 'sentence_transformers.models.LSTM' is not supported")


def test_a_teacher_with_a_dense_module_that_does_not_fit(tmp_path: Path, refused: Callable[..., None]) -> None:
    teacher = make_headed(tmp_path / "teacher", pooling=("mean",), dense=16)
    edit(teacher / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.Mish")
    refused(teacher, "2_Dense: activation 'Mish' is not supported; known: Identity, Tanh")
    edit(teacher / "2_Dense" / "config.json", activation_function="torch.nn.modules.linear.Identity", use_residual=True)
    refused(teacher, "2_Dense: a Dense module with a residual connection (use_residual) is not supported here")
    edit(teacher / "2_Dense" / "config.json", use_residual=False, out_features=8)
    refused(teacher, "2_Dense: the weights cannot be loaded")
    edit(teacher / "2_Dense" / "config.json", out_features=16)
    (teacher / "2_Dense" / "model.safetensors").write_bytes(b"12345")
    refused(teacher, "2_Dense: the weights cannot be loaded")
    (teacher / "2_Dense" / "model.safetensors").unlink()
    refused(teacher, "2_Dense has no weights: model.safetensors or pytorch_model.bin is needed")


def test_a_teacher_with_pickled_weights_of_tensors_alone_is_read_and_code_in_them_is_not_run(
    teacher: Path, corpus_file: Path, tmp_path: Path, cli: Cli, refused: Callable[..., None]
) -> None:
    import pickle

    weights = load_file(teacher / "model.safetensors")
    (teacher / "model.safetensors").unlink()
    (teacher / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap(str(tmp_path / "ran")), protocol=2))
    refused(teacher, "the weights cannot be loaded")
    assert not (tmp_path / "ran").exists()
    import torch

    torch.save(weights, teacher / "pytorch_model.bin")
    result = cli("distill", teacher, "--corpus", corpus_file, "-o", tmp_path / "student", "--layers", "1", "--epochs",
                 "0.1", "--batch-size", "16", "--precision", "fp32")  # fmt: skip
    assert result.code == 0, result.err


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self.path, "w")
