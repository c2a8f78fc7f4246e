"""Trimming a model's vocabulary to what a text uses: fewer rows of the largest table, the same layers."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgebert.bundle import Bundle, seal
from edgebert.card import model_card
from edgebert.distill.corpus import Corpus, open_corpus
from edgebert.distill.encoder import SentenceEncoder, load_encoder, load_tokenizer
from edgebert.distill.folder import save_tokenizer, write_model
from edgebert.distill.readings import Trimming, count_tokens, describe, read
from edgebert.distill.recipe import Student
from edgebert.distill.students import StudentPlan
from edgebert.distill.vocabulary import Characters, choose, rebuild, token_ids, unknown_id
from edgebert.errors import BundleError, DataError, RecipeError
from edgebert.files import new_folder, require_writable
from edgebert.manifest import OFFSET_POSITIONS
from edgebert.pretrained import read_config
from edgebert.progress import Progress
from edgebert.schema import plain

HELD_OUT = 10  # one text in so many is not counted, only measured
_FACTS, _KEPT = "vocabulary.json", "kept.npy"


def trim(
    model: Bundle,
    corpus: Sequence[str | Path],
    out: Path,
    *,
    keep: int | None = None,
    coverage: float | None = None,
    characters: Characters = "all",
    column: str | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """`model` with the tokens that the text files `corpus` use, as a new bundle in the folder `out`.

    keep, coverage, characters: see `edgebert.distill.vocabulary.choose`. column: the text's column in JSONL, CSV, TSV
    and Parquet.
    Raises: BundleError, DataError, RecipeError; see the functions called here.
    """
    progress = progress or Progress()
    require_writable(out)
    if model.is_sealed:
        model.check()
    encoder = load_encoder(model, fused_attention=True)
    text = open_corpus(corpus, column=column)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "tokenizer"
        smaller, kept, facts = trim_tokenizer(
            model,
            text,
            np.arange(len(text)),
            folder,
            keep=keep,
            coverage=coverage,
            characters=characters,
            progress=progress,
        )
        trim_encoder(encoder, kept, smaller)
        lineage = dict(model.manifest.lineage) | {
            "vocabulary": facts
            | {"corpus_sha256": text.fingerprint, "keep": keep, "coverage": coverage, "characters": characters}
        }
        manifest = dataclasses.replace(
            smaller.manifest, lineage=lineage, quality=(), golden=None, files={}, artifacts={}
        )
        with new_folder(out) as partial:
            manifest = write_model(partial, encoder, smaller, manifest)
            (partial / "README.md").write_text(model_card(manifest, out.name, partial), encoding="utf-8")
            seal(partial, manifest)
    return Bundle.open(out)


def trim_plan(
    plan: StudentPlan, shape: Student, text: Corpus, rows: NDArray[np.int64], folder: Path, progress: Progress
) -> StudentPlan:
    """The student with the vocabulary that `shape` asks for, its tokenizer in `folder`; what is there already is kept.

    rows: those of the text that count.
    Raises: BundleError, DataError, RecipeError; see `trim_tokenizer`.
    """
    if shape.vocabulary is None and shape.coverage is None:
        if shape.characters != "all":
            raise RecipeError(
                f"student.characters is {shape.characters!r}, and the whole vocabulary is kept: give "
                "student.vocabulary or student.coverage, or leave it out"
            )
        return plan
    smaller, kept, facts = trim_tokenizer(
        plan.tokenizer_of,
        text,
        rows,
        folder,
        keep=shape.vocabulary,
        coverage=shape.coverage,
        characters=shape.characters,
        progress=progress,
    )
    trim_encoder(plan.encoder, kept, smaller)
    manifest = dataclasses.replace(plan.manifest, pad_token_id=smaller.manifest.pad_token_id)
    start = f"{plan.start}, {len(kept)} tokens"
    return dataclasses.replace(plan, manifest=manifest, tokenizer_of=smaller, start=start, vocabulary=facts)


def trim_tokenizer(
    model: Bundle,
    text: Corpus,
    rows: NDArray[np.int64],
    folder: Path,
    *,
    keep: int | None,
    coverage: float | None,
    characters: Characters,
    progress: Progress,
) -> tuple[Bundle, NDArray[np.int64], dict[str, Any]]:
    """The trimmed tokenizer of `model` with its config.json in `folder`, the ids kept, and `Trimming` as plain facts.

    The ids are ascending; a token's new id is its place among them. What `folder` holds already is taken.
    Raises: DataError for fewer than ten texts; RecipeError, see `choose`; BundleError for a tokenizer that is none of
    WordPiece, Unigram and BPE.
    """
    if not folder.exists():
        counted, held = _parted(rows)
        content = json.loads((model.root / "tokenizer.json").read_text(encoding="utf-8"))
        progress.start("counting tokens", len(counted))
        counts, length = count_tokens(model, text, counted, size=_table_rows(model), progress=progress)
        kept = choose(
            content, counts, keep=keep, coverage=coverage, characters=characters, also=_protected(model, content)
        )
        with new_folder(folder) as partial:
            write_tokenizer(model, content, kept, partial)
            np.save(partial / _KEPT, kept)
            smaller = _as_bundle(model, partial, kept)
            trimming = Trimming(
                len(token_ids(content)), len(kept), int(counts.sum()) / max(length, 1),
                *(read(model, smaller, kept, text, rows, unknown_id(content)) for rows in (counted, held)),
            )  # fmt: skip
            facts = plain(trimming) | {"warning": trimming.warning}
            (partial / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        progress.say(describe(facts))
    kept = np.load(folder / _KEPT)
    return _as_bundle(model, folder, kept), kept, json.loads((folder / _FACTS).read_text(encoding="utf-8"))


def trim_encoder(encoder: SentenceEncoder, kept: NDArray[np.int64], smaller: Bundle) -> None:
    """Leaves those rows of the word table, in place, and the ids of the bundle `smaller` in its configuration."""
    backbone, old = encoder.backbone, encoder.backbone.get_input_embeddings()
    table = nn.Embedding(len(kept), old.embedding_dim, padding_idx=smaller.manifest.pad_token_id)
    with torch.no_grad():
        table.weight.copy_(old.weight[torch.from_numpy(kept)])
    table.weight.requires_grad_(old.weight.requires_grad)
    backbone.set_input_embeddings(table.train(old.training))
    config = json.loads((smaller.root / "config.json").read_text(encoding="utf-8"))
    for key in ("vocab_size", *(k for k in config if k.endswith("_token_id"))):
        setattr(backbone.config, key, config[key])


def write_tokenizer(model: Bundle, content: dict[str, Any], kept: NDArray[np.int64], folder: Path) -> None:
    """Writes the tokenizer's files and config.json, trimmed to the ids `kept`, into `folder`."""
    save_tokenizer(model, folder, max_length=model.manifest.max_length)
    place = {int(old): new for new, old in enumerate(kept)}
    made = rebuild(content, kept)
    _write_json(folder / "tokenizer.json", made)
    if (folder / "vocab.txt").exists():
        tokens = sorted(token_ids(made).items(), key=lambda item: item[1])
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in tokens), encoding="utf-8")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if "added_tokens_decoder" in settings:
        settings["added_tokens_decoder"] = {
            str(place[int(i)]): token for i, token in settings["added_tokens_decoder"].items()
        }
        _write_json(folder / "tokenizer_config.json", settings)
    config = read_config(model.root)
    ids = {k: place[v] for k, v in config.items() if k.endswith("_token_id") and isinstance(v, int)}
    _write_json(folder / "config.json", config | ids | {"vocab_size": len(kept)})


