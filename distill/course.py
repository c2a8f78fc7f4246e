"""What training for tasks has in common, by labels and by a teacher: heads, examples, how well it is done, the run."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from edgebert.bundle import Bundle, seal
from edgebert.cache import cache_folder
from edgebert.card import model_card
from edgebert.distill.batches import Rows
from edgebert.distill.encoder import SentenceEncoder, TorchEngine, load_tokenizer
from edgebert.distill.folder import write_model
from edgebert.distill.history import write_beside
from edgebert.distill.lessons import LessonCollator, TaskSampler
from edgebert.distill.lock import sole_user
from edgebert.distill.recipe import Training
from edgebert.distill.task_model import TaskModel
from edgebert.distill.temperature import fit_temperature
from edgebert.distill.tensorboard import Board
from edgebert.distill.training import Measure, Trained, TrainingRun, best_precision, count_steps, train
from edgebert.errors import DataError
from edgebert.files import disk_errors, new_folder
from edgebert.manifest import Head, Manifest, Quality
from edgebert.progress import Progress
from edgebert.tasks.labels import correlations
from edgebert.tasks.predictor import STRIDE, Predictor
from edgebert.tasks.reading import TaskReader
from edgebert.tasks.task import Example, Lesson, Task
from edgebert.tokenizer import Tokenizer


def reader_of(model: Bundle) -> TaskReader:
    """How the model reads for tasks."""
    return _reader(model, load_tokenizer(model))


def _reader(model: Bundle, tokenizer: Tokenizer) -> TaskReader:
    return TaskReader(tokenizer, max_length=model.manifest.max_length, stride=STRIDE)


def require_files(paths: Iterable[str | Path]) -> None:
    """Raises DataError for what is no file that can be read more than once, as the examples of a task are."""
    for path in paths:
        if str(path) == "-" or (Path(path).exists() and not Path(path).is_file()):
            what = "standard input (-)" if str(path) == "-" else f"{path}, which is no plain file,"
            raise DataError(f"{what} cannot be read twice, as a task's examples are: write it to a file first")
        if not Path(path).exists():
            raise DataError(f"no such file: {path}")


class Course:
    """The tasks of one run, with a head, lessons, and examples to measure by for each.

    base: whose tokenizer and facts the model has. lessons, dev, data: a list for each task; dev may be empty, data are
    the names of its files.
    """

    def __init__(
        self, base: Bundle, tasks: Sequence[Task], heads: Sequence[Head], lessons: Sequence[Sequence[Lesson]],
        dev: Sequence[Sequence[Example]], data: Sequence[Sequence[str]],
    ) -> None:  # fmt: skip
        self.base, self.tasks, self.heads, self.dev, self.data = base, tuple(tasks), tuple(heads), dev, data
        self.lessons = [lesson for some in lessons for lesson in some]
        self.firsts = [0, *np.cumsum([len(some) for some in lessons])[:-1].tolist()]
        self._tokenizer = load_tokenizer(base)
        reader = _reader(base, self._tokenizer)
        self._dev_lessons = [  # here, so that a label that training has not is told before hours of it
            task.lessons(reader, examples, head)
            for task, examples, head in zip(self.tasks, dev, self.heads, strict=True)
        ]
        for task, examples, head in zip(self.tasks, dev, self.heads, strict=True):
            if examples and task.metric_of(head) == "spearman":  # so that numbers all the same are told now, too
                numbers = [float(one.target) for one in examples]
                correlations(numbers, numbers)

    @property
    def metric(self) -> str:
        """What the score is called: that of the only task, or of several."""
        return self.tasks[0].metric_of(self.heads[0]) if len(self.tasks) == 1 else "score"

    def manifest(self, heads: Sequence[Head]) -> Manifest:
        """The base's facts with those heads, without its files."""
        task: Any = "embedding" if not heads else heads[0].task if len(heads) == 1 else "multi"
        return dataclasses.replace(
            self.base.manifest, task=task, heads=tuple(heads), quality=(), lineage={}, golden=None, files={},
            artifacts={}, target=None,
        )  # fmt: skip

    def predictors(self, encoder: SentenceEncoder, heads: Sequence[Head]) -> list[Predictor]:
        """The runtime object of each head over the model as it is."""
        encoder.eval()
        made = []
        for number, (task, head) in enumerate(zip(self.tasks, heads, strict=True)):
            facts = self.manifest((dataclasses.replace(head, folder=""),))
            bundle, engine = dataclasses.replace(self.base, manifest=facts), TorchEngine.over(encoder, head=number)
            made.append(task.runtime(bundle, engine, tokenizer=self._tokenizer))
        return made

    def score(self, encoder: SentenceEncoder) -> float:
        """The mean over the tasks of each one's metric on its dev examples."""
        found = [
            task.scores(predictor, examples)[task.metric_of(head)]
            for task, head, examples, predictor in zip(
                self.tasks, self.heads, self.dev, self.predictors(encoder, self.heads), strict=True
            )
        ]
        return float(np.mean(found))

    def calibrated(self, encoder: SentenceEncoder) -> list[Head]:
        """The heads with the temperature that fits the dev examples best; as they are where there are none."""
        found = []
        for task, head, lessons, predictor in zip(
            self.tasks, self.heads, self._dev_lessons, self.predictors(encoder, self.heads), strict=True
        ):
            if lessons:
                logits = [answers[0] for answers in predictor.logits([lesson.row for lesson in lessons])]
                head = dataclasses.replace(head, temperature=fit_temperature(task, head, lessons, logits))
            found.append(head)
        return found

    def scores(self, encoder: SentenceEncoder, heads: Sequence[Head]) -> tuple[Quality, ...]:
        """All metrics on the dev examples, as the manifest tells them."""
        found = []
        for task, head, examples, files, predictor in zip(
            self.tasks, heads, self.dev, self.data, self.predictors(encoder, heads), strict=True
        ):
            if not examples:
                continue
            data = " and ".join(Path(path).name for path in files)
            prefix = f"{head.name}_" if head.folder else ""
            found += [
                Quality(f"{prefix}{metric}", round(value, 6), f"{len(examples)} examples of {data}")
                for metric, value in task.scores(predictor, examples).items()
            ]
        return tuple(found)

    def learn(
        self, model: TaskModel, settings: Training, folder: Path, measure: Measure, metric: str, progress: Progress,
        state: PartialState, began: float, held: contextlib.ExitStack, collator: LessonCollator | None = None,
    ) -> Trained:  # fmt: skip
        """Trains `model` on the lessons, on from a checkpoint in `folder` where there is one.

        collator: of the lessons, by default with nothing but themselves.
        """
        if not self.lessons:
            raise DataError("there is nothing to train on")
        board = None
        if settings.tensorboard is not None and state.is_main_process:
            board = held.enter_context(contextlib.closing(Board(Path(settings.tensorboard), metric)))
        sampler = TaskSampler(self.lessons, self.firsts, batch_size=settings.batch_size, seed=settings.seed)
        run = TrainingRun(
            model, Rows(np.arange(len(self.lessons))), sampler,
            collator or LessonCollator(self.lessons, self.firsts, pad_token_id=self.base.manifest.pad_token_id),
            settings, best_precision(settings.precision), folder, measure, progress,
            count_steps(settings, len(sampler), state.num_processes), state.num_processes, began, board, metric,
        )  # fmt: skip
        trained = train(run)
        if trained.stopped is not None and (best := trained.history.best) is not None:
            progress.say(f"stopped at step {trained.stopped}: no gain since step {best.step}, whose model is kept")
        return trained

    def write(
        self, encoder: SentenceEncoder, heads: Sequence[Head], quality: Sequence[Quality],
        lineage: dict[str, object], trained: Trained, out: Path, *, seconds_before: float = 0.0,
    ) -> None:  # fmt: skip
        """The bundle `out`, and the figures of its training beside it. seconds_before: of an earlier stage."""
        seconds = round(seconds_before + trained.seconds, 1)
        facts = {"final_loss": trained.history.loss, "training_seconds": seconds}
        manifest = dataclasses.replace(self.manifest(heads), quality=tuple(quality), lineage=lineage | facts)
        with new_folder(out) as partial:
            manifest = write_model(partial, encoder.cpu(), self.base, manifest)
            (partial / "README.md").write_text(model_card(manifest, out.name, partial), encoding="utf-8")
            seal(partial, manifest)
        write_beside(out, trained.history, title=f"{out.name}: training")


@contextlib.contextmanager
def run_folder(key: str, work: Path | None, state: PartialState) -> Iterator[Path]:
    """The folder of the run called `key`, held alone; it goes when the block ends well.

    work: the folder that it lies in, by default the cache's.
    Raises: EdgeBertError when another process trains the same.
    """
    folder = (work or cache_folder("runs")) / key
    with contextlib.ExitStack() as held:
        if state.is_main_process:
            with disk_errors(folder):
                held.enter_context(sole_user(folder))
        state.wait_for_everyone()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        state.wait_for_everyone()
        if state.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
