"""EdgeBERT: from a BERT teacher to a small, fast, verified model on a device.

    encoder = edgebert.load("bundle/")       a bundle, a package or a Hub id
    vectors = encoder.encode(["one text", "another"])

The workshop (`edgebert.distill`, `edgebert.quantize`, `edgebert.targets`) is imported by name and needs its extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgebert.errors import EdgeBertError

if TYPE_CHECKING:
    from edgebert.bundle import Bundle
    from edgebert.embedder import Embedder
    from edgebert.loading import load
    from edgebert.summary import Sentence, summarize
    from edgebert.tasks.answer import QuestionAnswerer
    from edgebert.tasks.classify import Classifier
    from edgebert.tasks.multi import MultiTask
    from edgebert.tasks.pairs import PairScorer
    from edgebert.tasks.regress import Regressor
    from edgebert.tasks.results import Answer, Classification, Ranked, Tag
    from edgebert.tasks.tag import Tagger
    from edgebert.watching import watch

__all__ = [
    "Answer", "Bundle", "Classification", "Classifier", "EdgeBertError", "Embedder", "MultiTask", "PairScorer",
    "QuestionAnswerer", "Ranked", "Regressor", "Sentence", "Tag", "Tagger", "__version__", "load", "summarize", "watch",
]  # fmt: skip

_HOMES = {
    "Bundle": "edgebert.bundle",
    "Embedder": "edgebert.embedder",
    "Classifier": "edgebert.tasks.classify",
    "Regressor": "edgebert.tasks.regress",
    "PairScorer": "edgebert.tasks.pairs",
    "Tagger": "edgebert.tasks.tag",
    "QuestionAnswerer": "edgebert.tasks.answer",
    "MultiTask": "edgebert.tasks.multi",
    **dict.fromkeys(("Answer", "Classification", "Ranked", "Tag"), "edgebert.tasks.results"),
    "Sentence": "edgebert.summary",
    "load": "edgebert.loading",
    "summarize": "edgebert.summary",
    "watch": "edgebert.watching",
}


def __getattr__(name: str) -> Any:
    """Public names are imported on first use, so that `import edgebert` costs nothing."""
    if name == "__version__":
        from edgebert.version import VERSION

        return VERSION
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'edgebert' has no attribute {name!r}")
