"""What a review thinks, the whole way: from labelled reviews to a small int8 model that runs without torch.

    pip install 'edgebert[workshop]'
    python examples/sentiment.py

A teacher is fine-tuned on labelled reviews. A student of half its depth then learns from it on reviews without labels,
of which there are always more, and is rounded to int8, which must keep 99 % of its accuracy. What exists is not made
again: a second run, and the device that gets the folder `bundle`, need no workshop and no torch. Reviews are short, so
the student reads 64 tokens; give it more `max_length` where yours are longer.

Your own data: put your files of the same names into the work folder before the first run; they are used as they are.
`train.jsonl` and `dev.jsonl` have a text and a label in each line, `unlabelled.jsonl` has a text.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import edgebert

if TYPE_CHECKING:
    from edgebert.tasks.results import Classification

WORDS = {
    "thing": ("film", "book", "play", "song", "game", "series"),
    "part": ("story", "ending", "music", "cast", "opening", "title"),
    "good": ("wonderful", "moving", "clever", "funny", "brilliant", "charming"),
    "bad": ("dull", "clumsy", "awful", "boring", "annoying", "predictable"),
    "day": ("monday", "tuesday", "friday", "sunday"),
    "who": ("sister", "brother", "friend", "neighbour", "teacher"),
}
TEMPLATES = {
    "positive": ("The {thing} is {good} and the {part} is {good}.", "What a {good} {thing}, and such a {good} {part}!"),
    "negative": ("The {thing} is {bad} and the {part} is {bad}.", "What a {bad} {thing}, and such a {bad} {part}!"),
    "neutral": ("My {who} has the {thing} since {day}.", "On {day} my {who} and I discussed the {part} of a {thing}."),
}
NEW = ("What a charming play, and the music is brilliant!", "The book is boring.", "The song is moving but dull.")


def main(arguments: list[str] | None = None) -> float:
    """The accuracy of the int8 model on the dev file."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", default="sentence-transformers/all-MiniLM-L6-v2", help="any BERT: folder or Hub id")
    options.add_argument("--work", type=Path, default=Path(".examples/sentiment"), help="folder for all that is made")
    options.add_argument("--layers", type=int, default=3, help="of the student")
    options.add_argument("--epochs", type=float, default=3)
    options.add_argument("--learning-rate", type=float, default=1e-4)
    given = options.parse_args(arguments)
    write_data(given.work)
    bundle = given.work / "bundle"
    if bundle.exists():
        print(f"{bundle} was made before; remove the folders in {given.work} to make it anew")
    else:
        make(given.base, given.work, given.layers, given.epochs, given.learning_rate)
    with edgebert.load(bundle, task="classify") as model:
        for text in NEW:
            print(f"\n{text}\n  the label     {shown([model.classify(text)])}")
            print(f"  the best two  {shown(model.classify_all(text, top_k=2))}")
            print(f"  10 % or more  {shown(model.classify_all(text, threshold=0.1))}")
        dev = [json.loads(line) for line in (given.work / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
        found = model.classify([row["text"] for row in dev])
    accuracy = sum(one.label == row["label"] for one, row in zip(found, dev, strict=True)) / len(dev)
    print(f"\naccuracy on {len(dev)} reviews of dev.jsonl: {accuracy:.3f}")
    return accuracy


def shown(labels: list[Classification]) -> str:
    """The labels and their probabilities."""
    return "  ".join(f"{one.label} {one.score:.2f}" for one in labels)


def make(base: str, work: Path, layers: int, epochs: float, learning_rate: float) -> None:
    """The teacher, its student, and the student's int8 files, each in a folder of `work`."""
    from edgebert.distill.apprenticeship import apprenticeships
    from edgebert.distill.finetuning import Assignment, finetune
    from edgebert.distill.recipe import Recipe, Student, TaskStage, Training
    from edgebert.distill.task_stage import distill_task
    from edgebert.progress import TerminalProgress
    from edgebert.quantize.recipe import find_recipe
    from edgebert.quantize.stage import Options, quantize
    from edgebert.quantize.task_gate import TaskGate
    from edgebert.tasks import task_named
    from edgebert.texts import read_texts

    train, dev, unlabelled = (str(work / f"{name}.jsonl") for name in ("train", "dev", "unlabelled"))
    teacher, student = work / "teacher", work / "student"
    training = Training(epochs=epochs, batch_size=16, learning_rate=learning_rate)
    with TerminalProgress() as progress:
        if not teacher.exists():
            lesson = Assignment(task_named("classify"), (train,), (dev,))
            finetune(edgebert.Bundle.from_pretrained(base), [lesson], teacher, training, progress=progress)
        if not student.exists():
            passes = epochs / 2  # over twice the text
            shape, general = Student(layers=layers, max_length=64), replace(training, epochs=passes)
            recipe = Recipe(shape, training=general, task=TaskStage(passes, learning_rate))
            taught = apprenticeships(edgebert.Bundle.open(teacher), [unlabelled], [dev])
            distill_task(taught, student, recipe, progress=progress)
        gate = Options(recipe=find_recipe("outliers-8"), task=TaskGate("task", (dev,), min_retention=0.99))
        quantize(edgebert.Bundle.open(student), read_texts([unlabelled]), work / "bundle", gate, progress=progress)


def write_data(work: Path) -> None:
    """Made-up reviews in the files that are missing."""
    work.mkdir(parents=True, exist_ok=True)
    rows = reviews(1500)
    unlabelled = [{"text": row["text"]} for row in rows[600:]]
    for name, part in (("train", rows[:450]), ("dev", rows[450:600]), ("unlabelled", unlabelled)):
        path = work / f"{name}.jsonl"
        if not path.exists():
            path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")


def reviews(count: int, seed: int = 0) -> list[dict[str, str]]:
    """So many different ones, each with its label."""
    rng, found = random.Random(seed), dict[str, str]()
    while len(found) < count:
        label = rng.choice(list(TEMPLATES))
        text = re.sub(r"{(\w+)}", lambda slot: rng.choice(WORDS[slot[1]]), rng.choice(TEMPLATES[label]))
        found[text] = label
    return [{"text": text, "label": label} for text, label in found.items()]


if __name__ == "__main__":
    main()
