"""What is made of the tables of a pack and kept for the next file: as much as a bound allows."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Protocol

KEPT_BYTES = 96 * 2**20
"""A decoder keeps so many bytes of entropy models: enough for those of all shipped packs."""


class Sized(Protocol):
    """What can be kept. size: the bytes that it takes at first."""

    @property
    def size(self) -> int: ...  # noqa: D102


class Kept:
    """Values by key. When they take more than `limit` bytes, those that were not used for longest are given up.

    Any number of threads may use one. A value that was given up may still be at work in another thread.
    """

    def __init__(self, limit: int = KEPT_BYTES):
        self.limit, self.bytes = limit, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Sized]) -> Any:
        """The value of a key, made if it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        made = make()  # two threads may both come here: the first one's value is kept
        with self._lock:
            value, _ = self._values.setdefault(key, (made, 0))
            if value is made:
                self._grow(key, made.size)
        return value

    def grow(self, key: Hashable, size: int) -> None:
        """The value of this key now takes so many bytes more."""
        with self._lock:
            if key in self._values:
                self._grow(key, size)

    def _grow(self, key: Hashable, size: int) -> None:
        value, before = self._values[key]
        self._values[key] = value, before + size
        self._values.move_to_end(key)
        self.bytes += size
        while self.bytes > self.limit:
            self.bytes -= self._values.popitem(last=False)[1][1]
