"""Room to draw: how many pixels all threads of this process draw at once, at most. So memory is bounded."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from ..runtime import give_back

PIXELS = 2**20
"""As many as a strip has, or a batch of small images."""
GIVEN_BACK = 2**21
"""After so many pixels, what malloc holds and nobody uses is given back to the system."""


class Room:
    """Lets threads draw while there is room, and the others wait, in turn."""

    def __init__(self, pixels: int):
        self.pixels = self.free = pixels
        self.drawn = 0
        """Pixels since memory was last given back."""
        self._turn = Lock()
        """Of the thread that waits longest: no smaller picture goes before a large one for ever."""
        self._changed = Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Within, these pixels are drawn; a picture that is larger than all the room has it alone."""
        pixels = min(pixels, self.pixels)
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self.free >= pixels)
            self.free -= pixels
        try:
            yield
        finally:
            with self._changed:
                self.free += pixels
                self.drawn += pixels
                if trim := self.drawn >= GIVEN_BACK:
                    self.drawn = 0
                self._changed.notify_all()
            if trim:
                give_back()


ROOM = Room(PIXELS)
"""That of this process."""
