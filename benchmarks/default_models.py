"""What the default models keep of their teachers, beside other small models, on sets that did not train them.

    python benchmarks/default_models.py en --data DATA --work FOLDER \\
        --teacher sentence-transformers/all-mpnet-base-v2 --model edgebert-mini-en \\
        --against sentence-transformers/all-MiniLM-L6-v2 [--wordllama] [--speed]
    python benchmarks/default_models.py zh --data DATA --work FOLDER --teacher E5 --model edgebert-mini-zh

English: Spearman correlation on the STS-B test split, accuracy of a logistic regression on the test splits of banking77
and of clinc150's 150 intents, nDCG@10 on SciFact. Chinese: STS-B test, and nDCG@10 of finding the paragraph that a
question of DRCD's test or CMRC 2018's dev split was asked of. Teachers are computed by torch in fp32. `asymmetric` is
SciFact with the teacher's documents and the model's queries, where both have the same dimension.

Vectors are kept in --work, so that an interrupted run goes on. --on dev scores dev splits where there are any, and the
train queries of SciFact, for choices. --speed times the first model against its teacher in torch, in turns. Exit 1 when
the first model misses a target.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import data_file, parser, write_json

from edgebert.bench import Subject, bench
from edgebert.bundle import Bundle
from edgebert.distill.teacher import fingerprint
from edgebert.embedder import Embedder
from edgebert.evaluate import classification_scores, retrieval_scores, similarity_scores
from edgebert.files import new_file, sha256
from edgebert.hub import resolve
from edgebert.manifest import MANIFEST_NAME
from edgebert.models import open_model
from edgebert.progress import Progress, TerminalProgress
from edgebert.table import show
from edgebert.texts import read_rows
from edgebert.vectors import Vectors

PIECE = 512  # texts computed and kept at a time
MEAN, EACH, ASYMMETRIC, CHINESE = 0.96, 0.92, 0.95, 0.93
THROUGHPUT, ALONE, LARGEST = 50, 25, {"en": 10.0, "zh": 15.0}
QUERY, PASSAGE = ("query",), ("document", "passage")  # what the prompts of the two sides are called
STATIC = "wordllama"


@dataclass
class Kept:
    """A model as the scores see it, its vectors read from `folder` or computed and kept there.

    encode: of texts with the named prompt. symmetric: the prompt where texts are compared with texts.
    """

    name: str
    folder: Path
    compute: Callable[[list[str], str | None], Vectors]
    progress: Progress
    dimension: int = 0
    symmetric: str | None = None
    query: str | None = None
    passage: str | None = None

    def encode(self, texts: Sequence[str]) -> Vectors:
        return self._kept(list(texts), self.symmetric)

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        return self._kept(list(texts), self.query)

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        return self._kept(list(texts), self.passage)

    def _kept(self, texts: list[str], prompt: str | None) -> Vectors:
        """Longest texts together: a batch then holds little padding."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        self.progress.start(self.name, len(texts))
        found: list[Vectors] = []
        for start in range(0, len(order), PIECE):
            piece = [texts[i] for i in order[start : start + PIECE]]
            key = hashlib.sha256(json.dumps([piece, prompt]).encode()).hexdigest()[:32]
            path = self.folder / f"{key}.npy"
            if not path.exists():
                vectors = self.compute(piece, prompt)
                with new_file(path) as partial, partial.open("wb") as sink:
                    np.save(sink, vectors)
            found.append(np.load(path))
            self.progress.advance(len(piece))
        whole = np.concatenate(found)
        out = np.empty_like(whole)
        out[order] = whole
        return out


@dataclass(frozen=True)
class Asymmetric:
    """Documents by one model, queries by another."""

    documents: Kept
    queries: Kept

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        return self.documents.encode_document(texts)

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        return self.queries.encode_query(texts)


def opened(name: str, engine: str, work: Path, progress: Progress, threads: int | None) -> Kept:
    """The model `name` in `engine`; it is loaded when a vector is missing."""
    bundle = Bundle.from_pretrained(name)
    held: list[Embedder] = []

    def compute(texts: list[str], prompt: str | None) -> Vectors:
        if not held:
            held.append(open_model(name, engine=engine, threads=threads))
        return held[0].encode(texts, prompt=bundle.manifest.prompts[prompt] if prompt else "")

    key = sha256(bundle.path(MANIFEST_NAME)) if bundle.is_sealed else fingerprint(bundle)
    prompts = bundle.manifest.prompts
    query, passage = (next((name for name in names if name in prompts), None) for names in (QUERY, PASSAGE))
    return Kept(
        f"{Path(name).name}, {engine}", work / "vectors" / f"{key[:24]}-{engine}", compute, progress,
        bundle.manifest.dimension, query, query, passage,
    )  # fmt: skip


