"""A recipe: all that decides what a student becomes. TOML in, frozen dataclasses out; the CLI sets the same fields."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgebert.distill.registry import Objectives
from edgebert.distill.vocabulary import Characters
from edgebert.errors import RecipeError
from edgebert.schema import parse, plain, read_toml

_LARGEST_SEED = 2**32 - 1  # what numpy's generators take


@dataclass(frozen=True)
class Student:
    """The student's shape and start. None means: as the start has it.

    start: "teacher" copies teacher layers, "fresh" draws weights at random, anything else is a folder or Hub id.
    take_layers: which layers of the start to keep, counted from 0; by default `layers` of them, evenly spread.
    width, feed_forward: where layers are copied, at most theirs; less is made of them by `edgebert.distill.narrow`.
    vocabulary, coverage: keep at most so many tokens, or so many that this share of the text's tokens is kept; see
    `edgebert.distill.vocabulary`.
    characters: "used" gives up the single characters that the text does not have, see the same place.
    table_codes: word vectors made of codes, each of one byte for so many dimensions; see `edgebert.distill.codes`.
    linear_bits: linear layers that learn in so many bits; see `edgebert.distill.low_bits`.
    projection: what becomes of the linear map into the teacher's space where the dimensions differ: "keep" makes it
    part of the student, whose vectors then lie in the teacher's space; "drop" uses it in training only. "rotate" keeps
    it, too, and starts it as the nearest rotation, also between spaces of the same dimension: the student's vectors get
    near the teacher's without a change of their own cosines.
    """

    start: str = "teacher"
    layers: int | None = None
    take_layers: tuple[int, ...] | None = None
    width: int | None = None
    heads: int | None = None
    feed_forward: int | None = None
    activation: Literal["gelu", "relu", "silu", "gelu_new"] | None = None
    max_length: int | None = None
    vocabulary: int | None = None
    coverage: float | None = None
    characters: Characters = "all"
    table_codes: int | None = None
    linear_bits: Literal[4] | None = None
    projection: Literal["keep", "drop", "rotate"] = "keep"


@dataclass(frozen=True)
class Training:
    """How long and how the student is trained.

    epochs: passes over the text; 0 leaves the student as it is built, with its map into the teacher's space.
    learning_rate: peak, after `warmup` (a share of all steps), falling to 0 along a cosine. batch_size: sentences per
    process and step. precision: "auto" is bf16 where the processor computes it, else fp32. freeze_embeddings: keep the
    word vectors as they are; None means: when they come from the teacher. qat: the share of the steps, at the end, in
    which the student computes as int8 will (see `edgebert.distill.fake_quant`); 0 is plain training. accumulate:
    batches whose gradients are added up for one step. patience: stop after so many measurements without a gain in
    held-out agreement and keep the best student; 0 is never. tensorboard: a folder for its log.
    """

    epochs: float = 3.0
    batch_size: int = 64
    learning_rate: float = 3e-4
    warmup: float = 0.05
    weight_decay: float = 0.01
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    freeze_embeddings: bool | None = None
    qat: float = 0.0
    accumulate: int = 1
    patience: int = 0
    tensorboard: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Data:
    """max_sentences: a random sample of that many, by the seed. held_out: sentences kept back to measure agreement.

    min_ and max_: texts of other lengths are left out; tokens are the teacher's. near_duplicates: what becomes of texts
    that are nearly an earlier one; "normalised" leaves out those that differ in case, punctuation and blanks alone,
    "minhash" those that share about nine in ten runs of five characters, too. exclude: files whose texts, and texts
    that share eight words in a row with them, are left out: what the student will be evaluated with.
    pair_columns: of anchor and positive, in the files of pairs. mix: at most so many texts of each source, drawn by the
    seed, the other sources left out; mix_column: where the source stands. hardest: train on this share of the texts,
    those on which the student is farthest from the teacher before training (`edgebert.distill.hardest`); None is all.
    """

    max_sentences: int | None = None
    held_out: int = 1000
    pair_columns: tuple[str, ...] = ("anchor", "positive")
    min_characters: int | None = None
    max_characters: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None
    near_duplicates: Literal["keep", "normalised", "minhash"] = "keep"
    exclude: tuple[str, ...] = ()
    mix: dict[str, int] = field(default_factory=dict)
    mix_column: str = "source"
    hardest: float | None = None


@dataclass(frozen=True)
class Teacher:
    """Another teacher beside the first: a bundle, a Hugging Face folder or a Hub id.

    weight: of its vectors and similarities in the teachers' average, in which the first teacher's is 1.
    """

    model: str
    weight: float = 1.0
    revision: str | None = None


@dataclass(frozen=True)
class TaskStage:
    """How a student of a task's teacher learns the task itself, after the text; see `edgebert.distill.task_stage`.

    epochs, learning_rate: of that stage; what else there is to say of training is said in `Training`. logits, hidden,
    labels: weights of the teacher's logits, of its last hidden states, and of the labels of the text where it has any;
    hidden None: 1 where the states can be compared and all heads have one teacher. temperature: softens both models'
    distributions.
    """

    epochs: float = 3.0
    learning_rate: float = 1e-4
    logits: float = 1.0
    hidden: float | None = None
    labels: float = 0.0
    temperature: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """Student, objectives, training, data, further teachers, and how a task is learnt.

    Raises: RecipeError for values out of range.
    """

    student: Student = field(default_factory=Student)
    objectives: Objectives = field(default_factory=Objectives)
    training: Training = field(default_factory=Training)
    data: Data = field(default_factory=Data)
    teachers: tuple[Teacher, ...] = ()
    task: TaskStage = field(default_factory=TaskStage)

    def __post_init__(self) -> None:
        t, s, d = self.training, self.student, self.data
        _at_least("training.epochs", t.epochs, 0)
        _at_least("training.learning_rate", t.learning_rate, 0)
        _at_least("training.batch_size", t.batch_size, 2)
        _at_least("training.weight_decay", t.weight_decay, 0)
        _at_least("training.accumulate", t.accumulate, 1)
        _at_least("training.patience", t.patience, 0)
        if t.patience and t.qat:
            raise RecipeError(
                f"training.patience is {t.patience} and training.qat {t.qat}: the best student may come from before "
                "the part that imitates int8, so use one of them"
            )
        _at_least("data.held_out", d.held_out, 2)
        for unit in ("characters", "tokens"):
            low, high = getattr(d, f"min_{unit}"), getattr(d, f"max_{unit}")
            for name, value in ((f"data.min_{unit}", low), (f"data.max_{unit}", high)):
                if value is not None:
                    _at_least(name, value, 1)
            if low is not None and high is not None and low > high:
                raise RecipeError(f"data.min_{unit} is {low} and data.max_{unit} {high}: no text is left")
        if d.hardest is not None and not 0 < d.hardest <= 1:
            raise RecipeError(f"data.hardest is {d.hardest}; it must be above 0 and at most 1")
        for source, most in d.mix.items():
            _at_least(f"data.mix.{source}", most, 0)
        if d.max_sentences is not None:
            _at_least("data.max_sentences", d.max_sentences, 4)
        if s.table_codes is not None and t.freeze_embeddings is False:
            raise RecipeError(
                f"student.table_codes is {s.table_codes}, and training.freeze_embeddings false: word vectors that are "
                "trained would leave their codes, so leave one of the two out"
            )
        if s.table_codes is not None and s.start == "fresh":
            raise RecipeError(
                f'student.table_codes is {s.table_codes}, and student.start "fresh": random word vectors would stay as '
                "they are; start from a model, or leave the codes out"
            )
        for name, what in (("table_codes", "a table"), ("linear_bits", "layers")):
            if (value := getattr(s, name)) is not None and t.qat:
                raise RecipeError(
                    f"student.{name} is {value}, and training.qat {t.qat}, which imitates {what} of 8 bits: leave one "
                    "of the two out"
                )
        if s.linear_bits is not None and s.projection == "rotate":
            raise RecipeError(
                f'student.linear_bits is {s.linear_bits}, and student.projection "rotate": so few bits change '
                "the cosines that a rotation is to keep, leave one of the two out"
            )
        for name in ("layers", "width", "heads", "feed_forward", "table_codes", "max_length"):
            if (value := getattr(s, name)) is not None:
                _at_least(f"student.{name}", value, {"max_length": 3, "table_codes": 2}.get(name, 1))
        if not 0 <= t.seed <= _LARGEST_SEED:
            raise RecipeError(f"training.seed is {t.seed}; it must be within 0 to {_LARGEST_SEED}")
        if not 0 <= t.warmup < 1:
            raise RecipeError(f"training.warmup is {t.warmup}; it must be at least 0 and below 1")
        if not 0 <= t.qat <= 1:
            raise RecipeError(f"training.qat is {t.qat}; it must be within 0 (off) to 1 (all steps)")
        if s.vocabulary is not None:
            _at_least("student.vocabulary", s.vocabulary, 1)
        if s.coverage is not None and not 0 < s.coverage <= 1:
            raise RecipeError(f"student.coverage is {s.coverage}; it must be above 0 and at most 1")
        if s.vocabulary is not None and s.coverage is not None:
            raise RecipeError(f"student.vocabulary is {s.vocabulary} and student.coverage {s.coverage}: give one")
        for name, value in plain(self.task).items():
            if value is not None:
                _at_least(f"task.{name}", value, 0)
        if not self.task.temperature:
            raise RecipeError(f"task.temperature is {self.task.temperature}; it must be above 0")
        if not (self.task.logits or self.task.labels):
            raise RecipeError("task.logits and task.labels are 0: there is nothing to learn the task from")
        for place, other in enumerate(self.teachers):
            _at_least(f"teachers[{place}].weight", other.weight, 0)
        if len(d.pair_columns) != 2:
            raise RecipeError(
                f"data.pair_columns is {list(d.pair_columns)}; two are wanted, the anchor's and the positive's"
            )
        if s.take_layers == ():
            raise RecipeError("student.take_layers is empty: name at least one layer, or leave it out")
        if s.layers is not None and s.take_layers is not None and s.layers != len(s.take_layers):
            raise RecipeError(f"student.layers is {s.layers} and student.take_layers names {len(s.take_layers)}")


PRESETS: dict[str, Student] = {
    "2-layer": Student(layers=2),
    "3-layer": Student(layers=3),
    "4-layer": Student(layers=4),
    "6-layer": Student(layers=6),
    "minilm-6x384": Student(start="fresh", layers=6, width=384, heads=12, feed_forward=1536),
    "tinybert-4x312": Student(start="fresh", layers=4, width=312, heads=12, feed_forward=1200),
    "wide-3x512": Student(start="fresh", layers=3, width=512, heads=8, feed_forward=2048),
}
DEFAULT_PRESET = "3-layer"


def preset(name: str) -> Student:
    """The student shape called `name`.

    Raises: RecipeError naming the known ones.
    """
    if name not in PRESETS:
        raise RecipeError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    return PRESETS[name]


def read_recipe(path: Path) -> Recipe:
    """The recipe in the TOML file `path`.

    Raises: RecipeError when it is missing, is not TOML, or has an unknown key or a value out of range.
    """
    data = read_toml(path, what="recipe", error=RecipeError)
    return parse(Recipe, data, where=str(path), error=RecipeError)


def override(recipe: Recipe, part: str, **values: object) -> Recipe:
    """`recipe` with those fields of `part` ("student", "training", ...) replaced whose value is not None."""
    given = {name: value for name, value in values.items() if value is not None}
    return dataclasses.replace(recipe, **{part: dataclasses.replace(getattr(recipe, part), **given)})


def _at_least(name: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise RecipeError(f"{name} is {value}; it must be a finite number of at least {least}")
