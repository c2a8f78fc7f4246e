"""What a Chinese review thinks: from labelled reviews to an int8 model that runs without torch.

    pip install 'edgebert[workshop]'
    python examples/sentiment_zh.py

The base reads a hundred languages, so most of its size is its table of word vectors, which stays as it is here. For a
device `edgebert trim` keeps the rows that Chinese text uses, and `examples/sentiment.py` shows how to make a smaller
student. What exists is not made again: a second run needs no workshop and no torch.

Your own data: put your `train.jsonl` and `dev.jsonl`, a text and a label in each line, into the work folder before the
first run; they are used as they are.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

import edgebert

WORDS = {
    "thing": ("电影", "小说", "音乐会", "餐厅", "酒店", "游戏"),
    "part": ("服务", "音乐", "结尾", "价格", "环境", "味道"),
    "good": ("精彩", "动人", "舒服", "出色", "有趣", "难忘"),
    "bad": ("无聊", "糟糕", "吵闹", "差劲", "难受", "乏味"),
}
TEMPLATES = {
    "好评": ("这次的{thing}真{good}，{part}也很{good}。", "本以为{thing}会很{bad}，没想到这么{good}！"),
    "差评": ("这次的{thing}真{bad}，{part}也很{bad}。", "本以为{thing}会很{good}，没想到这么{bad}！"),
}
NEW = ("酒店很舒服，环境也出色。", "这部电影太无聊了。", "音乐会精彩，可是餐厅的味道很糟糕。")


def main(arguments: list[str] | None = None) -> float:
    """The accuracy of the int8 model on the dev file."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--base", default="intfloat/multilingual-e5-small", help="any BERT: folder or Hub id")
    options.add_argument("--work", type=Path, default=Path(".examples/sentiment_zh"), help="folder for what is made")
    options.add_argument("--epochs", type=float, default=3)
    options.add_argument("--learning-rate", type=float, default=1e-4)
    given = options.parse_args(arguments)
    write_data(given.work)
    bundle = given.work / "bundle"
    if bundle.exists():
        print(f"{bundle} was made before; remove the folders in {given.work} to make it anew")
    else:
        make(given.base, given.work, given.epochs, given.learning_rate)
    with edgebert.load(bundle, task="classify") as model:
        for text in NEW:
            both = "  ".join(f"{one.label} {one.score:.2f}" for one in model.classify_all(text))
            print(f"{text}  {both}")
        dev = [json.loads(line) for line in (given.work / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
        found = model.classify([row["text"] for row in dev])
    accuracy = sum(one.label == row["label"] for one, row in zip(found, dev, strict=True)) / len(dev)
    print(f"accuracy on {len(dev)} reviews of dev.jsonl: {accuracy:.3f}")
    return accuracy


def make(base: str, work: Path, epochs: float, learning_rate: float) -> None:
    """The model, then its int8 files, which must keep 99 % of its accuracy on the dev file."""
    from edgebert.distill.finetuning import Assignment, finetune
    from edgebert.distill.recipe import Training
    from edgebert.progress import TerminalProgress
    from edgebert.quantize.recipe import find_recipe
    from edgebert.quantize.stage import Options, quantize
    from edgebert.quantize.task_gate import TaskGate
    from edgebert.tasks import task_named
    from edgebert.texts import read_texts

    train, dev, tuned = str(work / "train.jsonl"), str(work / "dev.jsonl"), work / "tuned"
    training = Training(epochs=epochs, batch_size=16, learning_rate=learning_rate, freeze_embeddings=True)
    with TerminalProgress() as progress:
        if not tuned.exists():
            lesson = Assignment(task_named("classify"), (train,), (dev,))
            finetune(edgebert.Bundle.from_pretrained(base), [lesson], tuned, training, max_length=64, progress=progress)
        gate = Options(recipe=find_recipe("outliers-8"), task=TaskGate("task", (dev,), min_retention=0.99))
        quantize(edgebert.Bundle.open(tuned), read_texts([train]), work / "bundle", gate, progress=progress)


def write_data(work: Path) -> None:
    """Made-up reviews in the files that are missing."""
    work.mkdir(parents=True, exist_ok=True)
    rows = reviews(600)
    for name, part in (("train", rows[:450]), ("dev", rows[450:])):
        path = work / f"{name}.jsonl"
        if not path.exists():
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in part]
            path.write_text("".join(lines), encoding="utf-8")


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
