"""Models whose engine files others exported: folders and Hub repositories with ONNX or OpenVINO files and no manifest.

Such a folder has no golden vectors, so nothing in it is proven: what runs is told with the file's name, fp32 is taken
unasked and nothing else, and `edgebert verify` compares the files with each other.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgebert.bundle import Bundle
from edgebert.engine_files import EngineFile, choose, known_files, parts
from edgebert.engines import Engine
from edgebert.errors import EngineError
from edgebert.hub import resolve
from edgebert.manifest import Artifact
from edgebert.pretrained import WEIGHTS, dense_folders, hidden_size, read_config
from edgebert.variants import Variant, Wish

logger = logging.getLogger(__name__)

_FOLDERS = (".", "onnx", "openvino")
_ENOUGH = 0.75  # of the bytes that the weights need in float32
_SIZES = ("num_hidden_layers", "intermediate_size")


def open_runnable(
    name_or_path: str | Path, wish: Wish, *, revision: str | None = None, weights_first: bool = False
) -> Bundle:
    """`Bundle.from_pretrained` with the engine files of a folder without manifest as artifacts, named as the files.

    Of a Hub repository only the files that `wish` asks for are downloaded.
    weights_first: a model that has weights for torch is left as it is.
    Raises: as `Bundle.from_pretrained`; EngineError when a repository has engine files and none fits.
    """
    pick = partial(_needed, wish=wish, source=str(name_or_path), weights_first=weights_first)
    return with_engine_files(name_or_path, resolve(name_or_path, revision=revision, pick=pick), weights_first)


def with_engine_files(name_or_path: str | Path, path: Path, weights_first: bool = False) -> Bundle:
    """The model at `path`, called `name_or_path`; see `open_runnable`."""
    bundle = dataclasses.replace(Bundle.from_pretrained(path), source=str(name_or_path))
    if bundle.is_sealed or (weights_first and has_weights(path)):
        return bundle
    artifacts = {file.name: _artifact(bundle, file) for file in known_files(_names(path))}
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, artifacts=artifacts))


def has_engine_files(folder: Path) -> bool:
    """Whether there is any engine file in a known place of `folder`."""
    return bool(known_files(_names(folder)))


def has_weights(folder: Path) -> bool:
    """Whether torch could run the model in `folder`."""
    return any((folder / name).is_file() for name in WEIGHTS)


def engine_files(bundle: Bundle) -> list[EngineFile]:
    """The artifacts of a foreign `bundle`; precision: what was found, which may be less than the name says."""
    named = known_files(bundle.manifest.artifacts)
    return [dataclasses.replace(file, precision=bundle.manifest.artifacts[file.name].precision) for file in named]


def foreign_candidates(bundle: Bundle, wish: Wish) -> list[Variant]:
    """What fits `wish`, the one to use first, each under f32.

    Raises: EngineError, see `choose`.
    """
    if wish.precision == "bf16":
        raise EngineError(
            f"{bundle.source} has no golden vectors to prove bf16 with, and unproven it is not used: "
            "give a bundle (`edgebert quantize`)"
        )
    files = choose(engine_files(bundle), wish, bundle.source)
    return [Variant(file.name, file.engine, file.precision) for file in files]


def open_foreign(bundle: Bundle, variant: Variant, threads: int | None) -> Engine:
    """The file in its engine, after one small batch has shown that it answers with vectors of the right shape.

    Raises: EngineError when parts are missing, the engine fails or the graph gives something else.
    """
    for name in bundle.manifest.artifacts[variant.artifact].files:
        if not (path := bundle.path(name)).is_file():
            what = "is a link to what is not there" if path.is_symlink() else "is missing"
            raise EngineError(f"{path} {what}")
    bundle.require_unchanged(variant.artifact)  # from now on
    engine: Any = variant.open(bundle, threads=threads)
    try:
        _try_out(engine, bundle, bundle.path(variant.artifact))
    except BaseException:
        engine.close()
        raise
    unproven = "it is not proven: the folder has no golden vectors; `edgebert verify` compares its files"
    logger.info("%s: %s runs as %s; %s", bundle.source, variant.name, variant.precision, unproven)
    for assumed in bundle.manifest.lineage["assumed"]:
        # A wrong pooling changes every vector.
        level = logging.WARNING if getattr(engine, "pools", False) and assumed.startswith("pooling") else logging.INFO
        logger.log(level, "%s: assumed, as its files do not say: %s", bundle.source, assumed)
    return engine  # type: ignore[no-any-return]


def _try_out(engine: Any, bundle: Bundle, path: Path) -> None:
    """Two rows of unlike length: a graph made for one text, or for one length, fails here. Raises: EngineError."""
    mask, manifest = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], np.int64), bundle.manifest
    ids = np.where(mask == 1, 1, manifest.pad_token_id)
    if manifest.heads:
        for head, logits in zip(manifest.heads, engine.answer(ids, mask), strict=True):
            wide = 2 if head.level == "span" else max(1, len(head.labels))
            wanted: tuple[int, ...] = (2, wide) if head.level == "text" else (2, mask.shape[1], wide)
            if logits.shape != wanted or not np.isfinite(logits).all():
                told = f"gives logits of shape {logits.shape}, finite or not; finite ones of {wanted} are needed"
                raise EngineError(f"{path} {told}")
        return
    vectors = engine.embed(ids, mask)
    if vectors.shape != (2, manifest.dimension) or not np.isfinite(vectors).all():
        raise EngineError(
            f"{path} gives vectors of shape {vectors.shape}, finite or not; finite ones of (2, {manifest.dimension}) "
            "are needed"
        )


def _needed(
    folder: Path, names: Sequence[str], *, wish: Wish, source: str, weights_first: bool = False
) -> tuple[str, ...]:
    """What to download of a repository beside its descriptions, () for the weights.

    folder: the descriptions; names: all of the repository's files.
    """
    files = known_files(names)
    if not files or (weights_first and any(name in WEIGHTS for name in names)):
        return ()
    file = choose(files, wish, source)[0]
    return (*parts(file, names), *dense_weights(folder, names))


def dense_weights(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The weights of the Dense modules that `folder`'s modules.json names, as far as they are among `names`."""
    ends = ("model.safetensors", "pytorch_model.bin")
    return tuple(name for dense in dense_folders(folder) for end in ends if (name := f"{dense}/{end}") in names)


