"""zlib streams, inflated no further than asked: a small file cannot claim much memory."""

import zlib

from ..errors import FormatError

PIECE_BYTES = 2**16
"""How much of a stream zlib gets at a time."""


class Inflater:
    """Inflates a zlib stream as far as it is asked for. Raises FormatError where it is damaged or cut."""

    def __init__(self, data: bytes | memoryview, what: str):
        self.data, self.at, self.what = data, 0, what
        self.stream = zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """The next `count` bytes; fewer only at the end of the stream."""
        parts, left = [], count
        while left and not self.stream.eof:
            # In pieces: zlib copies what it is given and does not come to.
            compressed: bytes | memoryview = self.stream.unconsumed_tail
            if not compressed:
                compressed = self.data[self.at : self.at + PIECE_BYTES]
                self.at += len(compressed)
            try:
                part = self.stream.decompress(compressed, left)
            except zlib.error:
                raise FormatError(f"the {self.what} is damaged") from None
            if not part and not compressed:
                raise FormatError(f"the {self.what} is cut short")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def end(self) -> None:
        """Raise FormatError unless the stream ends here, and the data with it."""
        if self.read(1) or self.stream.unused_data or self.at < len(self.data):
            raise FormatError(f"the {self.what} is longer than it should be")
