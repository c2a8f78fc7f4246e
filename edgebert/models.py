"""Any model as an `Embedder`: through an engine where it has files for one, else through torch."""

from __future__ import annotations

from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.embedder import Embedder
from edgebert.engines import ENGINES
from edgebert.errors import MissingExtraError, RecipeError
from edgebert.loading import check_options, load_bundle

TORCH = "torch"


def open_model(
    name_or_path: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    revision: str | None = None,
) -> Embedder:
    """`edgebert.load`, and models without engine files too: a Hugging Face folder, a student, engine="torch".

    Raises: as `load`; MissingExtraError when torch is needed and not installed.
    """
    check_options(("auto", *ENGINES, TORCH), engine, precision, threads)
    bundle = Bundle.from_pretrained(name_or_path, revision=revision)
    if bundle.manifest.artifacts and engine != TORCH:
        return load_bundle(bundle, engine=engine, precision=precision, threads=threads)
    if engine not in ("auto", TORCH) or precision not in ("auto", "fp32"):
        raise RecipeError(
            f"{name_or_path} has no files for engine {engine}, precision {precision}: run `edgebert quantize` first"
        )
    try:
        from edgebert.distill.encoder import torch_embedder
    except ImportError as problem:
        raise MissingExtraError(problem.name or "torch", "workshop", f"running {name_or_path} in torch") from None
    return torch_embedder(bundle, threads=threads)