def static(work: Path, progress: Progress) -> Kept:
    """WordLlama with the 256-dimensional table that its wheel ships, in an environment of its own."""
    home = work / STATIC
    if not (home / "done").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", STATIC], check=True)
        (home / "done").touch()
    code = (
        "import json, pathlib, sys, numpy as np, wordllama; here = pathlib.Path(wordllama.__file__).parent; "
        "model = wordllama.WordLlama.load(cache_dir=here, disable_download=True); "  # it looks for its tokenizer there
        "np.save(sys.argv[2], model.embed(json.load(open(sys.argv[1])), norm=True))"
    )

    def compute(texts: list[str], prompt: str | None) -> Vectors:
        asked, answer = home / "texts.json", home / "vectors.npy"
        asked.write_text(json.dumps(texts), encoding="utf-8")
        subprocess.run([home / "bin" / "python", "-c", code, asked, answer], check=True)
        return np.load(answer).astype(np.float32)

    return Kept(STATIC, work / "vectors" / STATIC, compute, progress)


SETS = {"en": ("STS-B", "banking77", "clinc150", "SciFact"), "zh": ("STS-B zh", "drcd", "cmrc2018")}


def score(name: str, model: Any, data: Path, work: Path, on: str) -> float:
    """The model's score on the set called `name`, times 100. on: "test" or "dev"."""
    test, questions = ("test", "test") if on == "test" else ("dev", "train")
    if name.startswith("STS-B"):
        folder = "stsb_zh" if name.endswith("zh") else "stsb_en"
        found = similarity_scores(model, data_file(data, f"{folder}/{test}.jsonl.gz"))
    elif name == "SciFact":
        found = retrieval_scores(model, data_file(data, "scifact/corpus.jsonl.gz").parent, questions)
    elif name in SETS["zh"]:
        split = "dev" if name == "cmrc2018" and on == "test" else "trial" if name == "cmrc2018" else test
        found = retrieval_scores(model, paragraphs(data_file(data, f"{name}/{split}.jsonl.gz"), work))
    elif name == "banking77" and on == "dev":
        found = classification_scores(model, *halves(data_file(data, f"{name}/train.jsonl.gz"), work))
    else:
        found = classification_scores(
            model, *(known(data_file(data, f"{name}/{s}.jsonl.gz"), work) for s in ("train", test))
        )
    return 100 * float(found[0].value)


def known(path: Path, work: Path) -> Path:
    """The rows of `path` whose label is an intent: clinc150 calls what is none "oos"."""
    return _kept_rows(
        work / f"{path.parent.name}-{path.name.removesuffix('.gz')}",
        [row for row in read_rows(path) if row["label"] != "oos"],
    )


def halves(path: Path, work: Path) -> tuple[Path, Path]:
    """The even and the odd rows of a set without a dev split."""
    rows = list(read_rows(path))
    stem = f"{path.parent.name}-{path.name.removesuffix('.jsonl.gz')}"
    return _kept_rows(work / f"{stem}-even.jsonl", rows[::2]), _kept_rows(work / f"{stem}-odd.jsonl", rows[1::2])


def paragraphs(path: Path, work: Path) -> Path:
    """The folder of a search for the paragraph that each question was asked of, in BEIR's layout."""
    folder = work / f"{path.parent.name}-{path.name.removesuffix('.jsonl.gz')}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(read_rows(path))
    place = {text: str(i) for i, text in enumerate(dict.fromkeys(row["context"] for row in rows))}
    _kept_rows(folder / "corpus.jsonl", [{"_id": i, "text": text} for text, i in place.items()])
    _kept_rows(folder / "queries_test.jsonl", [{"_id": str(i), "text": r["question"]} for i, r in enumerate(rows)])
    _kept_rows(
        folder / "qrels_test.jsonl",
        [{"query_id": str(i), "doc_id": place[r["context"]], "score": 1} for i, r in enumerate(rows)],
    )
    return folder


def _kept_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def size_mb(name: str, work: Path) -> float:
    """What has to be on disk to run it: a package, or weights and tokenizer, in millions of bytes."""
    if name == STATIC:
        parts = [p for kind in ("weights/*.safetensors", "tokenizers/*.json") for p in work.rglob(f"{STATIC}/{kind}")]
        return sum(part.stat().st_size for part in parts) / 1e6
    path = resolve(name)
    if path.is_file():
        return path.stat().st_size / 1e6
    needed = [p for p in path.iterdir() if p.name == "tokenizer.json" or p.name.startswith("model.safetensors")]
    return sum(p.stat().st_size for p in needed) / 1e6


def missed(language: str, kept: dict[str, float], size: float) -> list[str]:
    """The targets that the model misses. kept: shares of its teacher's scores."""
    wanted = {name: ASYMMETRIC if name == "asymmetric" else EACH if language == "en" else CHINESE for name in kept}
    found = [f"{name} keeps {kept[name]:.4f} of {least}" for name, least in wanted.items() if kept[name] < least]
    mean = float(np.mean([share for name, share in kept.items() if name != "asymmetric"]))
    if language == "en" and mean < MEAN:
        found.append(f"the mean is {mean:.4f} of {MEAN}")
    if size > LARGEST[language]:
        found.append(f"it has {size:.2f} MB of {LARGEST[language]}")
    return found


