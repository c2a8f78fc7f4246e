"""Every task from labelled data to int8, scored on the sets' test splits: teacher, student, student in int8, speed.

    python benchmarks/task_scores.py sst2 --data DATA --base sentence-transformers/all-MiniLM-L6-v2 --work FOLDER \\
        --start GENERAL [--larger MODEL] [--seeds 0 1 2] [--trainer] [--teachers-only] [--threads N] [--json FILE]

Sets: sst2, chnsenticorp, clinc150, banking77, wnut17, btc_ner, wikigold, squad_part, cmrc2018, snli, scifact. The base
is fine-tuned (`edgebert finetune`), its student distilled from the training inputs (`edgebert distill`), the student
quantized with the set's dev examples as gate, and all of them scored. How each is trained stands in
`task_settings.toml`, chosen by dev examples; where it says so, students learn from sentences without labels, too.
--start is a general student of the base, made once for the sets whose students start from one, such as the first stage
of `edgebert.distill.defaults`. --larger is a larger model, for the set whose teachers learn from one: it is fine-tuned,
and the base then distilled from its answers to the training inputs and to what students learn from beside them
(Mirzadeh et al. 2020, arXiv:1902.03393, where the middle one is called teacher assistant). --trainer fine-tunes the
same base by a plain transformers Trainer on the same rows in the same settings.

Dev examples are the set's own; where it has none, or its dev split is what is scored, they are held out of training: a
tenth, of sst2 every 20th sentence with the phrases that stand in no other. squad_part and cmrc2018 are split by
paragraph, by a hash of it: a twelfth of the paragraphs that squad_part trains on are dev; cmrc2018's trial split
trains, but for two rows without a question, of its dev split's paragraphs three quarters train, too, a twelfth is dev
and a sixth is scored. snli trains on nine tenths of its dev split. scifact: pairs of a train query and its abstracts,
and seven others that the default embedder finds, from its best to its 64th; a tenth of those queries is dev. Trained on
are also pairs of a document and its title, or a sentence out of it, each with one other document. Scored is nDCG@10 on
the test queries, of the embedder's best 100 in the order of its similarity + weight * the pair scorer's log-odds
(`PairScorer.rank`); told is also what both do alone, and the sum on the dev queries for several weights. Two of the 300
test claims are train claims, too, as the set has them. All that is made stays in --work, so that an interrupted run
goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import parser, write_json
from numpy.typing import NDArray
from reranking import Reranking
from task_sets import SETS, Splits, joined, with_names

import edgebert
from edgebert.bundle import Bundle
from edgebert.distill.apprenticeship import apprenticeships
from edgebert.distill.course import reader_of
from edgebert.distill.encoder import TorchEngine, load_tokenizer
from edgebert.distill.finetuning import SETTINGS, Assignment, finetune, reading
from edgebert.distill.heads import AUTO_CLASSES
from edgebert.distill.lessons import LessonCollator
from edgebert.distill.recipe import Recipe, Student, TaskStage, Training, override
from edgebert.distill.task_stage import distill_task
from edgebert.distill.teacher import fingerprint
from edgebert.distill.training import best_precision
from edgebert.errors import RecipeError
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
from edgebert.texts import read_rows
from edgebert.version import VERSION

ROUNDS, TIMED, SINGLES = 5, 256, 64
GENERAL, RERANKS = "general", "scifact"
WEIGHTS = (0, 0.02, 0.05, 0.1, 0.2, 0.5, np.inf)


@dataclass(frozen=True)
class Settings:
    """How teachers and students of a set are trained; see `task_settings.toml`.

    max_length: tokens that they read at once, None for as many as the base. engines: those that int8 is scored in.
    larger: how the larger model is fine-tuned that teachers learn from, None where they are fine-tuned themselves.
    weight: of a pair scorer's log-odds beside the embedder's similarity, where it reranks; see `PairScorer.rank`.
    unlabelled: so many sentences with names that students learn from, too; see `with_names`. joined: so many texts made
    of training texts; see `joined`.
    """

    teacher: Training
    recipe: Recipe
    max_length: int | None
    engines: tuple[str, ...]
    unlabelled: int
    joined: int
    weight: float
    larger: Training | None

    @classmethod
    def read(cls, path: Path, name: str) -> Settings:
        """The part of the file for the set `name`."""
        found = dict(read_toml(path, what="file of settings", error=RecipeError)[name])
        max_length = found.pop("max_length", None)
        unlabelled, together = found.pop("unlabelled", 0), found.pop("joined", 0)
        weight = found.pop("weight", 0.0)
        engines = tuple(found.pop("engines", ("onnxruntime", "openvino")))
        where = f"{path}: {name}"

        def fine_tuning(given: dict[str, Any]) -> Training:
            return parse(Training, plain(SETTINGS) | given, where=where, error=RecipeError)

        teacher = fine_tuning(found.pop("teacher", {}))
        larger = fine_tuning(found.pop("larger")) if "larger" in found else None
        recipe = parse(Recipe, found, where=where, error=RecipeError)
        return cls(teacher, recipe, max_length, engines, unlabelled, together, weight, larger)


def main() -> None:
    options = parser(__doc__, teacher=False, figures=True)
    options.add_argument("set", choices=list(SETS))
    options.add_argument("--base", required=True, help="what teachers are fine-tuned from: folder or Hub id")
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--settings", type=Path, default=Path(__file__).with_name("task_settings.toml"))
    options.add_argument("--start", help="a general student of the base, from which students start")
    options.add_argument("--larger", help="a larger model, of which teachers learn: folder or Hub id")
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
        self.corpus, self.rerankings = [self.files["train"]], dict[str, Reranking]()
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
        self.larger: Bundle | None = None
        if self.settings.larger:
            if given.larger is None:
                sys.exit(f"teachers of {given.set} learn from a larger model: name it with --larger")
            self.larger = reading(Bundle.from_pretrained(given.larger), self.settings.max_length)

    def seed(self, seed: int) -> dict[str, float]:
        """Scores times 100, shares in per cent, speed as a ratio, seconds of training."""
        given, found = self.given, dict[str, float]()
        master = self._larger()
        teacher = self._made(f"teacher-{seed}", lambda out: self._teach(out, seed, master))
        plain_one = self._made(f"trainer-{seed}", lambda out: self._plain(out, seed)) if given.trainer else None
        if master is not None:
            found |= {"larger": self._torch(master), "larger's seconds": _seconds_of(master)}
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
        if self.given.set == RERANKS:
            found |= self._beside(whole, small)
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
        teacher, beside = self.settings.teacher, [sha256(path) for path in self.corpus[1:]]
        facts: list[Any] = [
            VERSION, fingerprint(self.base), [sha256(path) for path in self.files.values()], name,
            teacher.epochs, teacher.learning_rate, teacher.batch_size, self.settings.max_length,
        ]  # fmt: skip
        if teacher.patience and not name.startswith("trainer"):  # a plain Trainer keeps its last model
            facts.append(teacher.patience)
        if self.larger is not None and not name.startswith("trainer"):
            facts += [fingerprint(self.larger), plain(self.settings.larger), *beside]
        if name.startswith(("student", "int8")):
            facts += [plain(self.settings.recipe), self.start, *beside]
        out = self.work / f"{name}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]}"
        if not out.exists():
            make(out)
        if (out / "edgebert.json").exists():
            return Bundle.open(out)
        return reading(Bundle.from_pretrained(out), self.base.manifest.max_length)

    def _larger(self) -> Bundle | None:
        """The larger model that teachers learn from, fine-tuned; one for all seeds."""
        larger, settings = self.larger, self.settings.larger
        if larger is None or settings is None:
            return None
        return self._made("larger", lambda out: self._fine_tune(larger, out, settings))

    def _teach(self, out: Path, seed: int, master: Bundle | None) -> None:
        settings = dataclasses.replace(self.settings.teacher, seed=seed)
        if master is None:
            self._fine_tune(self.base, out, settings)
            return
        student = Student(start=self.given.base, max_length=self.settings.max_length, projection="drop")
        task = TaskStage(epochs=settings.epochs, learning_rate=settings.learning_rate)
        recipe = Recipe(student=student, training=dataclasses.replace(settings, epochs=0), task=task)
        self._imitate(master, out, recipe)

    def _fine_tune(self, base: Bundle, out: Path, settings: Training) -> None:
        one = Assignment(self.task, (str(self.files["train"]),), (str(self.files["dev"]),))
        finetune(base, [one], out, settings, progress=self.progress)

    def _plain(self, out: Path, seed: int) -> None:
        """The standard settings of transformers' examples: AdamW, linear decay, batches of like length."""
        import transformers
        from transformers.trainer import TRAINER_STATE_NAME
        from transformers.trainer_utils import get_last_checkpoint

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
            ignore_mismatched_sizes=True,  # a base with a head of other labels, as scifact's
            attn_implementation="eager",  # the same sums; a CPU that drops attention weights does them faster
        )  # fmt: skip

        def labelled(rows: list[dict[str, Any]]) -> dict[str, Any]:
            batch = collate([row["row"] for row in rows])
            targets = batch.pop("targets")
            del batch["head"]
            if head.level == "span":
                return batch | {"start_positions": targets[:, 0], "end_positions": targets[:, 1]}
            return batch | {"labels": targets}

        teacher, run = self.settings.teacher, out.with_suffix(".run")
        arguments = transformers.TrainingArguments(
            output_dir=str(run), num_train_epochs=teacher.epochs,
            learning_rate=teacher.learning_rate, per_device_train_batch_size=teacher.batch_size,
            use_cpu=not torch.cuda.is_available(), seed=seed,
            save_steps=0.05, save_total_limit=1, report_to=[], remove_unused_columns=False, warmup_steps=0.1,
            logging_strategy="no", bf16=best_precision("auto") == "bf16", train_sampling_strategy="group_by_length",
        )  # fmt: skip
        data: Any = [{"row": number, "input_ids": lesson.row} for number, lesson in enumerate(lessons)]
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data, data_collator=labelled)
        for part in run.glob("checkpoint-*"):
            if not (part / TRAINER_STATE_NAME).exists():  # written last
                shutil.rmtree(part)
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(run)) if run.is_dir() else None)
        model.save_pretrained(run / "made")
        transformers.AutoTokenizer.from_pretrained(self.base.root).save_pretrained(run / "made")
        (run / "made").rename(out)
        shutil.rmtree(run)

    def _distil(self, teacher: Bundle, out: Path, seed: int) -> None:
        self._imitate(teacher, out, override(self.recipe, "training", seed=seed))

    def _imitate(self, teacher: Bundle, out: Path, recipe: Recipe) -> None:
        corpus = [str(path) for path in self.corpus]
        chosen = apprenticeships(teacher, corpus, (str(self.files["dev"]),), self.task_name)
        distill_task(chosen, out, recipe, progress=self.progress)

    def _quantize(self, model: Bundle, out: Path, *, gates: bool = True) -> None:
        texts = calibration_items(model, [str(self.files["train"])])
        gate = TaskGate("task", (str(self.files["dev"]),), 0.993) if gates else None
        limits = Gates() if gates else Gates(0.0, 0.0, 0.0)
        recipe = None if gates else find_recipe("weight-only")  # its int8 is not asked for: the quickest to make
        quantize(model, texts, out, Options(recipe=recipe, task=gate, gates=limits), progress=self.progress)

    def _torch(self, model: Bundle) -> float:
        """The score of the model computed by torch."""
        bundle = as_task(model, self.task_name)

        def opened() -> Predictor:
            engine = TorchEngine(bundle, threads=self.given.threads)
            return self.task.runtime(bundle, engine, tokenizer=load_tokenizer(bundle))

        return self._score(model, "torch", opened)

    def _engine(self, model: Bundle, engine: str, precision: str) -> float:
        return self._score(model, f"{engine} {precision}", self._opener(model, engine, precision))

    def _opener(self, model: Bundle, engine: str, precision: str) -> Callable[[], Predictor]:
        return lambda: edgebert.load(
            model.root, engine=engine, precision=precision, threads=self.given.threads, task=self.task_name
        )

    def _score(self, model: Bundle, how: str, opened: Callable[[], Predictor]) -> float:
        if self.given.set == RERANKS:
            return self._ndcg("test", self._log_odds(model, how, opened, "test"), self.settings.weight)

        def score() -> float:
            with opened() as predictor:
                scores = self.task.scores(predictor, self.task.read([self.files["test"]]))
                return 100 * scores[self.task.metric_of(predictor.head)]

        return float(self._kept(model, how, score))

    def _kept(self, model: Bundle, how: str, find: Callable[[], Any]) -> Any:
        """What is found, kept in a file of the work folder, so that what takes long is not done again."""
        path = self.work / f"{model.root.name}.{how.replace(' ', '-')}.json"
        if not path.exists():
            path.write_text(json.dumps(find()), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    def _reranking(self, split: str) -> Reranking:
        if split not in self.rerankings:
            self.rerankings[split] = Reranking(Splits(self.given.data, RERANKS), split)
        return self.rerankings[split]

    def _log_odds(self, model: Bundle, how: str, opened: Callable[[], Predictor], split: str) -> NDArray[np.float64]:
        reranking = self._reranking(split)

        def find() -> Any:
            with opened() as scorer:
                assert isinstance(scorer, PairScorer)
                return reranking.log_odds(scorer).tolist()

        return np.array(self._kept(model, f"{how} log-odds {split} {reranking.digest}", find))

    def _ndcg(self, split: str, log_odds: NDArray[np.float64], weight: float) -> float:
        """Times 100, of the order by similarity + weight * log-odds; infinite: by log-odds alone."""
        reranking = self._reranking(split)
        scores = log_odds if weight == np.inf else reranking.similarities + weight * log_odds
        return 100 * reranking.ndcg(scores)

    def _beside(self, teacher: Bundle, student: Bundle) -> dict[str, float]:
        """nDCG@10 of the embedder alone and of the pair scorers alone; says the sums' on the held-out train queries."""
        engine, found = self.settings.engines[0], dict[str, float]()
        for name, model, precision in (("teacher", teacher, "fp32"), ("int8", student, "int8")):
            how, opened = f"{engine} {precision}", self._opener(model, engine, precision)
            test, dev = (self._log_odds(model, how, opened, split) for split in ("test", "dev"))
            found |= {"embedder alone": self._ndcg("test", test, 0), f"{name} alone": self._ndcg("test", test, np.inf)}
            sums = (f"{weight} {self._ndcg('dev', dev, weight):.2f}" for weight in WEIGHTS)
            self.progress.say(f"{name} on held-out train queries, by weight: {', '.join(sums)}")
        return found

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


def _seconds_of(model: Bundle) -> float:
    return float(model.manifest.lineage["training_seconds"])


def _seconds(model: Any, items: list[Any]) -> float:
    start = time.perf_counter()
    model.results(items)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
