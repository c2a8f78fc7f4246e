"""A property that is computed when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class once(Generic[T]):
    """A property that is computed when it is first asked for, and kept; who asks at once may compute it twice.

    `functools.cached_property` holds a lock while it computes, one for all instances, until Python 3.12: in a process
    that was forked meanwhile nobody gives that lock back.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self._name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> once[T] | T:
        if instance is None:
            return self
        found: T = vars(instance).setdefault(self._name, self._compute(instance))  # the first to end, for all
        return found
