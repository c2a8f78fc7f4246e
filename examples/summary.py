"""The sentences of a text that say most of it, in English and in Chinese, with the models that come with EdgeBERT.

    pip install edgebert
    python examples/summary.py [FILE] [--language en|zh] [--sentences N]

A BERT model reads and does not write: it can choose sentences, word for word, but not put a text into words of its
own. For summaries in new words, translation or chat take a model that generates.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import edgebert

if TYPE_CHECKING:
    from edgebert.summary import Sentence

MODELS = {"en": "edgebert-mini-en", "zh": "edgebert-mini-zh"}
TEXTS = {
    "en": (
        "The ferry to the island was cancelled on Wednesday because of a heavy storm. The storm brought waves of six "
        "metres, and no ferry or fishing boat could leave the harbour. About two hundred travellers spent the night "
        "in the school of the harbour town. A bakery opposite the school sells rye bread since 1911. The harbour "
        "master expects the storm to end on Friday, when the ferry to the island will sail again. Until then "
        "travellers can change their ferry tickets without a fee. My aunt prefers trains."
    ),
    "zh": (
        "受台风影响，开往海岛的渡轮星期三全部停航。台风掀起六米高的海浪，渡轮和渔船都不能离开港口。"
        "约两百名旅客在港口小镇的学校里过夜。学校对面的面包店从1911年起就卖黑麦面包。"
        "港口预计台风星期五过去，届时开往海岛的渡轮将恢复航行。在此之前，旅客可以免费改签渡轮船票。我姑妈更喜欢火车。"
    ),
}


def main(arguments: list[str] | None = None) -> dict[str, list[Sentence]]:
    """The chosen sentences of the text in each language."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", nargs="?", type=Path, help="your own text; without it two made-up ones")
    options.add_argument("--language", choices=list(MODELS), default="en", help="of the file")
    options.add_argument("--sentences", type=int, default=3)
    given = options.parse_args(arguments)
    texts = {given.language: given.file.read_text(encoding="utf-8")} if given.file else TEXTS
    results = {}
    for language, text in texts.items():
        results[language] = edgebert.summarize(text, sentences=given.sentences, model=MODELS[language])
        print(f"\n{given.sentences} sentences of a text of {len(text)} characters ({MODELS[language]})")
        for one in results[language]:
            print(f"  {one.start:4}-{one.end:<4} {one.score:.3f}  {one.text}")
    return results


if __name__ == "__main__":
    main()
