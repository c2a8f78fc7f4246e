"""The training loop: transformers' Trainer, with our batches, our figures and checkpoints that can be trusted.

Being the Trainer, it runs under `torchrun` on several processes or GPUs as it stands.
"""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from edgebert.distill.batches import EpochSampler, Rows
from edgebert.distill.early_stop import agreed, any_of, keep_best, prune_best, take_best
from edgebert.distill.fake_quant import QatSwitch
from edgebert.distill.history import History, Point
from edgebert.distill.recipe import Training
from edgebert.distill.tensorboard import Board
from edgebert.errors import EdgeBertError
from edgebert.progress import Progress

_COMPLETE = "complete"
_LOST = 0.01  # of a score: more is told


class Measure(Protocol):
    """See `TrainingRun`."""

    def __call__(self, *, int8: bool = False) -> float: ...


class DivergedError(EdgeBertError):
    """The loss is no number any more."""


@dataclass(frozen=True)
class TrainingRun:
    """What `train` needs: the model, its data, the recipe's part, a folder for checkpoints and a measure of success.

    measure: the score of the float student on held-out data, or with `int8=True` of the student imitating int8; more is
    better. metric: what it is called.
    steps: how many are taken, see `count_steps`. processes: how many share them.
    began: when the work began, by the monotonic clock, for the seconds it took in all. board: a log.
    """

    model: Any
    rows: Rows
    sampler: EpochSampler
    collator: Callable[[Sequence[int]], dict[str, Any]]
    settings: Training
    precision: str
    folder: Path
    measure: Measure
    progress: Progress
    steps: int
    processes: int = 1
    began: float = field(default_factory=time.monotonic)
    board: Board | None = None
    metric: str = "agreement"


@dataclass(frozen=True)
class Trained:
    """seconds: since `TrainingRun.began`, and those that led to the checkpoint. stopped: the step of an early stop."""

    seconds: float
    history: History
    stopped: int | None = None


def train(run: TrainingRun) -> Trained:
    """Trains `run.model` in place, from the newest complete checkpoint in `run.folder` if there is one.

    Raises: DivergedError when the loss becomes NaN or infinite; KeyboardInterrupt, after a last checkpoint, when the
    user interrupts.
    """
    if not run.steps:
        return Trained(time.monotonic() - run.began, History())
    figures = Figures(run)
    trainer = DistillationTrainer(
        model=run.model,
        args=_arguments(run),
        train_dataset=run.rows,
        data_collator=run.collator,
        callbacks=[figures],
        sampler=run.sampler,
        figures=figures,
    )
    trainer.remove_callback(PrinterCallback)
    if run.model.fake_quant is not None:
        trainer.add_callback(QatSwitch(run.model.fake_quant))
    checkpoint = newest_checkpoint(run.folder)
    if checkpoint is not None:
        figures.seconds_before = float((checkpoint / _COMPLETE).read_text(encoding="ascii") or 0)
        figures.history = History.read(checkpoint)
    if checkpoint is not None and agreed(figures.is_enough):
        figures.stopped = _step(checkpoint)  # it stopped there before, and was ended before its student was written
    else:
        with interrupts(figures):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if any_of(figures.interrupted):
        raise KeyboardInterrupt
    if run.settings.patience:
        take_best(run.folder, run.model, figures.history)
    elif not run.settings.qat and (told := _better_before(figures.history)):  # patience and qat exclude each other
        run.progress.say(told)
    return Trained(figures.seconds, figures.history, figures.stopped)


def _better_before(history: History) -> str:
    """That a measurement in the course of training was better than the last one, "" where none was by much."""
    best, last = history.best, history.last
    if best is None or last is None or best.score is None or last.score is None or best.score - last.score <= _LOST:
        return ""
    return (
        f"the {history.metric} was {best.score:.4f} at step {best.step} and is {last.score:.4f} at the end; with "
        "--patience 8 the best model is kept instead of the last one"
    )


def count_steps(settings: Training, rows: int, processes: int) -> int:
    """How many steps training takes: none for no epoch, else at least one."""
    return max(int(settings.epochs > 0), round(settings.epochs * steps_per_epoch(settings, rows, processes)))


