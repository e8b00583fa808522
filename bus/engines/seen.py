"""A filter of keys: says for sure that a key was never seen, or that it may have been (Bloom 1970; two places each)."""

from __future__ import annotations

from collections.abc import Iterable

BITS_MIN = 1 << 26
"""8 MiB, of which the system gives what is written to."""
BITS_MAX = 1 << 29
"""64 MiB; beyond it keys are taken for seen more often, which costs a look where they would be."""
LINE = ~511
"""Of a place, what both of a key have in common: 64 bytes that the processor fetches from memory in one go."""
BITS_A_KEY = 128
"""At least, up to `BITS_MAX`: one key in 3,000 is then taken for seen although it was not. Each time that it grows it
keeps what it saw before at twice as many places, so who knows how much there will be says so."""


class Seen:
    """16 to 32 bytes a key, up to 64 MiB. Lives in one process, for its hash is Python's, which is another in each."""

    __slots__ = ("_bits", "_keys", "_mask")

    def __init__(self, bits: int = BITS_MIN) -> None:
        """`bits` is a power of two."""
        self._bits = bytearray(bits // 8)
        self._mask = bits - 1
        self._keys = 0

    @classmethod
    def of(cls, keys: int) -> Seen:
        """An empty one with room for about so many."""
        bits = BITS_MIN
        while bits < min(BITS_MAX, keys * BITS_A_KEY):
            bits *= 2
        return cls(bits)

    def __len__(self) -> int:
        """How many keys were added; one that was added twice may count twice."""
        return self._keys

    def __contains__(self, key: str) -> bool:
        """False: it was never added. True: it may have been."""
        hashed, bits = hash(key), self._bits
        place = hashed & self._mask
        if not bits[place >> 3] >> (place & 7) & 1:
            return False
        place = place & LINE | hashed >> 32 & ~LINE
        return bool(bits[place >> 3] >> (place & 7) & 1)

    def add(self, keys: Iterable[str]) -> None:
        """Some at a time: it grows between two calls."""
        bits, mask, count = self._bits, self._mask, 0
        for key in keys:
            hashed = hash(key)
            place = hashed & mask
            bits[place >> 3] |= 1 << (place & 7)
            place = place & LINE | hashed >> 32 & ~LINE
            bits[place >> 3] |= 1 << (place & 7)
            count += 1
        self._keys += count
        while self._keys * BITS_A_KEY > self._mask and self._mask + 1 < BITS_MAX:
            self._double()

    def merge(self, other: Seen) -> None:
        """Add what another one has seen, which is used up by it."""
        while self._mask < other._mask:
            self._double()
        while other._mask < self._mask:
            other._double()
        both = int.from_bytes(self._bits, "little") | int.from_bytes(other._bits, "little")
        self._bits = bytearray(both.to_bytes(len(self._bits), "little"))
        self._keys += other._keys

    def _double(self) -> None:
        """A key lies where the low bits of its hash say: with one bit more, at the same places or both so many on."""
        self._bits = self._bits * 2
        self._mask = 2 * self._mask + 1