def _protected(model: Bundle, content: dict[str, Any]) -> set[int]:
    """Ids that the model's other files name, and the tokens of its prompts."""
    ids = token_ids(content)
    config = read_config(model.root)
    found = {v for k, v in config.items() if k.endswith("_token_id") and isinstance(v, int)}
    found.add(model.manifest.pad_token_id)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = model.root / name
        settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        named = [v.get("content") if isinstance(v, dict) else v for k, v in settings.items() if k.endswith("_token")]
        found |= {ids[token] for token in named if isinstance(token, str) and token in ids}
        found |= {int(i) for i in settings.get("added_tokens_decoder", ())}
    if model.manifest.prompts:
        for tokens in load_tokenizer(model)(list(model.manifest.prompts.values())):
            found.update(tokens.ids)
    if model.manifest.architecture in OFFSET_POSITIONS:
        # Their positions are numbered from the padding id on: it must not move.
        found |= {i for i in ids.values() if i <= model.manifest.pad_token_id}
    if unnamed := found - set(ids.values()):
        raise BundleError(f"{model.source}: its files name the token id {min(unnamed)}, and tokenizer.json has none")
    return found


def _parted(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to count and the rows held out."""
    if len(rows) < HELD_OUT:
        raise DataError(f"{len(rows)} distinct texts are too few to choose tokens by: at least {HELD_OUT} are needed")
    held = np.arange(len(rows)) % HELD_OUT == HELD_OUT - 1
    return rows[~held], rows[held]


def _as_bundle(model: Bundle, folder: Path, kept: NDArray[np.int64]) -> Bundle:
    pad = int(np.searchsorted(kept, model.manifest.pad_token_id))
    return Bundle(folder, dataclasses.replace(model.manifest, pad_token_id=pad), model.source)


def _table_rows(model: Bundle) -> int:
    return int(read_config(model.root)["vocab_size"])


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
