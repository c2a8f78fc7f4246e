"""Small tokenizers of every kind, trained on made-up English and Chinese."""

from __future__ import annotations

from typing import Any

from helpers import HAN, sentences
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
KINDS = ("WordPiece", "Unigram", "BPE", "byte-level BPE", "BPE with byte fallback")
CHINESE = [HAN[i : i + 7] for i in range(len(HAN) - 7)] * 3
TEXT = [*sentences(300, seed=1), *CHINESE]


def train(kind: str) -> Tokenizer:
    """A tokenizer of that kind, trained on made-up English and Chinese, with BERT's frame of special tokens."""
    if kind == "WordPiece":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=260, special_tokens=SPECIAL)
    elif kind == "Unigram":
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=260, special_tokens=SPECIAL, unk_token="[UNK]")
    elif kind == "byte-level BPE":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=460, special_tokens=SPECIAL, initial_alphabet=alphabet)
    else:
        fallback = kind.endswith("fallback")
        made = Tokenizer(models.BPE(unk_token="[UNK]", byte_fallback=fallback))
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        special = SPECIAL + ([f"<0x{i:02X}>" for i in range(256)] if fallback else [])
        trainer = trainers.BpeTrainer(vocab_size=260 + 256 * fallback, special_tokens=special)
    made.train_from_iterator(TEXT, trainer)
    cls, sep = made.token_to_id("[CLS]"), made.token_to_id("[SEP]")
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    if kind == "byte-level BPE":
        made.post_processor = processors.Sequence(
            [processors.ByteLevel(), processors.RobertaProcessing(("[SEP]", sep), ("[CLS]", cls))]
        )
    return made
