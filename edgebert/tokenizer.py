"""Text to token ids, the same on every device: `tokenizer.json` and nothing beside it.

The length and the padding that some models store in their `tokenizer.json` are set aside: the manifest's maximum length
holds, and padding is the batch's business (`edgebert.batching`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from edgebert.bundle import Bundle
from edgebert.errors import BudgetError, BundleError
from edgebert.once import once
from edgebert.threads import started

_CHARACTERS = 64  # a token, at the most that running text holds
_UNKNOWN = ("[UNK]", "<unk>")  # of WordPiece, and of SentencePiece and RoBERTa
_TIMES = 3  # of these characters, all of one text, take no more memory than a block of texts
_PART = 1 << 16
_BLANK = re.compile("[ \t\n\r\xa0\u3000]")
_BLANKS = re.compile(_BLANK.pattern + "{2,}")
_SPACES = re.compile("[\t\n\r\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")  # blanks under every normalizer
# Normalizers of `tokenizers` that leave a run of blanks one.
_BLANKS_STAY = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"}
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Tokens:
    """The token ids of one text, special tokens included; `truncated` when the text went on."""

    ids: list[int]
    truncated: bool


class Tokenizer:
    """Callable that turns texts into `Tokens`, one to one.

    most_characters: the most that are tokenized of one text, None for all that it takes to find its tokens.
    Raises: BundleError when `path` is missing, is no tokenizer or does not fit a vocabulary of `vocab_size`.
    """

    def __init__(self, path: Path, *, max_length: int, vocab_size: int | None = None) -> None:
        try:
            self.backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as problem:  # noqa: BLE001 - the library raises bare Exception for every fault
            raise BundleError(f"{path} is not a tokenizer that can be read: {problem}") from None
        size = self.backend.get_vocab_size(with_added_tokens=True)
        if vocab_size is not None and size > vocab_size:
            raise BundleError(f"{path} has {size} tokens and the model's vocabulary {vocab_size}: they do not match")
        self.backend.no_padding()
        self.backend.enable_truncation(max_length)
        self._enough = _CHARACTERS * max_length
        self.most_characters: int | None = None

    @property
    def unknown_id(self) -> int | None:
        """The id of what stands for text outside the vocabulary, None where the tokenizer has no such token."""
        return next((i for t in _UNKNOWN if (i := self.backend.token_to_id(t)) is not None), None)

    @once
    def whole(self) -> tokenizers.Tokenizer:
        """The same tokenizer, which cuts no text: for who reads long ones in windows."""
        made = tokenizers.Tokenizer.from_str(self.backend.to_str())
        made.no_truncation()
        return made

    def cut(self, text: str) -> str:
        """The beginning of a long text that all of `max_length` tokens come from, as a rule."""
        return self._cut(text, self._enough)

    def within_budget(self) -> None:
        """Bounds what one text may take: `memory.plan_within` reserves that of a block of texts."""
        self.most_characters = _TIMES * self._enough

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text. Lone surrogates, which UTF-8 cannot hold, are read as U+FFFD.

        Raises: BudgetError, `within_budget`, for a text that has few tokens in many characters other than blanks.
        """
        clean = [text if text.isascii() else SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text) for text in texts]
        short = [text if len(text) <= self._enough else self._cut(text, self._enough) for text in clean]
        # One alone takes the way that starts no threads; several are read without holding Python's lock.
        encoded = [self.backend.encode(short[0])] if len(short) == 1 else self.backend.encode_batch_fast(short)
        found = [Tokens(e.ids, bool(e.overflowing)) for e in encoded]
        for i, text in enumerate(clean):
            if len(short[i]) < len(text) and not found[i].truncated:
                found[i] = self._of_few(text)
        return found

    def _of_few(self, text: str) -> Tokens:
        """The tokens of a text that has few in its many characters, such as blanks."""
        limit = self._enough
        while True:
            limit = 8 * limit if self.most_characters is None else min(8 * limit, self.most_characters)
            head, is_whole = self._beginning(text, limit)
            one = self.backend.encode(head)
            if is_whole or one.overflowing:
                return Tokens(one.ids, bool(one.overflowing))
            if limit == self.most_characters:
                raise BudgetError(
                    f"a text of {len(text)} characters has only {len(one.ids)} tokens in its first {limit}, and "
                    "reading on would break memory_mb: shorten it, or load the model without memory_mb"
                )

    def _beginning(self, text: str, limit: int) -> tuple[str, bool]:
        """About `limit` characters of a long text, and whether that is all; blanks that count for nothing are left out.

        A run of blanks counts as one, where the tokenizer drops them.
        """
        if not self._drops_blanks:
            return self._cut(text, limit), len(text) <= limit
        parts, length, at = [], 0, 0
        while at < len(text) and length <= limit:
            parts.append(_BLANKS.sub(" ", text[at : at + _PART]))
            length, at = length + len(parts[-1]), at + _PART
        head = "".join(parts)
        return self._cut(head, limit), at >= len(text) and length <= limit

    @once
    def _drops_blanks(self) -> bool:
        """Whether one blank is as good as many: words are split at them, and nothing before keeps or counts them."""
        # Only what is known to do so; others, such as Metaspace and ByteLevel, make tokens of blanks.
        if type(self.backend.pre_tokenizer).__name__ not in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit"):
            return False
        normalizer: Any = self.backend.normalizer
        if normalizer is not None:
            stated = json.loads(normalizer.__getstate__())
            if not {part["type"] for part in stated.get("normalizers", [stated])} <= _BLANKS_STAY:
                return False
        return not any(_BLANK.search(token.content) for token in self.backend.get_added_tokens_decoder().values())

    @staticmethod
    def _cut(text: str, limit: int) -> str:
        """The beginning of a long text, to the last blank: all that is tokenized is kept, 200 bytes a character."""
        if len(text) <= limit:
            return text
        head = text[:limit]
        if (end := head.rfind(" ", limit // 2)) < 0:
            end = max((found.start() for found in _SPACES.finditer(head, limit // 2)), default=limit)
        return head[:end]


def open_tokenizer(bundle: Bundle, *, max_length: int | None = None) -> Tokenizer:
    """The tokenizer of `bundle`, checked against the vocabulary in its config.json.

    max_length: by default the manifest's.
    Raises: BundleError when it is missing, cannot be read or does not fit.
    """
    config = bundle.path("config.json")
    try:
        size = json.loads(config.read_text(encoding="utf-8")).get("vocab_size") if config.exists() else None
    except (ValueError, AttributeError) as problem:
        raise BundleError(f"{config} is damaged: {problem}") from None
    if size is not None and not isinstance(size, int):
        raise BundleError(f"{config} is damaged: vocab_size is {size!r}")
    length = max_length or bundle.manifest.max_length
    return Tokenizer(bundle.path("tokenizer.json"), max_length=length, vocab_size=size)


class TokenizerSoon:
    """A tokenizer that is read while the engine opens its model: each takes about as long as the other.

    Reading holds Python's lock, so it begins when the engine says that it works without it. Without a thread, as no
    engine said so or the system allows none, the caller reads.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._found: Tokenizer | None = None
        self._problem: BaseException | None = None
        self._go = threading.Event()
        self._reader: threading.Thread | None = None

    def begin(self) -> None:
        """Lets the reading begin."""
        if self._reader is None and self._found is None and self._problem is None:
            self._reader = started(self._read, "edgebert-tokenizer")
        # Starting waits for the thread; what it does then must wait until the caller is back with the lock.
        self._go.set()

    def read(self) -> Tokenizer:
        """The tokenizer.

        Raises: BundleError, see `open_tokenizer`.
        """
        if self._reader is not None:
            self._reader.join()
        elif self._found is None and self._problem is None:
            self._go.set()
            self._read()
        if self._problem is not None:
            raise self._problem
        assert self._found is not None
        return self._found

    def _read(self) -> None:
        self._go.wait()
        try:
            self._found = open_tokenizer(self._bundle)
        except BaseException as problem:  # noqa: BLE001 - raised where it is read
            self._problem = problem
