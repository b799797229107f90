"""The range coder of SPEC.md in Python, with the names and arguments of constriction, as far as they are used here.

For machines that constriction has no wheels for: decoding takes about twice as long.
"""

from bisect import bisect_right

import numpy as np

WORD = 2**32
STATE = 2**64
PRECISION = 24
"""Frequencies sum to 2^24."""


class Categorical:
    """A model of symbols 0, 1, ..., or, without parameters, the family of such models."""

    def __init__(self, parameters: np.ndarray | None = None, *, perfect: bool):
        """parameters: float64 (symbols,), the frequencies less one, which themselves sum to 2^24."""
        assert not perfect
        self.bounds: list[int] = [] if parameters is None else _bounds(parameters[None])[0]


def _bounds(parameters: np.ndarray) -> list[list[int]]:
    """Where the quantiles of each symbol begin, and 2^24 as the last, for each row of parameters."""
    ends = (parameters.astype(np.int64) + 1).cumsum(1)
    return np.pad(ends, ((0, 0), (1, 0))).tolist()


class RangeEncoder:
    """Symbols to words, first in, first out."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._lower, self._range = 0, STATE - 1

    def encode(self, symbols: np.ndarray, model: Categorical, parameters: np.ndarray | None = None) -> None:
        """Add symbols int32 (n,), all of one model or each with a row of parameters (n, symbols)."""
        rows = [model.bounds] * len(symbols) if parameters is None else _bounds(parameters)
        for symbol, bounds in zip(symbols.tolist(), rows, strict=True):
            start, end = bounds[symbol : symbol + 2]
            scale = self._range >> PRECISION
            self._lower += scale * start
            self._range = scale * (end - start)
            if self._lower >= STATE:
                self._lower -= STATE
                self._carry()
            if self._range < WORD:
                self._words.append(self._lower >> 32)
                self._lower = self._lower % WORD << 32
                self._range <<= 32

    def _carry(self) -> None:
        """Add one to the number that the words are the digits of."""
        at = len(self._words) - 1
        while self._words[at] == WORD - 1:
            self._words[at] = 0
            at -= 1
        self._words[at] += 1

    def get_compressed(self) -> np.ndarray:
        """uint32 words: the lowest of the numbers that decode to the symbols."""
        return np.array([*self._words, self._lower >> 32, self._lower % WORD], np.uint32)

    def pos(self) -> tuple[int, tuple[int, int]]:
        """How many words are settled, and the two integers of the state: lower, without the words, and range."""
        return len(self._words), (self._lower, self._range)


class RangeDecoder:
    """Words to the symbols that they came from."""

    def __init__(self, words: np.ndarray):
        """words: uint32 (n,). Words beyond their end are zero."""
        first, second, *rest = words.tolist() + [0, 0]
        self._rest = iter(rest)
        self._above = first << 32 | second
        """The point less lower, which is all that counts of both."""
        self._range = STATE - 1

    def decode(self, model: Categorical, amount_or_parameters: int | np.ndarray) -> np.ndarray:
        """int32 (n,): so many symbols of one model, or one for each row of parameters (n, symbols).

        Raises ValueError if the words fit no symbol.
        """
        if isinstance(amount_or_parameters, np.ndarray):
            rows = _bounds(amount_or_parameters)
        else:
            rows = [model.bounds] * amount_or_parameters
        symbols = []
        for bounds in rows:
            scale = self._range >> PRECISION
            quantile = self._above // scale
            if quantile >= bounds[-1]:
                raise ValueError("the words fit no symbol")
            symbol = bisect_right(bounds, quantile) - 1
            self._above -= scale * bounds[symbol]
            self._range = scale * (bounds[symbol + 1] - bounds[symbol])
            if self._range < WORD:
                self._above = self._above << 32 | next(self._rest, 0)
                self._range <<= 32
            symbols.append(symbol)
        return np.array(symbols, np.int32)
