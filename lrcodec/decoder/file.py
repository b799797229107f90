"""What is decoded of a file, whole or not."""

from collections.abc import Mapping
from typing import NamedTuple

from ..errors import FormatError
from ..format import container
from ..format.alpha import AlphaReader, OpaqueReader
from ..format.container import Header, Rest


class File(NamedTuple):
    """The header, the payload of every strip, and that of the alpha if there is any.

    absent: how many bytes are absent from the payloads of strips that are cut short, by the number of the strip.
    missing: what is wrong and what is missing, in a line; None if the file is complete.
    """

    header: Header
    strips: list[bytes]
    alpha: bytes | None
    absent: Mapping[int, int]
    missing: str | None

    @classmethod
    def of(cls, rest: Rest, strips: int, partial: bool) -> "File":
        """From chunks. strips: how many the image has. partial: there may be fewer; the others get empty payloads.

        Raises FormatError if there are not as many as that.
        """
        header, chunks, absent, damage = rest
        payloads = [chunk.payload for chunk in chunks if chunk.tag == container.INDICES]
        alpha = next((chunk.payload for chunk in chunks if chunk.tag == container.ALPHA), None)
        count = len(payloads)
        if count > strips or (count < strips and not partial):
            raise FormatError(f"{count} chunks of indices instead of {strips}")
        lacks = []
        if absent:
            lacks.append(f"strip {count} of {strips} is drawn in part")
        if count < strips:
            which = f"strip {strips}" if count + 1 == strips else f"strips {count + 1} to {strips}"
            lacks.append(f"{which} of {strips} {'is' if count + 1 == strips else 'are'} missing")
        if header.alpha and alpha is None:
            lacks.append("alpha is missing")
        missing = None
        if damage or lacks:
            missing = f"{damage or 'the file ends early'}: {', '.join(lacks) or 'all of the picture is there'}"
        payloads += [b""] * (strips - count)  # they decode to depth 0
        return cls(header, payloads, alpha, {count - 1: absent} if absent else {}, missing)

    def alpha_reader(self) -> AlphaReader | OpaqueReader | None:
        """The reader of the alpha, if there is any. Raises FormatError."""
        if not self.header.alpha:
            return None
        size = self.header.height, self.header.width
        return OpaqueReader(*size) if self.alpha is None else AlphaReader(self.alpha, *size)