def _names(root: Path) -> list[str]:
    """The files in which engine files can lie, links that lead nowhere among them."""
    return [p.relative_to(root).as_posix() for name in _FOLDERS for p in sorted((root / name).glob("*.*"))]


def _artifact(bundle: Bundle, file: EngineFile) -> Artifact:
    names = parts(file, _names(bundle.root))
    precision = file.precision
    if precision == "fp32" and _bytes(bundle, names) < _ENOUGH * _least_bytes(bundle.root):
        logger.warning(
            "%s: %s is too small for its weights in fp32, so it is not taken for that", bundle.source, file.name
        )
        precision = "unknown"
    return Artifact(engine=file.engine, precision=precision, files=names, inputs=(), output="")


def _bytes(bundle: Bundle, names: Sequence[str]) -> float:
    """The size of an engine file with its parts, without end where one is missing: opening it says so."""
    paths = [bundle.path(name) for name in names]
    return sum(p.stat().st_size for p in paths) if all(p.is_file() for p in paths) else float("inf")


def _least_bytes(folder: Path) -> int:
    """What the token table and the layers' products need in float32, 0 where config.json does not say."""
    config = read_config(folder)
    width, short = hidden_size(config), config["model_type"] == "distilbert"
    found = [config.get(k) for k in ("vocab_size", *(("n_layers", "hidden_dim") if short else _SIZES))]
    if not all(isinstance(value, int) for value in found):
        return 0
    tokens, layers, inner = (int(value or 0) for value in found)
    table = config.get("embedding_size", width) if config["model_type"] == "electra" else width
    return 4 * (tokens * table + layers * (4 * width * width + 2 * width * inner))
