"""Plain data into frozen dataclasses and back, with errors a person can act on.

Used for everything that is data, not code: the manifest (JSON), recipes and device profiles (TOML). An unknown key is
an error that lists the known ones; a value of the wrong type names the place, the value and the type wanted.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from edgebert.errors import EdgeBertError

T = TypeVar("T")


def read_toml(path: Path, *, what: str, error: type[EdgeBertError]) -> dict[str, Any]:
    """The content of the TOML file `path`; what: how such a file is called in messages, such as "recipe".

    Raises: `error` when it is missing, cannot be read or is not TOML.
    """
    if sys.version_info >= (3, 11):  # not above: a device reads no TOML
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"no such {what}: {path}") from None
    except OSError as problem:
        raise error(f"the {what} {path} cannot be read: {problem.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{path} is not TOML: {problem}") from None


def parse(kind: type[T], data: object, *, where: str, error: type[EdgeBertError]) -> T:
    """An instance of the dataclass `kind` read from `data`.

    where: how the place is called in messages, such as a file name.
    Raises: `error` for an unknown or missing key or a value of the wrong type.
    """
    return typing.cast(T, _value(kind, data, where, error))


def plain(value: object) -> Any:
    """`value` as JSON-ready data: dataclasses become objects, tuples become lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def _value(kind: Any, data: Any, where: str, error: type[EdgeBertError]) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type, kind), data, where, error)
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in args:
            return None
        (inner,) = (arg for arg in args if arg is not type(None))
        return _value(inner, data, where, error)
    if origin is typing.Literal:
        if data not in args:
            raise error(f"{where}: {data!r} is not one of {', '.join(map(repr, args))}")
        return data
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise error(f"{where}: a list is wanted, not {data!r}")
        return tuple(_value(args[0], item, f"{where}[{i}]", error) for i, item in enumerate(data))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise error(f"{where}: a table is wanted, not {data!r}")
        return {key: _value(args[1], item, f"{where}.{key}", error) for key, item in data.items()}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, kind) or (kind is int and isinstance(data, bool)):
        raise error(f"{where}: {getattr(kind, '__name__', kind)} is wanted, not {data!r}")
    return data


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of the fields of a dataclass."""
    return typing.get_type_hints(kind)


def _dataclass(kind: type, data: Any, where: str, error: type[EdgeBertError]) -> Any:
    if not isinstance(data, Mapping):
        raise error(f"{where}: a table is wanted, not {data!r}")
    hints = _hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key in data:
        if key not in fields:
            raise error(f"{where}: unknown key {key!r}; known are {', '.join(sorted(fields))}")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}: {name}", error)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise error(f"{where}: the key {name!r} is missing")
    return kind(**values)
