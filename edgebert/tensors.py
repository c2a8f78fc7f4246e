"""Weights out of a safetensors file, with numpy alone: a device has neither torch nor the safetensors package.

The format: 8 bytes with the length of a JSON header, the header, the tensors' bytes, all little-endian
(https://github.com/huggingface/safetensors).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebert.errors import BundleError

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_LONGEST_HEADER = 100_000_000


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of `path` by name, as float32.

    Raises: BundleError when the file is missing, damaged or holds what is no float.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise BundleError(f"{path} cannot be read: {problem.strerror}") from None
    try:
        length = int.from_bytes(data[:8], "little")
        if len(data) < 8 or length > min(_LONGEST_HEADER, len(data) - 8):
            raise ValueError(f"a header of {length} bytes in a file of {len(data)}")
        header = json.loads(data[8 : 8 + length])
        body = memoryview(data)[8 + length :]
        return {name: _tensor(fact, body) for name, fact in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise BundleError(f"{path} is damaged, it is not safetensors: {problem!r:.200}") from None


def _tensor(fact: dict[str, Any], body: memoryview) -> NDArray[np.float32]:
    kind, (start, end) = fact["dtype"], fact["data_offsets"]
    if kind not in _TYPES:
        raise ValueError(f"a tensor of {kind}; known are {', '.join(_TYPES)}")
    if not 0 <= start <= end <= len(body):
        raise ValueError(f"a tensor at {start} to {end} of {len(body)} bytes")
    flat = np.frombuffer(body[start:end], _TYPES[kind])
    if kind == "BF16":  # the upper half of a float32
        flat = (flat.astype("<u4") << 16).view("<f4")
    return flat.reshape(fact["shape"]).astype(np.float32)
