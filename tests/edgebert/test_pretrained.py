"""Hugging Face folders: the files of sentence-transformers, old and new, and what is assumed where they are missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgebert.errors import BundleError
from edgebert.manifest import Manifest
from edgebert.pretrained import ARCHITECTURES, position_limit, read_pretrained, write_sentence_files

CONFIG: dict[str, Any] = {"model_type": "bert", "hidden_size": 32, "max_position_embeddings": 64, "pad_token_id": 0}


def write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def folder_of(tmp_path: Path, **config: object) -> Path:
    """A folder with configuration, weights and tokenizer and nothing of sentence-transformers."""
    folder = tmp_path / "model"
    write(folder / "config.json", CONFIG | config)
    (folder / "model.safetensors").write_bytes(b"")
    write(folder / "tokenizer.json", {})
    return folder


def with_modules(folder: Path, *kinds: str, prefix: str = "sentence_transformers.models.") -> Path:
    names = [("" if kind == "Transformer" else f"{i}_{kind.rsplit('.', 1)[-1]}", kind) for i, kind in enumerate(kinds)]
    write(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": n, "type": prefix + k} for i, (n, k) in enumerate(names)],
    )
    return folder


def refuses(folder: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        read_pretrained(folder)
    assert str(folder) in str(caught.value)


def test_the_tiny_teacher_is_read_without_assumptions(tiny_teacher: Path) -> None:
    manifest = read_pretrained(tiny_teacher)
    assert manifest == Manifest(
        1, "embedding", "bert", ("mean",), True, 64, 48, lineage={"assumed": []}, pad_token_id=0
    )


def test_without_any_sentence_files_everything_assumed_is_stated(tmp_path: Path) -> None:
    manifest = read_pretrained(folder_of(tmp_path))
    assert (manifest.pooling, manifest.normalize, manifest.max_length, manifest.dimension) == (("mean",), True, 64, 32)
    assert manifest.lineage["assumed"] == [
        "pooling: mean over tokens (no modules.json)",
        "normalisation: L2 (no modules.json)",
        "maximum length: 64 tokens (no sentence_bert_config.json)",
    ]


def test_modules_without_pooling_assume_the_mean(tmp_path: Path) -> None:
    folder = with_modules(folder_of(tmp_path), "Transformer")
    write(folder / "sentence_bert_config.json", {"max_seq_length": 20})
    manifest = read_pretrained(folder)
    assert (manifest.pooling, manifest.normalize) == (("mean",), False)
    assert manifest.lineage["assumed"] == ["pooling: mean over tokens (modules.json names none)"]


def test_a_missing_pooling_config_is_stated(tmp_path: Path) -> None:
    folder = with_modules(folder_of(tmp_path), "Transformer", "Pooling")
    write(folder / "sentence_bert_config.json", {"max_seq_length": 20})
    manifest = read_pretrained(folder)
    assert manifest.pooling == ("mean",)
    assert manifest.lineage["assumed"] == ["pooling: mean over tokens (no 1_Pooling/config.json)"]


def test_the_length_comes_from_the_tokenizer_where_sentence_files_lack_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    write(folder / "tokenizer_config.json", {"model_max_length": 40})
    manifest = read_pretrained(folder)
    assert manifest.max_length == 40
    assert "maximum length: 40 tokens (no sentence_bert_config.json)" in manifest.lineage["assumed"]


def test_a_tokenizer_without_limit_leaves_it_to_the_positions(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    write(folder / "tokenizer_config.json", {"model_max_length": int(1e30)})
    assert read_pretrained(folder).max_length == 64


@pytest.mark.parametrize("prefix", ["sentence_transformers.models.", "sentence_transformers.base.modules.", ""])
@pytest.mark.parametrize(
    ("settings", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ("max", "mean")),
        ({"pooling_mode_lasttoken": True}, ("lasttoken",)),
        ({"pooling_mode": "cls"}, ("cls",)),
        ({"pooling_mode": ["mean", "cls"]}, ("mean", "cls")),
        ({"pooling_mode": "max", "pooling_mode_mean_tokens": True}, ("max",)),
        ({"word_embedding_dimension": 32}, ("mean",)),
    ],
)
def test_pooling_is_read_from_the_old_and_the_new_layout(
    prefix: str, settings: dict[str, Any], modes: tuple[str, ...], tmp_path: Path
) -> None:
    folder = with_modules(folder_of(tmp_path), "Transformer", "Pooling", prefix=prefix)
    write(folder / "1_Pooling" / "config.json", settings)
    manifest = read_pretrained(folder)
    assert manifest.pooling == modes
    assert manifest.dimension == 32 * len(modes)
    assert not manifest.normalize


def test_dense_layers_and_normalisation_are_read_in_order(tmp_path: Path) -> None:
    folder = with_modules(folder_of(tmp_path), "Transformer", "Pooling", "Dense", "Dense", "Normalize")
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    for i, width in ((2, 48), (3, 16)):
        write(folder / f"{i}_Dense" / "config.json", {"in_features": 32, "out_features": width})
    manifest = read_pretrained(folder)
    assert (manifest.dense, manifest.dimension, manifest.normalize) == (("2_Dense", "3_Dense"), 16, True)


def test_prompts_are_read_empty_ones_too(tmp_path: Path) -> None:
    folder = with_modules(folder_of(tmp_path), "Transformer", "Pooling")
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    write(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"},
    )
    manifest = read_pretrained(folder)
    assert (dict(manifest.prompts), manifest.default_prompt_name) == (
        {"query": "query: ", "document": ""},
        "query",
    )
    assert not manifest.include_prompt


@pytest.mark.parametrize(("kind", "limit"), [("bert", 64), ("roberta", 62), ("xlm-roberta", 62), ("mpnet", 62)])
def test_models_with_offset_positions_use_two_less(kind: str, limit: int, tmp_path: Path) -> None:
    assert position_limit(CONFIG | {"model_type": kind}) == limit
    assert read_pretrained(folder_of(tmp_path, model_type=kind)).max_length == limit


@pytest.mark.parametrize("length", [65, 2, 0, -1, "48", 4.5])
def test_a_length_that_positions_do_not_allow_is_refused(length: object, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    write(folder / "sentence_bert_config.json", {"max_seq_length": length})
    refuses(folder, rf"maximum length {length!r} is not within 3 to 64")


@pytest.mark.parametrize("kind", ["gpt2", "t5", None, 5])
def test_an_unsupported_architecture_is_named_with_the_supported(kind: object, tmp_path: Path) -> None:
    refuses(folder_of(tmp_path, model_type=kind), rf"architecture {kind!r} is not supported; .* {ARCHITECTURES[0]}, ")


def test_an_unsupported_module_is_named(tmp_path: Path) -> None:
    refuses(with_modules(folder_of(tmp_path), "Transformer", "LSTM"), r"module 'sentence_transformers.models.LSTM' is")


def test_an_unknown_pooling_is_named(tmp_path: Path) -> None:
    folder = with_modules(folder_of(tmp_path), "Transformer", "Pooling")
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": "median"})
    refuses(folder, "pooling 'median' is not supported; known: cls, max, mean")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", r"has no weights: one of model.safetensors, .*pytorch_model.bin"),
        ("tokenizer.json", r"has no tokenizer: one of tokenizer.json, vocab.txt"),
        ("config.json", r"is not a model folder: it has no config.json"),
    ],
)
def test_a_missing_part_is_named(name: str, message: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / name).unlink()
    refuses(folder, message)


def test_a_folder_that_is_not_there_is_no_model(tmp_path: Path) -> None:
    refuses(tmp_path / "absent", "is not a model folder")


@pytest.mark.parametrize("name", ["config.json", "modules.json", "sentence_bert_config.json"])
@pytest.mark.parametrize("data", [b"{", b"\xff\xfe\x00", b"[" * 50_000])
def test_a_damaged_file_is_named(name: str, data: bytes, tmp_path: Path) -> None:
    folder = with_modules(folder_of(tmp_path), "Transformer")
    (folder / name).write_bytes(data)
    refuses(folder, f"{name} is damaged, it is not JSON")


@pytest.mark.parametrize("name", ["config.json", "sentence_bert_config.json", "config_sentence_transformers.json"])
def test_json_that_is_no_object_is_damage(name: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    write(folder / name, ["x"])
    refuses(folder, rf"{name} is damaged: it holds \['x'\] and must hold a JSON object")


@pytest.mark.parametrize("modules", [["x"], {"type": 5, "path": 5}, [{"type": "x.Pooling", "path": 3}], "text"])
def test_modules_that_are_none_are_damage(modules: object, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    write(folder / "modules.json", modules)
    refuses(folder, "modules.json is damaged: .* is no module")


@pytest.mark.parametrize("value", [None, "32", 0, -1, 1.5])
def test_a_width_that_is_no_number_is_named(value: object, tmp_path: Path) -> None:
    refuses(folder_of(tmp_path, hidden_size=value), rf"config.json: hidden_size is {value!r}")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    facts = Manifest(
        1, "embedding", "bert", ("cls", "mean"), True, 64, 33, include_prompt=False,
        prompts={"query": "问: "}, default_prompt_name="query", lineage={"assumed": []},
    )  # fmt: skip
    write_sentence_files(folder, facts)
    assert read_pretrained(folder) == facts
    assert (folder / "2_Normalize" / "config.json").is_file()


def test_what_is_written_opens_in_sentence_transformers(tiny_bundle: Path) -> None:
    modules = json.loads((tiny_bundle / "modules.json").read_text(encoding="utf-8"))
    assert [m["type"] for m in modules] == [
        f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize")
    ]
    pooling = json.loads((tiny_bundle / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    assert [k for k, v in pooling.items() if v is True] == ["pooling_mode_mean_tokens", "include_prompt"]


def test_the_command_line_names_what_a_folder_lacks(
    tmp_path: Path, corpus_file: Path, refused: Callable[..., str]
) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    (folder / "model.safetensors").unlink()
    refused("quantize", folder, "--calibration", corpus_file, "-o", out, says=f"{folder} has no weights", out=out)


def test_a_folder_without_engine_files_cannot_be_embedded_with(
    tiny_teacher: Path, corpus_file: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    out = tmp_path / "out.npy"
    refused("embed", tiny_teacher, corpus_file, "-o", out, says=f"edgebert quantize {tiny_teacher}", out=out)


@pytest.mark.parametrize(
    "order", [("Transformer", "Pooling", "Normalize", "Dense"), ("Transformer", "Normalize", "Pooling")]
)
def test_modules_in_an_order_that_is_not_computed_are_refused(order: tuple[str, ...], tmp_path: Path) -> None:
    folder = with_modules(folder_of(tmp_path), *order)
    for place, kind in enumerate(order):
        settings = {"in_features": 32, "out_features": 16} if kind == "Dense" else {}
        write(folder / f"{place}_{kind}" / "config.json", settings)
    refuses(folder, f"the modules stand in the order {', '.join(order)}")


def test_lower_case_that_the_tokenizer_does_not_make_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 32, "do_lower_case": True})
    write(folder / "tokenizer.json", {"normalizer": {"type": "BertNormalizer", "lowercase": False}})
    refuses(folder, "asks for lower case")
    write(folder / "tokenizer.json", {"normalizer": {"type": "BertNormalizer", "lowercase": True}})
    assert read_pretrained(folder).max_length == 32


@pytest.mark.parametrize("prompts", [["query"], {"query": 5}])
def test_prompts_that_are_no_texts_are_refused(prompts: object, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    write(folder / "config_sentence_transformers.json", {"prompts": prompts})
    refuses(folder, "texts by name are needed")
