"""Every task from labelled data to int8, scored on the sets' test splits: teacher, student, student in int8, speed.

    python benchmarks/task_scores.py sst2 --data DATA --base sentence-transformers/all-MiniLM-L6-v2 --work FOLDER \\
        --start GENERAL [--seeds 0 1 2] [--trainer] [--teachers-only] [--threads N] [--json FILE]

Sets: sst2, chnsenticorp, clinc150, banking77, wnut17, btc_ner, wikigold, squad_part, cmrc2018, snli, scifact. The base
is fine-tuned (`edgebert finetune`), its student distilled from the training inputs (`edgebert distill`), the student
quantized with the set's dev examples as gate, and all of them scored. How each is trained stands in
`task_settings.toml`, chosen by dev examples; where it says so, students learn from sentences without labels, too.
--start is a general student of the base, made once for the sets whose students start from one, such as the first stage
of `edgebert.distill.defaults`. --trainer fine-tunes the same base by a plain transformers Trainer on the same rows in
the same settings.

Dev examples are the set's own; where it has none, or its dev split is what is scored, they are held out of training: a
tenth, of sst2 2,000. squad_part and cmrc2018 are split by paragraph, by a hash of it: a twelfth of the paragraphs that
squad_part trains on are dev; cmrc2018's trial split trains, but for two rows without a question, of its dev split's
paragraphs three quarters train, too, a twelfth is dev and a sixth is scored. snli trains on nine tenths of its dev
split. scifact: pairs of a train query and its abstracts, and seven others that the default embedder finds, from its
best to its 64th; a tenth of those queries is dev. Trained on are also pairs of a document and its title, or a sentence
out of it, each with one other document. Scored is nDCG@10 of reranking the embedder's best 100 for each test query.
All that is made stays in --work, so that an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import data_file, parser, write_json

import edgebert
from edgebert.bundle import Bundle
from edgebert.distill.apprenticeship import apprenticeships
from edgebert.distill.course import reader_of
from edgebert.distill.encoder import TorchEngine, load_tokenizer
from edgebert.distill.finetuning import SETTINGS, Assignment, finetune, reading
from edgebert.distill.heads import AUTO_CLASSES
from edgebert.distill.lessons import LessonCollator
from edgebert.distill.recipe import Recipe, Training, override
from edgebert.distill.task_stage import distill_task
from edgebert.distill.teacher import fingerprint
from edgebert.distill.training import best_precision
from edgebert.errors import RecipeError
from edgebert.evaluate import retrieval_scores
from edgebert.files import sha256
from edgebert.progress import Progress, TerminalProgress
from edgebert.quantize.parity import Gates
from edgebert.quantize.recipe import find_recipe
from edgebert.quantize.stage import Options, quantize
from edgebert.quantize.task_gate import TaskGate
from edgebert.schema import parse, plain, read_toml
from edgebert.table import show
from edgebert.tasks import as_task, task_named
from edgebert.tasks.asked import calibration_items
from edgebert.tasks.pairs import PairScorer
from edgebert.tasks.predictor import Predictor
from edgebert.tasks.task import Task
from edgebert.texts import read_labelled, read_rows
from edgebert.version import VERSION

ROUNDS, TIMED, SINGLES = 5, 256, 64
RERANKED = 100
NEGATIVES = (1, 2, 4, 8, 16, 32, 64)  # places among what the embedder finds
GENERAL = "general"
NAMED = ("18f", "digitalgov", "ljspeech", "openstax_by", "standardebooks", "tatoeba_en", "wordnet")
Rows = list[dict[str, Any]]


def every(rows: Rows, step: int) -> tuple[Rows, Rows]:
    """All but every `step`-th row, and those."""
    return [row for i, row in enumerate(rows) if i % step], rows[::step]


def by_context(rows: Rows, *twelfths: int) -> tuple[Rows, Rows]:
    """The rows whose paragraph is not in those twelfths of all, by its hash, and those whose is."""

    def chosen(row: dict[str, Any]) -> bool:
        return int(hashlib.sha256(row["context"].encode()).hexdigest(), 16) % 12 in twelfths

    return [row for row in rows if not chosen(row)], [row for row in rows if chosen(row)]


class Splits:
    """The rows of a set's files."""

    def __init__(self, data: Path, folder: str) -> None:
        self.data, self.folder = data, folder

    def __getitem__(self, name: str) -> Rows:
        return list(read_rows(data_file(self.data, f"{self.folder}/{name}.jsonl.gz")))


def _own(of: Splits) -> tuple[Rows, Rows, Rows]:
    return of["train"], of["dev"], of["test"]


