"""Writing a model as a folder that EdgeBERT, sentence-transformers and transformers open, of today and of yesterday."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from edgebert.bundle import Bundle
from edgebert.distill.encoder import Dense, SentenceEncoder
from edgebert.distill.heads import Head as TorchHead
from edgebert.distill.heads import save_head, save_with_head
from edgebert.distill.quiet import quiet_transformers
from edgebert.distill.reference import write_golden
from edgebert.manifest import Head, Manifest
from edgebert.pretrained import write_sentence_files


def write_model(folder: Path, encoder: SentenceEncoder, tokenizer_of: Bundle, manifest: Manifest) -> Manifest:
    """Writes weights, tokenizer, sentence-transformers files and golden cases into `folder`.

    Returns `manifest` with the dense folders, the dimension and the golden cases that were written. The model card and
    the manifest itself are the caller's.
    Raises: BundleError when the tokenizer's files contradict each other.
    """
    dense = tuple(f"{i}_Dense" for i in range(2, 2 + len(encoder.dense)))
    dimension = manifest.dimension
    if encoder.dense:
        last = encoder.dense[-1]
        assert isinstance(last, Dense)
        dimension = last.linear.out_features
    manifest = dataclasses.replace(manifest, dense=dense, dimension=dimension)
    save_encoder(encoder, folder, manifest.heads)
    save_tokenizer(tokenizer_of, folder, max_length=manifest.max_length)
    write_sentence_files(folder, manifest)
    written = Bundle(folder, manifest, tokenizer_of.source)
    return dataclasses.replace(manifest, golden=write_golden(written, encoder, folder))


def save_encoder(encoder: SentenceEncoder, folder: Path, heads: Sequence[Head] = ()) -> None:
    """Writes the weights: `config.json`, `model.safetensors`, and a folder for every dense layer and every head that
    has one; a head without a folder lies with the encoder, as transformers saves such a model.
    """
    from safetensors.torch import save_file

    made_heads = cast("list[TorchHead]", list(encoder.heads))
    with quiet_transformers():
        whole = [made for fact, made in zip(heads, made_heads, strict=True) if not fact.folder]
        if whole:
            save_with_head(encoder.backbone, whole[0], folder)
        else:
            encoder.backbone.save_pretrained(folder)
        for fact, made in zip(heads, made_heads, strict=True):
            if fact.folder:
                save_head(made, folder / fact.folder)
    for i, layer in enumerate(encoder.dense, start=2):
        dense = folder / f"{i}_Dense"
        dense.mkdir()
        assert isinstance(layer, Dense)
        linear, activation = layer.linear, type(layer.activation_function)
        settings = {
            "in_features": linear.in_features,
            "out_features": linear.out_features,
            "bias": linear.bias is not None,
            "activation_function": f"{activation.__module__}.{activation.__qualname__}",
        }
        (dense / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        save_file({k: v.contiguous() for k, v in layer.state_dict().items()}, dense / "model.safetensors")


def save_tokenizer(bundle: Bundle, folder: Path, *, max_length: int) -> None:
    """Writes the tokenizer of `bundle` into `folder` in the form that transformers 4.57 and 5 both read.

    `tokenizer.json` without stored truncation and padding; the other files as they were, with `max_length` and a class
    name that exists in both versions. A folder without `tokenizer.json` is converted by transformers once, here.
    """
    if not (bundle.root / "tokenizer.json").exists():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(bundle.root, local_files_only=True, trust_remote_code=False).save_pretrained(
            folder
        )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (bundle.root / name).exists():
            shutil.copyfile(bundle.root / name, folder / name)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(
        json.dumps(content | {"truncation": None, "padding": None}, ensure_ascii=False, indent=2), encoding="utf-8"
    )
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    settings["model_max_length"] = max_length
    for key in ("name_or_path", "special_tokens_map_file", "tokenizer_file", "backend"):
        settings.pop(key, None)
    if settings.get("tokenizer_class", "TokenizersBackend") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
