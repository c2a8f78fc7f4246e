"""Tiny models are fastest on one thread, and least in each other's way."""

from helpers import one_thread

__all__ = ["one_thread"]