def _sst2(of: Splits) -> tuple[Rows, Rows, Rows]:
    rows = of["train"]
    return *every(rows, len(rows) // 2000), of["dev"]


def _clinc(of: Splits) -> tuple[Rows, Rows, Rows]:
    train, dev, test = ([row for row in of[name] if row["label"] != "oos"] for name in ("train", "dev", "test"))
    return train, dev, test


def _banking(of: Splits) -> tuple[Rows, Rows, Rows]:
    return *every(of["train"], 10), of["test"]


def _squad(of: Splits) -> tuple[Rows, Rows, Rows]:
    return *by_context(of["train"], 0), of["dev"]


def _cmrc(of: Splits) -> tuple[Rows, Rows, Rows]:
    rest, test = by_context(of["dev"], 0, 1)
    train, dev = by_context(rest, 2)
    return [row for row in of["trial"] if row["question"].strip()] + train, dev, test


def _snli(of: Splits) -> tuple[Rows, Rows, Rows]:
    return *every(of["dev"], 10), of["test"]


def _scifact(of: Splits) -> tuple[Rows, Rows, Rows]:
    """Pairs of a claim, a title or a sentence, and an abstract; there is no test split of pairs: see `_reranked`."""
    rng, corpus = np.random.default_rng(0), of["corpus"]
    documents = {row["id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in corpus}
    texts = {row["id"]: row["text"] for row in of["queries_train"]}
    claims: dict[str, dict[str, str]] = {}  # by query, the text of each document that is right
    for row in of["qrels_train"]:
        if row["score"] > 0 and row["query_id"] in texts:
            claims.setdefault(row["query_id"], {})[row["doc_id"]] = documents[row["doc_id"]]
    asked = [(texts[name], right) for name, right in claims.items()]
    for row in corpus:  # what is asked with is taken out of the document
        name, title = row["id"], (row.get("title") or "").strip()
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z0-9])", row["text"])
        fit = [i for i, sentence in enumerate(sentences) if 8 <= len(sentence.split()) <= 40]
        if title:
            asked.append((title, {name: row["text"]}))
        if fit:
            sentence = sentences.pop(rng.choice(fit))
            asked.append((sentence, {name: f"{title} {' '.join(sentences)}".strip()}))
    names = list(documents)
    with edgebert.load("edgebert-mini-en", task="embedding") as model:
        vectors = model.encode_document(list(documents.values()))
        queries = model.encode_query([text for text, _ in asked])
    rows: list[Rows] = []
    for query, (text, right) in zip(queries, asked, strict=True):
        best = [names[i] for i in np.argsort(-(vectors @ query))[:RERANKED] if names[i] not in right]
        places = NEGATIVES if len(rows) < len(claims) else (int(rng.choice(NEGATIVES)),)
        pairs = [(found, 1) for found in right.values()] + [(documents[best[place - 1]], 0) for place in places]
        rows.append([{"text": text, "text_pair": found, "label": label} for found, label in pairs])
    dev = [row for some in rows[: len(claims) : 10] for row in some]
    train = [row for i, some in enumerate(rows) for row in some if i % 10 or i >= len(claims)]
    return train, dev, dev


SETS: dict[str, tuple[str, str, Callable[[Splits], tuple[Rows, Rows, Rows]]]] = {
    "sst2": ("classify", "sst2", _sst2),
    "chnsenticorp": ("classify", "chnsenticorp_htl", _own),
    "clinc150": ("classify", "clinc150", _clinc),
    "banking77": ("classify", "banking77", _banking),
    "wnut17": ("tag", "wnut17", _own),
    "btc_ner": ("tag", "btc_ner", _own),
    "wikigold": ("tag", "wikigold", _own),
    "squad_part": ("answer", "squad_part", _squad),
    "cmrc2018": ("answer", "cmrc2018", _cmrc),
    "snli": ("pairs", "snli", _snli),
    "scifact": ("pairs", "scifact", _scifact),
}


def with_names(data: Path, count: int) -> list[str]:
    """That many sentences of sentences_en/permissive with two capitalized words behind the first, evenly of `NAMED`."""
    found: dict[str, list[str]] = {source: [] for source in NAMED}
    for text, source in read_labelled([data_file(data, "sentences_en/permissive.tsv.gz")], label="source"):
        words = text.split()
        if source in found and 6 <= len(words) <= 45:
            capital = [word for word in words[1:] if word[0].isupper() and word != "I" and not word.startswith("I’")]
            if len(capital) > 1:
                found[source].append(text)
    each = -(-count // len(NAMED))
    return [text for texts in found.values() for text in texts[:: max(1, len(texts) // each)][:each]][:count]


def joined(rows: Rows, count: int) -> list[str]:
    """That many texts of two or three of the rows' texts, drawn by chance: where phrases teach what reads sentences."""
    rng, texts = np.random.default_rng(0), [row["text"].strip() for row in rows]
    return [" , ".join(texts[i] for i in rng.integers(len(texts), size=2 + n % 2)) for n in range(count)]


@dataclass(frozen=True)
class Settings:
    """How teachers and students of a set are trained; see `task_settings.toml`.

    max_length: tokens that they read at once, None for as many as the base. engines: those that int8 is scored in.
    unlabelled: so many sentences with names that students learn from, too; see `with_names`. joined: so many texts made
    of training texts; see `joined`.
    """

    teacher: Training
    recipe: Recipe
    max_length: int | None
    engines: tuple[str, ...]
    unlabelled: int
    joined: int

    @classmethod
    def read(cls, path: Path, name: str) -> Settings:
        """The part of the file for the set `name`."""
        found = dict(read_toml(path, what="file of settings", error=RecipeError)[name])
        max_length = found.pop("max_length", None)
        unlabelled, together = found.pop("unlabelled", 0), found.pop("joined", 0)
        engines = tuple(found.pop("engines", ("onnxruntime", "openvino")))
        where = f"{path}: {name}"
        teacher = parse(Training, plain(SETTINGS) | found.pop("teacher", {}), where=where, error=RecipeError)
        recipe = parse(Recipe, found, where=where, error=RecipeError)
        return cls(teacher, recipe, max_length, engines, unlabelled, together)


def main() -> None:
    options = parser(__doc__, teacher=False, figures=True)
    options.add_argument("set", choices=list(SETS))
    options.add_argument("--base", required=True, help="what teachers are fine-tuned from: folder or Hub id")
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--settings", type=Path, default=Path(__file__).with_name("task_settings.toml"))
    options.add_argument("--start", help="a general student of the base, from which students start")
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--trainer", action="store_true", help="a plain transformers Trainer's teacher, too")
    options.add_argument("--teachers-only", action="store_true", help="no students")
    options.add_argument("--threads", type=int)
    given = options.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    with TerminalProgress() as progress:
        run = Run(given, progress)
        found = [run.seed(seed) for seed in given.seeds]
    names = list(found[0])
    rows = [[str(seed), *(f"{one[name]:.2f}" for name in names)] for seed, one in zip(given.seeds, found, strict=True)]
    if len(found) > 1:
        rows.append(["mean", *(f"{statistics.mean(one[name] for one in found):.2f}" for name in names)])
    show(["seed", *names], rows)
    seeds = dict(zip(given.seeds, found, strict=True))
    write_json(given.json, {"set": given.set, "base": given.base, "seeds": seeds, "settings": plain(run.settings)})


class Run:
    """One set with one base."""

    def __init__(self, given: Any, progress: Progress) -> None:
        self.given, self.progress = given, progress
        self.settings = Settings.read(given.settings, given.set)
        self.task_name, folder, split = SETS[given.set]
        self.task: Task = task_named(self.task_name)
        self.work = given.work / given.set
        self.work.mkdir(parents=True, exist_ok=True)
        self.files = {name: self.work / f"{name}.jsonl" for name in ("train", "dev", "test")}
        if not all(path.exists() for path in self.files.values()):
            for path, rows in zip(self.files.values(), split(Splits(given.data, folder)), strict=True):
                path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
        self.corpus = [self.files["train"]]
        if self.settings.unlabelled:
            self._more("unlabelled", with_names(given.data, self.settings.unlabelled))
        if self.settings.joined:
            self._more("joined", joined(list(read_rows(self.files["train"])), self.settings.joined))
        self.base = reading(Bundle.from_pretrained(given.base), self.settings.max_length)
        self.recipe, self.start = self.settings.recipe, ""
        if self.recipe.student.start == GENERAL:
            if given.start is None:
                sys.exit(f"students of {given.set} start from a general student: name it with --start")
            self.recipe = override(self.recipe, "student", start=given.start)
            self.start = fingerprint(Bundle.from_pretrained(given.start))

    def seed(self, seed: int) -> dict[str, float]:
        """Scores times 100, shares in per cent, speed as a ratio, seconds of training."""
        given, found = self.given, dict[str, float]()
        teacher = self._made(f"teacher-{seed}", lambda out: self._teach(out, seed))
        plain_one = self._made(f"trainer-{seed}", lambda out: self._plain(out, seed)) if given.trainer else None
        if plain_one is not None:
            found["Trainer"] = self._torch(plain_one)
        if given.teachers_only:
            return found | {"teacher": self._torch(teacher), "its seconds": _seconds_of(teacher)}
        whole = self._made(f"fp32-of-teacher-{seed}", lambda out: self._quantize(teacher, out, gates=False))
        student = self._made(f"student-{seed}", lambda out: self._distil(teacher, out, seed))
        small = self._made(f"int8-{seed}", lambda out: self._quantize(student, out))
        score = self._engine(whole, self.settings.engines[0], "fp32")
        found |= {"teacher": score, "its seconds": _seconds_of(teacher), "student's seconds": _seconds_of(student)}
        for engine in self.settings.engines:
            exact, rounded = (self._engine(small, engine, precision) for precision in ("fp32", "int8"))
            found |= {f"{engine} fp32": exact, f"{engine} int8": rounded}
            found[f"{engine} int8 of teacher %"] = 100 * rounded / score
            found[f"{engine} int8 of fp32 %"] = 100 * rounded / exact
        for engine in self.settings.engines:
            found[f"{engine} times the speed"], found[f"{engine} one by one"] = self._faster(whole, small, engine)
        self.progress.say(json.dumps({k: round(v, 3) for k, v in found.items()}))
        return found

    def _more(self, name: str, texts: list[str]) -> None:
        """Texts without labels that students learn from, too."""
        path = self.work / f"{name}-{len(texts)}.txt"
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        self.corpus.append(path)

    def _made(self, name: str, make: Callable[[Path], object]) -> Bundle:
        teacher = self.settings.teacher
        facts: list[Any] = [
            VERSION, fingerprint(self.base), [sha256(path) for path in self.files.values()], name,
            teacher.epochs, teacher.learning_rate, teacher.batch_size, self.settings.max_length,
        ]  # fmt: skip
        if name.startswith(("student", "int8")):
            facts += [plain(self.settings.recipe), self.start, *(sha256(path) for path in self.corpus[1:])]
        out = self.work / f"{name}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]}"
        if not out.exists():
            make(out)
        if (out / "edgebert.json").exists():
            return Bundle.open(out)
        return reading(Bundle.from_pretrained(out), self.base.manifest.max_length)

    def _teach(self, out: Path, seed: int) -> None:
        settings = dataclasses.replace(self.settings.teacher, seed=seed)
        one = Assignment(self.task, (str(self.files["train"]),), (str(self.files["dev"]),))
        finetune(self.base, [one], out, settings, progress=self.progress)

    def _plain(self, out: Path, seed: int) -> None:
        """The standard settings of transformers' examples: AdamW, linear decay, batches of like length."""
        import transformers

        transformers.set_seed(seed)
        examples = self.task.read([self.files["train"]])
        head = self.task.head(examples)
        lessons = self.task.lessons(reader_of(self.base), examples, head)
        collate = LessonCollator(lessons, [0], pad_token_id=self.base.manifest.pad_token_id)
        names = head.labels or (("number",) if head.level == "text" else ("start", "end"))
        auto = getattr(transformers, AUTO_CLASSES[head.level])
        model = auto.from_pretrained(
            self.base.root, num_labels=len(names), id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
        )  # fmt: skip

        def labelled(rows: list[dict[str, Any]]) -> dict[str, Any]:
            batch = collate([row["row"] for row in rows])
            targets = batch.pop("targets")
            del batch["head"]
            if head.level == "span":
                return batch | {"start_positions": targets[:, 0], "end_positions": targets[:, 1]}
            return batch | {"labels": targets}

        teacher = self.settings.teacher
        arguments = transformers.TrainingArguments(
            output_dir=str(out.with_suffix(".run")), num_train_epochs=teacher.epochs,
            learning_rate=teacher.learning_rate, per_device_train_batch_size=teacher.batch_size,
            use_cpu=not torch.cuda.is_available(), seed=seed,
            save_strategy="no", report_to=[], disable_tqdm=True, remove_unused_columns=False, warmup_steps=0.1,
            logging_strategy="no", bf16=best_precision("auto") == "bf16", train_sampling_strategy="group_by_length",
        )  # fmt: skip
        data: Any = [{"row": number, "input_ids": lesson.row} for number, lesson in enumerate(lessons)]
        transformers.Trainer(model=model, args=arguments, train_dataset=data, data_collator=labelled).train()
        model.save_pretrained(out)
        transformers.AutoTokenizer.from_pretrained(self.base.root).save_pretrained(out)

    def _distil(self, teacher: Bundle, out: Path, seed: int) -> None:
        recipe = override(self.recipe, "training", seed=seed)
        corpus = [str(path) for path in self.corpus]
        chosen = apprenticeships(teacher, corpus, (str(self.files["dev"]),), self.task_name)
        distill_task(chosen, out, recipe, progress=self.progress)

    def _quantize(self, model: Bundle, out: Path, *, gates: bool = True) -> None:
        texts = calibration_items(model, [str(self.files["train"])], None)
        gate = TaskGate("task", (str(self.files["dev"]),), 0.993) if gates else None
        limits = Gates() if gates else Gates(0.0, 0.0, 0.0)
        recipe = None if gates else find_recipe("weight-only")  # its int8 is not asked for: the quickest to make
        quantize(model, texts, out, Options(recipe=recipe, task=gate, gates=limits), progress=self.progress)

    def _torch(self, model: Bundle) -> float:
        """The score of the model computed by torch."""

        def score() -> float:
            bundle = as_task(model, self.task_name)
            engine = TorchEngine(bundle, threads=self.given.threads)
            return self._score(self.task.runtime(bundle, engine, tokenizer=load_tokenizer(bundle)))

        return self._kept(model, "torch", score)

    def _engine(self, model: Bundle, engine: str, precision: str) -> float:
        def score() -> float:
            with edgebert.load(
                model.root, engine=engine, precision=precision, threads=self.given.threads, task=self.task_name
            ) as opened:
                return self._score(opened)

        return self._kept(model, f"{engine} {precision}", score)

    def _kept(self, model: Bundle, how: str, score: Callable[[], float]) -> float:
        """The score, kept in a file of the work folder, so that what takes long is not done again."""
        path = self.work / f"{model.root.name}.{how.replace(' ', '-')}.json"
        if not path.exists():
            path.write_text(json.dumps(score()), encoding="utf-8")
        return float(json.loads(path.read_text(encoding="utf-8")))

    def _score(self, model: Predictor) -> float:
        if self.given.set == "scifact":
            return 100 * self._reranked(model)
        return 100 * self.task.scores(model, self.task.read([self.files["test"]]))[self.task.metric_of(model.head)]

    def _reranked(self, model: Predictor) -> float:
        """nDCG@10 on the test queries when the default embedder's best 100 are put in the model's order."""
        assert isinstance(model, PairScorer)
        folder = data_file(self.given.data, "scifact/corpus.jsonl.gz").parent
        with edgebert.load("edgebert-mini-en", task="embedding") as embedder:
            asked: Any = Reranked(embedder, model)
            return float(retrieval_scores(asked, folder)[0].value)

    def _faster(self, teacher: Bundle, student: Bundle, engine: str) -> tuple[float, float]:
        """How many times the teacher's fp32 speed the student's int8 has, in turns: of many inputs at once, the median
        of the ratios, and of one after the other, the ratio of the medians."""
        items = list(self.task.read_inputs(self.files["test"]))[:TIMED]
        options: dict[str, Any] = {"engine": engine, "threads": self.given.threads, "task": self.task_name}
        with (
            edgebert.load(teacher.root, precision="fp32", **options) as slow,
            edgebert.load(student.root, precision="int8", **options) as fast,
        ):
            slow.results(items)
            fast.results(items)
            many = statistics.median(_seconds(slow, items) / _seconds(fast, items) for _ in range(ROUNDS))
            each = [(_seconds(slow, [item]), _seconds(fast, [item])) for item in items[:SINGLES]]
        return many, statistics.median(one for one, _ in each) / statistics.median(other for _, other in each)


class Reranked:
    """An embedder whose similarities of the best `RERANKED` documents are a pair scorer's; see `retrieval_scores`."""

    def __init__(self, embedder: Any, scorer: PairScorer) -> None:
        self.embedder, self.scorer = embedder, scorer
        self.documents: list[str] = []
        self.vectors: Any = None

    def encode_document(self, texts: Iterable[str]) -> Any:
        """One axis for each document."""
        self.documents = list(texts)
        self.vectors = self.embedder.encode_document(self.documents)
        return np.eye(len(self.documents), dtype=np.float32)

    def encode_query(self, texts: Iterable[str]) -> Any:
        """The score of each document, on its axis."""
        found = []
        for text, vector in zip(list(texts), self.embedder.encode_query(list(texts)), strict=True):
            alike = self.vectors @ vector
            scores = alike - 2  # below every probability, in the embedder's order
            best = np.argsort(-alike)[:RERANKED]
            scores[best] = self.scorer.score_pairs([(text, self.documents[i]) for i in best.tolist()])
            found.append(scores)
        return np.stack(found)


def _seconds_of(model: Bundle) -> float:
    return float(model.manifest.lineage["training_seconds"])


def _seconds(model: Any, items: list[Any]) -> float:
    start = time.perf_counter()
    model.results(items)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
