"""The golden cases of a bundle, written from torch in fp32: what every engine on every machine must answer.

The texts are English and Chinese prose, one text of every length at which engines change kernels, the longest one the
model takes, and degenerate ones: nothing, blanks, one word over and over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgebert.bundle import Bundle
from edgebert.distill.encoder import SentenceEncoder, encode_ids, load_tokenizer
from edgebert.distill.task_answers import answers_of
from edgebert.errors import BundleError
from edgebert.golden import Kind, segments
from edgebert.manifest import Golden
from edgebert.tasks import reads_two
from edgebert.tasks.reading import Row
from edgebert.tokenizer import Tokenizer

CASES, VECTORS, LOGITS = "golden/cases.json", "golden/vectors.npy", "golden/logits_{}.npy"
LENGTHS = (3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)

ENGLISH = (
    "The ferry leaves at noon and reaches the island before the shops close.",
    "She planted two rows of beans behind the old brick wall.",
    "How do I change the address on an order that has not been sent yet?",
    "The committee rejected the budget because the figures for March were missing.",
    "Water boils at a lower temperature high in the mountains.",
    "My brother's band plays in a small bar near the harbour every second Friday.",
    "Nobody answered the phone, so the driver left the parcel with a neighbour.",
    "A short circuit in the kitchen put out every light on the ground floor.",
    "The new vaccine protects children against a disease that was once common.",
    "Is there a direct train from the airport to the university?",
    "He read the contract twice and still could not find the clause about rent.",
    "Prices for copper and zinc fell sharply after the mine opened again.",
    "I loved the first half of the film, but the ending made no sense at all!",
    "To reset the router, hold the small button for ten seconds until the lamp turns red.",
    "Swifts sleep, eat and drink in the air and land only to raise their young.",
    "The judge asked the witness to speak louder and to begin again from Monday evening.",
)
CHINESE = (
    "今天下午三点我们在图书馆门口见面。",
    "这家酒店的房间很干净，可是早餐太贵了。",
    "怎样才能把旧手机里的照片转到新电脑上？",
    "科学家在深海里发现了一种会发光的小鱼。",
    "他每天骑自行车上班，路上要花四十分钟。",
    "由于大雨，飞往上海的航班推迟了两个小时。",
)
DEGENERATE = ("", " ", "the " * 4, "hello " * 14, "word " * 30, "no " * 62, "!!!!!!!!", "猫" * 20, "a" * 60)


def write_golden(bundle: Bundle, encoder: SentenceEncoder, folder: Path) -> Golden:
    """Writes the golden cases of the model `encoder`, whose tokenizer is that of `bundle`, into `folder`.

    Raises: BundleError when transformers would read a text into other token ids than the runtime.
    """
    tokenizer = load_tokenizer(bundle)
    cases: list[tuple[str, Kind]] = [(text, "ordinary") for text in (*ENGLISH, *CHINESE, *_ladder(tokenizer, bundle))]
    cases += [(text, "degenerate") for text in DEGENERATE]
    ids = [tokens.ids for tokens in tokenizer([text for text, _ in cases])]
    _same_as_transformers(bundle, [text for text, _ in cases], ids)
    vectors = encode_ids(encoder, ids, bundle.manifest.pad_token_id, batch_size=1)
    records = [{"text": t, "input_ids": i, "kind": kind} for (t, kind), i in zip(cases, ids, strict=True)]
    (folder / CASES).parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    (folder / CASES).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    np.save(folder / VECTORS, vectors.astype("<f4"), allow_pickle=False)
    logits, two = {}, reads_two(bundle.manifest.heads)
    rows = [Row(row, segments(len(row)) if two else ()) for row in ids]
    for place, head in enumerate(bundle.manifest.heads):
        name = LOGITS.format(head.name)
        answers = answers_of(encoder, place, rows, batch_size=1)
        np.save(folder / name, np.concatenate([np.atleast_2d(a) for a in answers]).astype("<f4"), allow_pickle=False)
        logits[head.name] = name
    return Golden(cases=CASES, vectors=VECTORS, logits=logits, two_texts=two)


def _ladder(tokenizer: Tokenizer, bundle: Bundle) -> Iterator[str]:
    """One text of each length of `LENGTHS` that fits, and of the model's longest; each begins at another word."""
    longest = bundle.manifest.max_length
    words = " ".join(ENGLISH).split()
    for length in [n for n in LENGTHS if n < longest] + [longest]:
        start = length % len(words)
        yield _of_length(tokenizer, words[start:] + words[:start], length)


def _of_length(tokenizer: Tokenizer, words: list[str], length: int) -> str:
    """Words, over and over, that make `length` tokens; one that would make it longer is passed over."""
    text: list[str] = []
    size = len(tokenizer([""])[0].ids)
    for i in range(20 * length):
        if size >= length:
            break
        found = tokenizer([" ".join([*text, words[i % len(words)]])])[0]
        if not found.truncated and size < len(found.ids) <= length:
            text, size = [*text, words[i % len(words)]], len(found.ids)
    return " ".join(text)


def _same_as_transformers(bundle: Bundle, texts: list[str], ids: list[list[int]]) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(bundle.root, local_files_only=True, trust_remote_code=False)
    for text, own in zip(texts, ids, strict=True):
        other = theirs(text, truncation=True, max_length=bundle.manifest.max_length)["input_ids"]
        if other != own:
            raise BundleError(
                f"{bundle.source}: for {text[:40]!r} transformers gives the token ids {other[:12]} and tokenizer.json "
                f"{own[:12]}: the tokenizer's files contradict each other"
            )
