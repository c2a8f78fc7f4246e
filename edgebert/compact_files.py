"""Compact vectors in a file: one .npz, which numpy opens too, with the scale or the dimension beside the codes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebert.compact import BinaryVectors, Compact, Int8Vectors
from edgebert.errors import DataError, RecipeError
from edgebert.files import new_file, refuse_existing

_MIB = 1 << 20
_INT8, _BINARY = {"codes", "scale"}, {"bits", "dimension"}


def save(vectors: Compact, path: str | Path) -> None:
    """Writes `vectors` to `path`, a new .npz: "codes" and "scale" of int8, "bits" and "dimension" of binary vectors.

    Raises: RecipeError for another suffix; BundleError when `path` exists.
    """
    require_npz(path)
    with new_file(Path(path)) as partial, partial.open("wb") as stream:
        array, facts = _parts(vectors)
        np.savez(stream, **{"codes" if isinstance(vectors, Int8Vectors) else "bits": array, **facts})  # type: ignore[arg-type]


def load(path: str | Path) -> Compact:
    """The vectors of a file that `save` or `edgebert embed --vectors` wrote.

    Raises: DataError when it is missing, damaged or something else.
    """
    try:
        with Path(path).open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it is no .npz")
            found: dict[str, Any] = {name: file[name] for name in file.files}
        if set(found) == _INT8:
            return Int8Vectors(found["codes"], float(found["scale"]))
        if set(found) == _BINARY:
            return BinaryVectors(found["bits"], int(found["dimension"]))
        raise ValueError(f"it holds {', '.join(sorted(found)) or 'nothing'}, not codes and scale or bits and dimension")
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (OSError, EOFError, ValueError, TypeError, MemoryError, zipfile.BadZipFile, DataError) as problem:
        raise DataError(f"{path} holds no compact vectors that can be read: {problem}") from None


@contextlib.contextmanager
def compact_file(out: Path, like: Compact) -> Iterator[Callable[[Sequence[str], Compact], None]]:
    """A function that appends vectors, in constant memory, to `out`, a new .npz that `load` reads.

    like: vectors, or none, of the kind, dimension and scale that all will have. The texts are not kept. `out` appears
    when the block ends well.
    Raises: RecipeError for another suffix; BundleError when `out` exists; in the block DataError for other vectors.
    """
    require_npz(out)
    refuse_existing(out)
    rows, (wanted, facts) = 0, _parts(like)

    def write(texts: Sequence[str], vectors: Compact) -> None:
        nonlocal rows
        array, found = _parts(vectors)
        if found != facts:
            raise DataError(f"{out} takes {like.precision} vectors with {facts}, not {vectors.precision} with {found}")
        raw.write(array.tobytes())
        rows += len(vectors)

    # The codes lie in a file of their own until their number, which stands before them, is known.
    with new_file(out) as partial, tempfile.TemporaryFile(dir=partial.parent) as raw:
        yield write
        raw.seek(0)
        with zipfile.ZipFile(partial, "w") as archive:
            name = "codes" if isinstance(like, Int8Vectors) else "bits"
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                header = {"descr": wanted.dtype.str, "fortran_order": False, "shape": (rows, wanted.shape[-1])}
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(raw, member, _MIB)
            for key, value in facts.items():
                with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w") as member:
                    np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)


def _parts(vectors: Compact) -> tuple[NDArray[np.int8] | NDArray[np.uint8], dict[str, np.float64 | np.int64]]:
    """The array and the fact beside it, as they are stored."""
    if isinstance(vectors, Int8Vectors):
        return vectors.codes, {"scale": np.float64(vectors.scale)}
    return vectors.bits, {"dimension": np.int64(vectors.dimension)}


def require_npz(path: str | Path) -> None:
    """Raises RecipeError unless `path` ends in .npz."""
    if Path(path).suffix.lower() != ".npz":
        raise RecipeError(f"the output {path} has an unknown format; compact vectors are written to .npz")
