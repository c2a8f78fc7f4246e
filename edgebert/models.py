"""Any model as an `Embedder`: through an engine where it has files for one, else through torch."""

from __future__ import annotations

from pathlib import Path

from edgebert.bundle import Bundle
from edgebert.embedder import Embedder
from edgebert.engines import ENGINES, is_installed
from edgebert.errors import MissingExtraError, RecipeError
from edgebert.foreign import open_runnable
from edgebert.loading import check_options, load_bundle
from edgebert.variants import Wish

TORCH = "torch"


def open_model(
    name_or_path: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    revision: str | None = None,
    artifact: str | None = None,
    task: str | None = "embedding",
) -> Embedder:
    """`edgebert.load`, and models without engine files too: a Hugging Face folder, a student, engine="torch".

    A model without manifest that has both weights and engine files is run by torch where that is installed, and by its
    engine files where it is not, or an engine, int8 or an artifact is asked for. task: None for the model's own, whose
    object it is then where engine files run it; torch gives vectors.
    Raises: as `load`; MissingExtraError when torch is needed and not installed.
    """
    check_options(("auto", *ENGINES, TORCH), engine, precision, threads)
    asked = engine in ENGINES or precision not in ("auto", "fp32") or artifact is not None
    if engine == TORCH:
        bundle = Bundle.from_pretrained(name_or_path, revision=revision)
    else:
        wish = Wish(engine, precision, artifact)
        weights_first = not asked and is_installed(TORCH)
        bundle = open_runnable(name_or_path, wish, revision=revision, weights_first=weights_first)
    if bundle.manifest.artifacts and engine != TORCH:
        opened: Embedder = load_bundle(
            bundle, engine=engine, precision=precision, threads=threads, artifact=artifact, task=task
        )
        return opened
    if asked:
        what = artifact or f"engine {engine}, precision {precision}"
        raise RecipeError(f"{name_or_path} has no files for {what}: run `edgebert quantize` first")
    try:
        from edgebert.distill.encoder import torch_embedder
    except ImportError as problem:
        raise MissingExtraError(problem.name or "torch", "workshop", f"running {name_or_path} in torch") from None
    return torch_embedder(bundle, threads=threads)
