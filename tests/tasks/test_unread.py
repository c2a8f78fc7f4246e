"""What examples ask for and nothing can be learnt of is told before training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result
from helpers import HAN, assert_refused
from tasks import made
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

import edgebert.tokenizer
from edgebert.bundle import Bundle
from edgebert.distill.chinese_chars import chinese_chars_apart
from edgebert.tasks import task_named
from edgebert.tasks.reading import TaskReader
from edgebert.tasks.task import Task

PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "他", "在北京", "工作", "去", "北京", "▁London", "▁in", "了")
FRAME = {"special_tokens": [("<s>", 0), ("</s>", 2)], "single": "<s> $A </s>", "pair": "<s> $A </s> </s> $B </s>"}


@pytest.fixture
def reader(tmp_path: Path) -> TaskReader:
    """SentencePiece's way to read: pieces over several characters, zero-width blanks as blanks."""
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in PIECES], unk_id=3, byte_fallback=False))
    backend.normalizer = normalizers.Replace("\u200b", " ")
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(**FRAME)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = edgebert.tokenizer.Tokenizer(tmp_path / "tokenizer.json", max_length=8)
    return TaskReader(tokenizer, max_length=8, stride=2)


def told(task: Task, rows: list[dict[str, Any]], reader: TaskReader) -> str:
    examples = [task.example(row, f"row {number}") for number, row in enumerate(rows, start=1)]
    head = task.head(examples)
    return task.unread(task.lessons(reader, examples, head), examples, reader.max_length)


def place(text: str, start: int, end: int) -> dict[str, Any]:
    return {"text": text, "entities": [{"start": start, "end": end, "label": "LOC"}]}


def test_stretches_inside_a_token_are_counted(reader: TaskReader) -> None:
    inside, whole = place("他在北京工作", 2, 4), place("他去北京了", 2, 4)
    assert told(task_named("tag"), [inside, whole, whole], reader).startswith("1 of 3 tagged stretches share a token")
    assert told(task_named("tag"), [whole, whole], reader) == ""


def test_invisible_characters_belong_to_no_word(reader: TaskReader) -> None:
    text = "in \u200bLondon\u200b"
    row = reader.windows(text)[0]
    ids = dict(zip([PIECES[i] for i in row], row.offsets, strict=True))
    assert ids["▁London"] == (4, 10)
    assert told(task_named("tag"), [place(text, 4, 10)], reader) == ""


def test_answers_that_no_window_holds_are_counted(reader: TaskReader) -> None:
    long = "北京" * 6
    rows = [
        {"question": "在北京", "context": "他去北京了", "answers": [{"text": "北京", "answer_start": 2}]},
        {"question": "在北京", "context": long, "answers": [{"text": long, "answer_start": 0}]},
        {"question": "在北京", "context": long, "answers": []},
    ]
    assert told(task_named("answer"), rows, reader) == "1 of 3 questions have answers too long for 8 tokens"
    assert told(task_named("answer"), rows[::2], reader) == ""


@pytest.mark.parametrize("task", ["classify", "regress", "pairs"])
def test_texts_that_are_cut_are_counted(reader: TaskReader, task: str) -> None:
    label = "score" if task == "regress" else "label"
    texts = ["北京" * 9, "北京", "北京"]
    second = {"text_pair": "北京"} if task == "pairs" else {}
    rows = [{"text": text, label: number if task == "regress" else str(number % 2)} | second
            for number, text in enumerate(texts)]  # fmt: skip
    assert told(task_named(task), rows, reader) == "1 of 3 texts are longer than 8 tokens and are cut"
    assert told(task_named(task), rows[1:], reader) == ""


def test_finetune_tells_it(tiny_teacher: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    rows = [{"text": "the dog runs in the house and the garden " * 2, "label": str(number % 2)} for number in range(8)]
    file = made.write_rows(tmp_path / "x.jsonl", rows)
    done = cli(
        "finetune", tiny_teacher, "--task", "classify", "--train", file, "--dev", file, "--max-length", 8,
        "--epochs", 1, "--work", tmp_path / "work", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "classify: 8 of 8 texts are longer than 8 tokens and are cut" in done.err


def test_chinese_characters_are_read_one_by_one(tiny_teacher: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_teacher, base)
    (base / "vocab.txt").unlink(missing_ok=True)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁", *sorted(set(HAN)), HAN[:4], f"▁{HAN[:4]}"]
    backend = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=1, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    frame: dict[str, Any] = {"special_tokens": [("[CLS]", 2), ("[SEP]", 3)]}
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", **frame
    )
    backend.save(str(base / "tokenizer.json"))
    before = {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}
    # The first two of four characters that are one token.
    rows = [place(HAN[:4] + HAN[4 + number % 8], 0, 2) for number in range(16)]
    file = made.write_rows(tmp_path / "x.jsonl", rows)
    options = ("--task", "tag", "--train", file, "--dev", file, "--learning-rate", "3e-3", "--epochs", 6)

    def finetuned(out: Path, *more: object) -> Result:
        return cli("finetune", base, *options, *more, "--work", tmp_path / "work", "-o", out)

    done = finetuned(tmp_path / "as they are")
    assert done.code == 0, done.err
    assert "16 of 16 tagged stretches share a token with what is beside them" in done.err
    assert "f1: 0.0000" in done.out
    done = finetuned(tmp_path / "apart", "--tokenize-chinese-chars")
    assert done.code == 0, done.err
    assert "tagged stretches" not in done.err
    assert "f1: 1.0000" in done.out
    assert {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()} == before
    text = f"{HAN[:4]}{HAN[9]}"
    theirs = AutoTokenizer.from_pretrained(tmp_path / "apart")
    assert theirs.tokenize(text) == ["▁", *text]
    with chinese_chars_apart(Bundle.open(tmp_path / "apart")) as same:
        assert same.root == tmp_path / "apart"  # read so already
    with chinese_chars_apart(Bundle.from_pretrained(tiny_teacher)) as same:
        assert same.root == Bundle.from_pretrained(tiny_teacher).root  # BERT's own

    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(base / "tokenizer.json"))
    done = finetuned(tmp_path / "other", "--tokenize-chinese-chars")
    assert_refused(done, tmp_path / "other", "SentencePiece's kind (Metaspace)", "splits text by Whitespace")
