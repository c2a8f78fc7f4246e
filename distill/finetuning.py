"""Fine-tuning: a base model and labelled examples in, a bundle that does a task, or several, out.

Source: Devlin et al. 2019, arXiv:1810.04805, for heads over one encoder; Liu et al. 2019, arXiv:1901.11504, for several
tasks on one encoder, batch by batch; Guo et al. 2017, arXiv:1706.04599, for the temperature.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from edgebert.bundle import Bundle, seal
from edgebert.cache import cache_folder
from edgebert.card import model_card
from edgebert.distill.batches import Rows
from edgebert.distill.encoder import SentenceEncoder, TorchEngine, load_encoder, load_tokenizer
from edgebert.distill.fake_quant import FakeQuant
from edgebert.distill.folder import write_model
from edgebert.distill.heads import head_over
from edgebert.distill.history import write_beside
from edgebert.distill.lessons import LessonCollator, TaskSampler
from edgebert.distill.lock import sole_user
from edgebert.distill.recipe import Training
from edgebert.distill.students import name_of
from edgebert.distill.teacher import fingerprint, reading_of
from edgebert.distill.temperature import fit_temperature
from edgebert.distill.tensorboard import Board, require_tensorboard
from edgebert.distill.training import TrainingRun, best_precision, count_steps, train
from edgebert.errors import RecipeError
from edgebert.files import disk_errors, new_folder, require_writable, sha256
from edgebert.manifest import Head, Manifest, Quality
from edgebert.progress import Progress
from edgebert.schema import plain
from edgebert.tasks.predictor import Predictor
from edgebert.tasks.reading import TaskReader
from edgebert.tasks.task import Example, Lesson, Task, renamed

STRIDE = 128
SETTINGS = Training(
    epochs=3, batch_size=32, learning_rate=5e-5, warmup=0.1, freeze_embeddings=False
)  # Devlin et al. 2019, A.3


@dataclass(frozen=True)
class Assignment:
    """A task with its files. name: of its head where there are several."""

    task: Task
    train: tuple[str, ...]
    dev: tuple[str, ...]
    name: str = ""


class TaskModel(nn.Module):
    """Tokens and targets of one task in, its loss out. weights: of each head's labels, None for all the same."""

    fake_quant: FakeQuant | None = None
    leaves_unused = True  # every batch is of one head, and pooled vectors are no part of most

    def __init__(self, encoder: SentenceEncoder, tasks: Sequence[Task], heads: Sequence[Head]) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks, self.heads = tuple(tasks), tuple(heads)
        self.weights: list[Tensor | None] = [None] * len(self.heads)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, targets: Tensor, head: int,
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Shape: input_ids, attention_mask and token_type_ids (batch, seq_len); targets see `Task.loss`."""
        logits = self.encoder(input_ids, attention_mask, token_type_ids).logits[head].float()
        weights = self.weights[head]
        weights = None if weights is None else weights.to(logits.device)
        return {"loss": self.tasks[head].loss(logits, targets, attention_mask, self.heads[head], weights)}


def finetune(
    base: Bundle, assignments: Sequence[Assignment], out: Path, settings: Training = SETTINGS, *,
    class_weights: bool = False, work: Path | None = None, progress: Progress | None = None,
) -> Bundle:  # fmt: skip
    """`base` with a new head for each assignment, all of it trained on their examples, as a new bundle in `out`.

    class_weights: rare labels count as much as frequent ones. work: where checkpoints lie, by default the cache: in a
    folder named by all that the run depends on, so that the same call goes on after a break. Figures are written beside
    `out`. The dev files measure, stop early (`settings.patience`) and fit the temperature of probabilities.
    Raises: DataError for files that cannot be used, RecipeError, BundleError; EdgeBertError when another process trains
    the same.
    """
    if settings.qat:
        raise RecipeError(f"training.qat is {settings.qat}; fine-tuning imitates no int8: set it to 0")
    if settings.tensorboard is not None:
        require_tensorboard()
    began, state = time.monotonic(), PartialState(cpu=not torch.cuda.is_available())
    if progress is None or not state.is_main_process:
        progress = Progress()
    if state.is_main_process:
        require_writable(out)
    work_of = _Course(base, assignments, settings, class_weights, state.num_processes)
    folder = (work or cache_folder("runs")) / work_of.key
    with contextlib.ExitStack() as held:
        if state.is_main_process:
            with disk_errors(folder):
                held.enter_context(sole_user(folder))
        state.wait_for_everyone()
        folder.mkdir(parents=True, exist_ok=True)
        model = work_of.model()
        progress.say(work_of.described)
        board = None
        if settings.tensorboard is not None and state.is_main_process:
            board = held.enter_context(contextlib.closing(Board(Path(settings.tensorboard), work_of.metric)))
        rows = np.arange(len(work_of.lessons))
        sampler = TaskSampler(work_of.lessons, work_of.firsts, batch_size=settings.batch_size, seed=settings.seed)
        run = TrainingRun(
            model, Rows(rows), sampler, LessonCollator(work_of.lessons, work_of.firsts, pad_token_id=work_of.pad),
            settings, best_precision(settings.precision), folder, work_of.measure(model), progress,
            count_steps(settings, len(sampler), state.num_processes), state.num_processes, began, board, work_of.metric,
        )  # fmt: skip
        trained = train(run)
        if state.is_main_process:
            heads = work_of.calibrated(model)
            found = work_of.scores(model, heads)
            lineage = work_of.lineage | {
                "final_loss": trained.history.loss, "training_seconds": round(trained.seconds, 1)
            }  # fmt: skip
            manifest = dataclasses.replace(work_of.manifest(heads), quality=found, lineage=lineage)
            with new_folder(out) as partial:
                manifest = write_model(partial, model.encoder.cpu(), base, manifest)
                (partial / "README.md").write_text(model_card(manifest, out.name, partial), encoding="utf-8")
                seal(partial, manifest)
            write_beside(out, trained.history, title=f"{out.name}: training")
            shutil.rmtree(folder, ignore_errors=True)
        state.wait_for_everyone()
    return Bundle.open(out)


class _Course:
    """What is learnt by whom: examples, heads, lessons, and how well it is done."""

    def __init__(
        self, base: Bundle, assignments: Sequence[Assignment], settings: Training, class_weights: bool, processes: int
    ) -> None:
        self.base, self.assignments, self.settings, self.class_weights = base, assignments, settings, class_weights
        names = [one.name for one in assignments]
        if len(assignments) > 1 and len(set(names)) < len(names):
            raise RecipeError(f"the tasks are called {', '.join(map(repr, names))}; each needs a name of its own")
        self.tokenizer = load_tokenizer(base)
        self.reader = TaskReader(self.tokenizer, max_length=base.manifest.max_length, stride=STRIDE)
        self.pad = base.manifest.pad_token_id
        self.train = [one.task.read(one.train) for one in assignments]
        self.dev = [one.task.read(one.dev) for one in assignments]
        self.heads = [self._head(one, examples) for one, examples in zip(assignments, self.train, strict=True)]
        by_task = [
            one.task.lessons(self.reader, examples, head)
            for one, examples, head in zip(assignments, self.train, self.heads, strict=True)
        ]
        self.dev_lessons = [
            one.task.lessons(self.reader, examples, head)
            for one, examples, head in zip(assignments, self.dev, self.heads, strict=True)
        ]  # here, so that a label that training has not is told before hours of it
        self.lessons: list[Lesson] = [lesson for lessons in by_task for lesson in lessons]
        self.firsts = [0, *np.cumsum([len(lessons) for lessons in by_task])[:-1].tolist()]
        self.metric = assignments[0].task.metric if len(assignments) == 1 else "score"
        files = {one.name: [[sha256(Path(f)) for f in part] for part in (one.train, one.dev)] for one in assignments}
        told = dataclasses.replace(settings, tensorboard=None)
        self.lineage: dict[str, object] = {
            "base": name_of(base),
            "base_sha256": fingerprint(base),
            "tasks": [
                {"name": head.name, "task": head.task, "train": len(train), "dev": len(dev), "sha256": files[one.name]}
                for one, head, train, dev in zip(assignments, self.heads, self.train, self.dev, strict=True)
            ],
            "class_weights": class_weights,
            "training": plain(told),
            "versions": {name: metadata.version(name) for name in ("edgebert", "torch", "transformers")},
        }
        whole = [self.lineage, reading_of(base), processes]
        self.key = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def described(self) -> str:
        """In words, for the screen."""
        parts = [
            f"{head.name}: {len(examples)} examples" + (f", {len(head.labels)} labels" if head.labels else "")
            for head, examples in zip(self.heads, self.train, strict=True)
        ]
        return "; ".join(parts)

    def model(self) -> TaskModel:
        """The base with new heads."""
        torch.manual_seed(self.settings.seed)
        encoder = load_encoder(dataclasses.replace(self.base, manifest=self.manifest(())), fused_attention=True)
        encoder.heads = nn.ModuleList(head_over(self.base, head) for head in self.heads)
        if self.settings.freeze_embeddings:
            encoder.backbone.get_input_embeddings().weight.requires_grad_(False)
        model = TaskModel(encoder, [one.task for one in self.assignments], self.heads)
        if self.class_weights:
            parts = np.split(np.arange(len(self.lessons)), self.firsts[1:])
            model.weights = [
                balanced([self.lessons[row] for row in rows], head)
                for rows, head in zip(parts, self.heads, strict=True)
            ]
        return model

    def manifest(self, heads: Sequence[Head]) -> Manifest:
        """The base's facts with those heads, without its files."""
        task: Any = "embedding" if not heads else heads[0].task if len(heads) == 1 else "multi"
        return dataclasses.replace(
            self.base.manifest, task=task, heads=tuple(heads), quality=(), lineage={}, golden=None, files={},
            artifacts={}, target=None,
        )  # fmt: skip

    def measure(self, model: TaskModel) -> Any:
        """The mean over the tasks of each one's metric on its dev examples."""

        def score(*, int8: bool = False) -> float:
            found = [
                one.task.scores(predictor, examples)[one.task.metric_of(head)]
                for one, head, examples, predictor in zip(
                    self.assignments, self.heads, self.dev, self._predictors(model, self.heads), strict=True
                )
            ]
            return float(np.mean(found))

        return score

    def calibrated(self, model: TaskModel) -> list[Head]:
        """The heads with the temperature that fits the dev examples best."""
        found = []
        for one, head, lessons, predictor in zip(
            self.assignments, self.heads, self.dev_lessons, self._predictors(model, self.heads), strict=True
        ):
            logits = [answers[0] for answers in predictor.logits([lesson.row for lesson in lessons])]
            found.append(dataclasses.replace(head, temperature=fit_temperature(one.task, head, lessons, logits)))
        return found

    def scores(self, model: TaskModel, heads: Sequence[Head]) -> tuple[Quality, ...]:
        """All metrics on the dev examples, as the manifest tells them."""
        found = []
        for one, head, examples, predictor in zip(
            self.assignments, heads, self.dev, self._predictors(model, heads), strict=True
        ):
            data = " and ".join(Path(path).name for path in one.dev)
            prefix = f"{head.name}_" if head.folder else ""
            found += [
                Quality(f"{prefix}{metric}", round(value, 6), f"{len(examples)} examples of {data}")
                for metric, value in one.task.scores(predictor, examples).items()
            ]
        return tuple(found)

    def _head(self, one: Assignment, examples: Sequence[Example]) -> Head:
        head = one.task.head(examples)
        return head if len(self.assignments) == 1 else renamed(head, one.name, f"heads/{one.name}")

    def _predictors(self, model: TaskModel, heads: Sequence[Head]) -> list[Predictor]:
        """The runtime object of each head over the model as it is."""
        model.encoder.eval()
        made = []
        for number, (one, head) in enumerate(zip(self.assignments, heads, strict=True)):
            facts = self.manifest((dataclasses.replace(head, folder=""),))
            engine = TorchEngine.over(model.encoder, head=number)
            made.append(
                one.task.runtime(dataclasses.replace(self.base, manifest=facts), engine, tokenizer=self.tokenizer)
            )
        return made


def balanced(lessons: Sequence[Lesson], head: Head) -> Tensor | None:
    """For each label the mean count over its own, at most 100; where several may hold, absent to present.

    None for numbers and spans. Source: King and Zeng 2001, "Logistic Regression in Rare Events Data".
    """
    if not head.labels:
        return None
    if head.multi_label:
        held = np.stack([lesson.target for lesson in lessons]).sum(axis=0)
        return torch.from_numpy(np.clip((len(lessons) - held) / np.maximum(held, 1), 0.01, 100).astype(np.float32))
    targets = np.concatenate([np.atleast_1d(lesson.target) for lesson in lessons])
    counts = np.bincount(targets[targets >= 0], minlength=len(head.labels))
    weights = counts.sum() / (len(head.labels) * np.maximum(counts, 1))
    return torch.from_numpy(np.minimum(weights, 100).astype(np.float32))
