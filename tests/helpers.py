"""Made-up sentences and a tiny seeded teacher, for tests that need no real ones."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import pytest


class Refused(Protocol):
    """What a command left, as the fixture `cli` gives it."""

    @property
    def code(self) -> int: ...

    @property
    def err(self) -> str: ...


WORDS = (
    "the a one old new small big red blue green quick slow warm cold dog cat bird horse child man woman "
    "river house street garden city bread water music letter answer question runs sleeps plays reads "
    "writes opens closes finds sees hears eats drinks walks under over near behind with without and or "
    "but today yesterday often never always "
).split()
HAN = "今天我们在城市里看书听音乐喝水写信狗猫鸟马孩子河流花园街道面包问题回答红蓝绿大小冷热快慢新旧"


def sentences(count: int, *, seed: int = 0, shortest: int = 3, longest: int = 14) -> list[str]:
    """`count` distinct made-up sentences, the same ones for the same seed."""
    rng = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        made[" ".join(rng.choices(WORDS, k=rng.randint(shortest, longest))) + "."] = None
    return list(made)


def make_teacher(
    folder: Path, *, layers: int = 4, width: int = 64, heads: int = 4, seed: int = 0, unused: int = 0,
    words: Iterable[str] = (),
) -> Path:  # fmt: skip
    """A seeded BERT that reads English words and Chinese characters, as a sentence-transformers folder.

    unused: so many tokens more, which no text has. words: more words in lower case, or characters, that are a token.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,!?", *letters, *(f"##{c}" for c in letters)]
    pieces += [w for w in dict.fromkeys(WORDS) if w not in pieces] + list(dict.fromkeys(HAN))
    pieces += [w for w in dict.fromkeys(words) if w not in pieces]
    pieces += [f"[unused{i}]" for i in range(unused)]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=2 * width, max_position_embeddings=64, initializer_range=0.08,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    special = {
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    }
    _write(folder / "special_tokens_map.json", special)
    _write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64, **special},
    )
    _write(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(
                [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
            )
        ],
    )
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    return folder


def reframed(folder: Path) -> Path:
    """`folder`, its tokenizer changed: one token more in front of every text, so that none is read as before."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    single = content["post_processor"]["single"]
    content["post_processor"]["single"] = [single[0], *single]
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def least_cosine(student: Path, bundle: Path) -> float:
    """Between the student in torch and the bundle's int8 files in both engines, over five sentences."""
    from edgebert.models import open_model

    texts, found = sentences(5), []
    with open_model(student, engine="torch") as model:
        exact = model.encode(texts)
    for engine in ("onnxruntime", "openvino"):
        with open_model(bundle, engine=engine, precision="int8") as model:
            found.append((model.encode(texts) * exact).sum(axis=1).min())
    return float(min(found))


def _write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch and the engines compute on one thread while a test runs."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_refused(result: Refused, out: Path, *parts: str) -> None:
    """One line on standard error that names the matter, exit code 1, and nothing half written."""
    assert result.code == 1
    assert result.err.startswith("edgebert: ")
    assert result.err.count("\n") == 1
    for part in parts:
        assert part in result.err
    assert not out.exists()
    assert list(out.parent.glob(".*")) == []
