"""Sign flips of paired differences: exact p-values, and the intervals that the same test gives."""

from dataclasses import dataclass

import numpy as np

MOST_ENUMERATED = 13
"""All 2^k choices of signs are taken for up to so many units; of more units, draws."""

SIGNS_AT_ONCE = 400_000
"""Draws are made in blocks of about this many signs (1.6 MB), which stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class SignFlips:
    """The test of a difference of rates in which the units' signs are exchanged (Fisher 1935; Pitman 1937).

    When two systems err alike, exchanging them in any unit changes nothing: every choice of signs of the units'
    differences is equally likely, however unequal the units are. The p-value is the share of choices whose sum is at
    least as far from 0 as the sum that was seen. Differences other than 0 are tested in the same way, with that
    difference taken off each unit; those that are kept form the interval. A choice of signs keeps what lies between the
    rate of the units that it flips and the rate of the others (Hartigan 1969, "Using subsample values as typical
    values"), so that no search is needed.

    Attributes:
        lows: Lower ends of what each choice of signs keeps, in order.
        highs: Upper ends, in order.
        p_value: Two-sided, for no difference.
    """

    lows: np.ndarray
    highs: np.ndarray
    p_value: float

    def interval(self, level: float) -> tuple[float, float]:
        """Return the differences whose p-value is at least `level`; infinite ends where so few units cannot say."""
        place = max(0, int(np.ceil(level * len(self.lows) - 1e-9)) - 1)
        return float(self.lows[place]), float(self.highs[-1 - place])


def sign_flips(differences: np.ndarray, words: np.ndarray, *, draws: int, seed: int) -> SignFlips:
    """Test a difference of rates by flipping the signs of units.

    All choices of signs are taken where there are few units. Where few of many units differ, all signs of those are
    taken, and the signs of the others, on which the p-value does not depend, are drawn. Else the choice that was seen
    joins the draws, so that the p-value is never 0.

    Args:
        differences: Errors minus the baseline's, of each unit.
        words: Reference words of each unit; their sum is above 0.
        draws: Choices of signs that are drawn where they are not all taken.
        seed: Of the draws.
    """
    first = np.argsort(differences == 0, kind="stable")
    table = np.stack([differences[first], words[first]], axis=1).astype(np.float32)
    units, differing = len(table), int(np.count_nonzero(differences))
    enumerated = units if units <= MOST_ENUMERATED else differing if differing <= MOST_ENUMERATED else 0
    choices = 2**enumerated
    if enumerated < units:
        choices = choices * max(1, -(-draws // choices)) if enumerated else draws + 1
    random = np.random.default_rng(seed)
    block = max(1, SIGNS_AT_ONCE // units)
    ends = [
        _kept(table, _flipped(range(start, min(choices, start + block)), units, enumerated, random))
        for start in range(0, choices, block)
    ]
    lows, highs = (np.concatenate(side) for side in zip(*ends, strict=True))
    p_value = float(np.mean((lows <= 0) & (highs >= 0)))
    return SignFlips(np.sort(lows), np.sort(highs), p_value)


def _flipped(rows: range, units: int, enumerated: int, random: np.random.Generator) -> np.ndarray:
    """Return which units each row flips, [rows, units] of 0 and 1; the first choice of all flips none that differ."""
    drawn = np.frombuffer(random.bytes(len(rows) * -(-units // 8)), dtype=np.uint8).reshape(len(rows), -1)
    flips = np.unpackbits(drawn, axis=1, count=units)
    if enumerated:
        flips[:, :enumerated] = np.array(rows)[:, None] >> np.arange(enumerated) & 1
    elif rows.start == 0:
        flips[0] = 0
    return flips


def _kept(table: np.ndarray, flips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return between which differences each choice of signs is at least as far from the tested one as what was seen."""
    flipped = (flips.astype(np.float32) @ table).astype(float)
    others = table.sum(axis=0, dtype=float) - flipped
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.stack([flipped[:, 0] / flipped[:, 1], others[:, 0] / others[:, 1]])
    # Nothing flipped, or nothing but what has neither words nor a difference: the same as what was seen.
    alike = np.isnan(rates).any(axis=0)
    return np.where(alike, -np.inf, rates.min(axis=0)), np.where(alike, np.inf, rates.max(axis=0))