def steps_per_epoch(settings: Training, rows: int, processes: int) -> int:
    """How many steps one pass over the text takes."""
    return math.ceil(math.ceil(math.ceil(rows / settings.batch_size) / processes) / settings.accumulate)


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the highest step that was written to its end; half-written ones are removed."""
    whole = []
    for path in sorted(folder.glob("checkpoint-*"), key=_step):
        if (path / _COMPLETE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return whole[-1] if whole else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def best_precision(wanted: str) -> str:
    """ "bf16" where the processor or GPU computes it in hardware, else "fp32"; a plain wish is granted."""
    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if has() else "fp32"


class Figures(TrainerCallback):
    """Keeps count for the screen, marks complete checkpoints, and stops on NaN or on an interrupt."""

    def __init__(self, run: TrainingRun) -> None:
        self.run, self.steps = run, run.steps
        self.sentences = run.settings.batch_size * run.settings.accumulate * run.processes
        self.history, self.score = History(metric=run.metric), ""
        self.interrupted = False
        self.stopped: int | None = None
        self.begun = time.monotonic()
        self.first_step = 0
        self.seconds_before = 0.0
        self.measure_every, self.note_every = max(1, run.steps // 8), max(1, run.steps // 200)

    @property
    def seconds(self) -> float:
        """What the work took so far, earlier runs that led to the checkpoint included."""
        return self.seconds_before + time.monotonic() - self.run.began

    @property
    def is_enough(self) -> bool:
        """Whether there was no gain for as long as is waited for."""
        patience = self.run.settings.patience
        return 0 < patience <= self.history.without_gain

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Chooses the epoch's order, which what wraps the sampler on several processes does not do on resuming."""
        steps = steps_per_epoch(self.run.settings, len(self.run.sampler), self.run.processes)
        self.run.sampler.set_epoch(state.global_step // steps)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Starts the bar where the checkpoint left it."""
        self.first_step, self.begun = state.global_step, time.monotonic()
        self.run.progress.start("training", self.steps)
        self.run.progress.advance(state.global_step)

    def see(self, loss: Tensor) -> None:
        """Takes note of a step's loss.

        Raises: DivergedError when it is NaN or infinite.
        """
        value = float(loss.detach())
        if not math.isfinite(value):
            kept = newest_checkpoint(self.run.folder)
            raise self._diverged(f"the loss became {value}", kept)
        before = self.history.loss
        self.history.loss = value if before is None else 0.95 * before + 0.05 * value

    def _diverged(self, what: str, kept: Path | None) -> DivergedError:
        return DivergedError(
            f"{what}: try a lower learning rate than {self.run.settings.learning_rate} or precision fp32; the last "
            f"good checkpoint is {kept or 'none, it was too early'}"
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Shows the figures; asks for a checkpoint at the end and on an interrupt."""
        done = state.global_step - self.first_step
        last = state.global_step == self.steps
        due = last or state.global_step % self.measure_every == 0
        if due or state.global_step % self.note_every == 0:
            self._note(state, measured=due, **_)
        if due and self.run.settings.patience and agreed(self.is_enough):
            self.stopped, control.should_training_stop, control.should_save = state.global_step, True, True
        speed = done * self.sentences / max(time.monotonic() - self.begun, 1e-9)
        loss = self.history.loss or 0.0
        self.run.progress.advance(1, note=f"{speed:.0f} sentences/s, loss {loss:.4f} {self.score}")
        ends = any_of(self.interrupted)
        control.should_training_stop |= ends
        control.should_save |= ends or last

    def _note(self, state: TrainerState, *, measured: bool, **more: Any) -> None:
        """Puts a point into the history and the log; the first process measures, for all."""
        if not state.is_world_process_zero or self.history.loss is None:
            return
        score = int8 = None
        if measured:
            score = self.run.measure()
            self.score = f"{self.run.metric} {score:.4f}"
            fake_quant = self.run.model.fake_quant
            if fake_quant is not None and fake_quant.quantizes:
                int8 = self.run.measure(int8=True)
                self.score += f", imitating int8 {int8:.4f}"
        point = Point(state.global_step, self.history.loss, score, int8)
        self.history.points.append(point)
        if measured and self.run.settings.patience and self.history.best == point:
            keep_best(self.run.folder, self.run.model, point)
        if self.run.board is not None:
            rates = more["lr_scheduler"].get_last_lr() if more.get("lr_scheduler") else []
            self.run.board.write(point, learning_rate=max(rates, default=None))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Marks the checkpoint that was just written as complete.

        Raises: DivergedError, and removes it, when a weight is not finite: a gradient may be so while its loss is.
        """
        if not state.is_world_process_zero:
            return
        written = self.run.folder / f"checkpoint-{state.global_step}"
        for name, weight in self.run.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                shutil.rmtree(written, ignore_errors=True)
                raise self._diverged(f"the weight {name} became NaN or infinite", newest_checkpoint(self.run.folder))
        self.history.write(written)
        (written / _COMPLETE).write_text(f"{self.seconds:.1f}", encoding="ascii")
        prune_best(self.run.folder, self.history)


class DistillationTrainer(Trainer):
    """Trainer with a given sampler and the model's own loss."""

    def __init__(self, *, sampler: EpochSampler, figures: Figures, **trainer_arguments: Any) -> None:
        self.given_sampler, self.figures = sampler, figures
        super().__init__(**trainer_arguments)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any]:
        return self.given_sampler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The weighted sum of the objectives."""
        losses = model(**inputs)
        self.figures.see(losses["loss"])
        return (losses["loss"], losses) if return_outputs else losses["loss"]


class interrupts:
    """While open, the first Ctrl-C asks for a checkpoint and a stop; a second one stops at once."""

    def __init__(self, figures: Figures) -> None:
        self.figures = figures

    def __enter__(self) -> None:
        self.main = threading.current_thread() is threading.main_thread()
        if self.main:
            self.before = signal.signal(signal.SIGINT, self._ask)

    def __exit__(self, *_: object) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, number: int, frame: types.FrameType | None) -> None:
        if self.figures.interrupted:
            raise KeyboardInterrupt
        self.figures.interrupted = True
        self.figures.run.progress.say("interrupted: writing a checkpoint (Ctrl-C again stops at once)")


def _arguments(run: TrainingRun) -> TrainingArguments:
    settings, steps = run.settings, run.steps
    return TrainingArguments(
        output_dir=str(run.folder),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        bf16=run.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        save_strategy="steps",
        save_steps=max(10, steps // 10),
        save_total_limit=2,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=run.model.leaves_unused,
        label_names=[],
    )