def speed(teacher: str, model: str, texts: list[str], threads: int | None, rounds: int) -> list[str]:
    """Prints throughput and latency side by side; the targets that are missed."""
    subjects = [Subject(teacher, "torch"), *(Subject(model, engine) for engine in ("openvino", "onnxruntime"))]
    base, *ours = bench(subjects, texts, threads=threads, rounds=rounds)
    rows = [
        [
            Path(m.model).name, m.runs, f"{m.timing.sentences_s:.1f}",
            f"{m.timing.sentences_s / base.timing.sentences_s:.1f}x", f"{m.timing.p50_ms:.2f}",
            f"{base.timing.p50_ms / m.timing.p50_ms:.1f}x", f"{m.timing.p99_ms:.2f}", f"{m.memory_mb:.0f}",
        ]
        for m in (base, *ours)
    ]  # fmt: skip
    show(["model", "engine", "sentences/s", "to teacher", "p50 ms", "to teacher", "p99 ms", "MB of memory"], rows,
         texts=["engine"])  # fmt: skip
    print(f"{base.threads} threads, {len(texts)} sentences of STS-B's test split, {rounds} rounds in turns")
    fast = max(m.timing.sentences_s for m in ours) / base.timing.sentences_s
    alone = base.timing.p50_ms / min(m.timing.p50_ms for m in ours)
    told = (("throughput", fast, THROUGHPUT), ("one text", alone, ALONE))
    return [f"{what}: {found:.1f} times the teacher of {wanted}" for what, found, wanted in told if found < wanted]


def main() -> None:
    options = parser(__doc__, teacher=False, figures=True)
    options.add_argument("language", choices=["en", "zh"])
    options.add_argument("--teacher", required=True, help="folder or Hub id")
    options.add_argument("--model", action="append", required=True, help="may be repeated; the first is judged")
    options.add_argument("--engine", action="append", help="openvino or onnxruntime; default: both")
    options.add_argument("--against", action="append", default=[], help="another model, computed by torch")
    options.add_argument("--wordllama", action="store_true", help="the static model of the package wordllama, too")
    options.add_argument("--only", action="append", choices=[name for sets in SETS.values() for name in sets])
    options.add_argument("--on", choices=["test", "dev"], default="test")
    options.add_argument("--speed", action="store_true")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int)
    options.add_argument("--work", type=Path, required=True, help="where vectors are kept")
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    with TerminalProgress() as progress:
        teacher = opened(given.teacher, "torch", given.work, progress, given.threads)
        judged = [
            (name, opened(name, engine, given.work, progress, given.threads))
            for name in given.model
            for engine in (given.engine or ["openvino", "onnxruntime"])
        ]
        others = [(name, opened(name, "torch", given.work, progress, given.threads)) for name in given.against]
        models = [(given.teacher, teacher), *judged, *others]
        if given.wordllama:
            models.append((STATIC, static(given.work, progress)))
        sets = given.only or SETS[given.language]
        found = [{name: score(name, m, given.data, given.work, given.on) for name in sets} for _, m in models]
        if "SciFact" in sets:
            for (_, model), one in list(zip(models, found, strict=True))[1 : 1 + len(judged)]:
                if model.dimension != teacher.dimension:
                    continue  # another space
                one["asymmetric"] = score("SciFact", Asymmetric(teacher, model), given.data, given.work, given.on)
    whole = found[0] | ({"asymmetric": found[0]["SciFact"]} if "SciFact" in sets else {})
    rows, shares = [], []
    for (name, model), one in zip(models, found, strict=True):
        kept = {key: value / whole[key] for key, value in one.items()}
        shares.append(kept)
        mean = np.mean([v for k, v in kept.items() if k != "asymmetric"])
        cells = [f"{one[key]:.2f} ({100 * kept[key]:.1f})" if key in one else "" for key in whole]
        rows.append([model.name, f"{size_mb(name, given.work):.1f}", *cells, f"{100 * mean:.2f}"])
    show([f"{given.on} splits", "MB", *whole, "mean kept"], rows)
    told = [] if given.on == "dev" else missed(given.language, shares[1], size_mb(given.model[0], given.work))
    if given.speed:
        pairs = list(read_rows(data_file(given.data, f"stsb_{given.language}/test.jsonl.gz")))
        texts = [row[key] for row in pairs for key in ("text", "text_pair")][:512]
        told += speed(given.teacher, given.model[0], texts, given.threads, given.rounds)
    write_json(given.json, {model.name: one for (_, model), one in zip(models, found, strict=True)})
    sys.exit("; ".join(told) or 0)


if __name__ == "__main__":
    main()
