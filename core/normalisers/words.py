"""What a normaliser returns."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NO_READINGS: Mapping[int, tuple[str, ...]] = MappingProxyType({})


class Words(NamedTuple):
    """A normalised text.

    Attributes:
        words: From left to right.
        readings: By position, how else a word may be read, without spaces: "1/2" as "onehalf", "10-15" as "10to15".
    """

    words: tuple[str, ...]
    readings: Mapping[int, tuple[str, ...]] = NO_READINGS
