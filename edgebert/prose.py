"""English sentences that are on every machine with Python: the documentation of the language and of what is installed.

For trying things out and for timing, where no text of one's own is at hand. Docstrings are read from source files
without importing them, and cleaned to whole sentences of running text.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_MARKUP = re.compile(r":[a-z:]+:`~?([^`<]+)(?: <[^`]*>)?`|``([^`]+)``|`([^`]+)`_?|\*\*?([^*\s][^*]*)\*\*?|\[\d+\]_?")
_NOT_PROSE = re.compile(r"[=<>{}|\\@#$^~/]|\(\)|__|::|\.\.|\w\.\w|\w_\w|e\.g|i\.e")
_LISTING = re.compile(r"\s*(>>>|\.\. |[-*+] |\d+\. |:[a-z]+|[A-Z][a-z]+:\s*$|[=\-~^\"'`#*+|]{3,})")
_WORDS = (5, 45)


def python_prose() -> Iterator[str]:
    """Distinct sentences of 5 to 45 words from the language reference, the standard library and installed packages."""
    seen: set[str] = set()
    for text in _documents():
        for sentence in _sentences(text):
            key = sentence.lower()
            if key not in seen:
                seen.add(key)
                yield sentence


def _documents() -> Iterator[str]:
    from pydoc_data.topics import topics

    yield from topics.values()
    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*.py")):
            if not {"test", "tests", "site-packages"} & set(path.relative_to(folder).parts):
                yield from _docstrings(path)


def _docstrings(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code that is read
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.splitlines()
        if not lines or any(_LISTING.match(line) for line in lines) or len({_indent(line) for line in lines}) > 1:
            continue
        joined = " ".join(" ".join(lines).split())
        plain = _MARKUP.sub(lambda m: next((g for g in m.groups() if g), ""), joined)
        for sentence in _SENTENCE_END.split(plain):
            if _is_prose(sentence):
                yield sentence


def _is_prose(sentence: str) -> bool:
    words = sentence.split()
    letters = sum(c.isalpha() or c in " ,'" for c in sentence)
    return (
        _WORDS[0] <= len(words) <= _WORDS[1]
        and sentence[:1].isupper()
        and sentence[-1:] in ".!?"
        and letters > 0.93 * len(sentence)
        and not _NOT_PROSE.search(sentence)
        and sum(word.islower() for word in words) > 0.6 * len(words)
    )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
