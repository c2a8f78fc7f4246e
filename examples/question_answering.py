"""Answers cut out of a text of any length, and a word where it has none: from labelled questions to an int8 model.

    pip install 'edgebert[workshop]'
    python examples/question_answering.py

A context longer than the model reads at once is read in windows that overlap. A model that
learnt questions without an answer says where there is none. What exists is not made again: a second run needs no torch.

Your own data: put your `train.jsonl` and `dev.jsonl` into the work folder before the first run; they are used as they
are. Each line has a question, a context and answers: a list of text and answer_start, which is empty for none.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgebert

if TYPE_CHECKING:
    from edgebert.tasks.results import Answer

FACTS = {  # a question, what a text says of it, and the answers there may be
    "Where is the museum?": ("The museum is in {}.", ("Castle Street", "Mill Lane", "Harbour Square")),
    "When does it open?": ("It opens {}.", ("at nine", "at noon", "after lunch", "early in the morning")),
    "How much is a ticket?": ("A ticket costs {}.", ("ten euros", "nothing", "less than a coffee")),
    "Who built the house?": ("The house was built by {}.", ("Ada Stone", "two brothers", "a rich merchant")),
}
OTHERS = (
    "Many visitors like the paintings.",
    "The stairs are steep and dark.",
    "Dogs have to wait outside.",
    "On Sundays a band plays loud music.",
    "Children draw ships and horses.",
)


def main(arguments: list[str] | None = None) -> dict[str, Answer]:
    """The answers to all questions from one long context, which has none to the last."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", default="sentence-transformers/all-MiniLM-L6-v2", help="any BERT: folder or Hub id")
    options.add_argument("--work", type=Path, default=Path(".examples/answers"), help="folder for all that is made")
    options.add_argument("--epochs", type=float, default=3)
    options.add_argument("--learning-rate", type=float, default=1e-4)
    given = options.parse_args(arguments)
    write_data(given.work)
    bundle = given.work / "bundle"
    if bundle.exists():
        print(f"{bundle} was made before; remove the folders in {given.work} to make it anew")
    else:
        make(given.base, given.work, given.epochs, given.learning_rate)
    context = long_context()
    with edgebert.load(bundle, task="answer") as model:
        windows = len(model.reader.contexts("Where?", context))
        print(f"a context of {len(context)} characters, read in {windows} windows of {model.max_length} tokens")
        found = {question: model.answer(question, context) for question in FACTS}
    for question, answer in found.items():
        place = f"{answer.start}-{answer.end}" if answer.text else "no answer"
        print(f"{question:22} {answer.text or '-':22} {place:10} {answer.score:.2f}")
    return found


def make(base: str, work: Path, epochs: float, learning_rate: float) -> None:
    """The model, then its int8 files, which must keep 98 % of its F1 on the dev file."""
    from edgebert.distill.finetuning import Assignment, finetune
    from edgebert.distill.recipe import Training
    from edgebert.progress import TerminalProgress
    from edgebert.quantize.recipe import find_recipe
    from edgebert.quantize.stage import Options, quantize
    from edgebert.quantize.task_gate import TaskGate
    from edgebert.tasks import task_named
    from edgebert.tasks.asked import calibration_items

    train, dev, tuned = str(work / "train.jsonl"), str(work / "dev.jsonl"), work / "tuned"
    training = Training(epochs=epochs, batch_size=16, learning_rate=learning_rate)
    with TerminalProgress() as progress:
        if not tuned.exists():
            lesson = Assignment(task_named("answer"), (train,), (dev,))
            finetune(edgebert.Bundle.from_pretrained(base), [lesson], tuned, training, max_length=64, progress=progress)
        model = edgebert.Bundle.open(tuned)
        gate = Options(recipe=find_recipe("outliers-8"), task=TaskGate("task", (dev,), min_retention=0.98))
        quantize(model, calibration_items(model, [train]), work / "bundle", gate, progress=progress)


def write_data(work: Path) -> None:
    """Made-up questions in the files that are missing."""
    work.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    rows = list(dict.fromkeys(json.dumps(asked(rng)) for _ in range(600)))
    for name, lines in (("train", rows[50:500]), ("dev", rows[:50])):
        path = work / f"{name}.jsonl"
        if not path.exists():
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def asked(rng: random.Random) -> dict[str, Any]:
    """A question about a context that has an answer to it, or to others only."""
    told = {question: rng.choice(FACTS[question][1]) for question in rng.sample(list(FACTS), 2)}
    sentences = [FACTS[question][0].format(answer) for question, answer in told.items()]
    sentences += rng.choices(OTHERS, k=rng.choice((0, 1, 3, 9)))
    rng.shuffle(sentences)
    question, context = rng.choice(list(FACTS)), " ".join(sentences)
    answer = told.get(question)
    found = [{"text": answer, "answer_start": context.index(answer)}] if answer else []
    return {"question": question, "context": context, "answers": found}


def long_context() -> str:
    """All facts but the last, far from each other."""
    far = " ".join(OTHERS * 4)
    facts = [sentence.format(answers[0]) for sentence, answers in list(FACTS.values())[:-1]]
    return " ".join(f"{far} {fact}" for fact in facts)


if __name__ == "__main__":
    main()
