"""What difference of word error rates a test set can show, before anything is trained."""

from math import sqrt

from core.significance import FEWEST_CHOICES, LEVEL

WORDS_ALIKE = 1.4
"""Variance of a difference over that of words that err on their own: in an utterance they err alike. Simulated 1.1 to
1.3, on tables of the studio 0.7 to 1.0: on the side of too much speech."""

SPEAKERS_APART = 0.3
"""Standard deviation of the difference from speaker to speaker, over rate times one minus rate: as when the logit of
each system's errors scatters by 0.25."""

ASSUMED_RATE = 0.10
SEEN = 0.8


def power(
    difference: float, *, utterances: int, words: int, rate: float, speakers: int = 0, comparisons: int = 1
) -> float:
    """Return in what share of cases a true difference of two word error rates comes out at the 5 % level.

    Args:
        difference: Between the rates, a fraction above 0.
        utterances: Size of the test set.
        words: Of its references.
        rate: The higher one of the rates, a fraction.
        speakers: How many there are; 0 where they are not known. One or none says nothing of other speakers.
        comparisons: How many are corrected for.
    """
    # Imported late: the app starts without it.
    from scipy.special import nctdtr, stdtrit

    units = speakers if speakers > 1 else utterances
    if units < 2 or words < 1:
        return 0.0
    lower = rate - difference
    variance = WORDS_ALIKE * (rate * (1 - rate) + lower * (1 - lower)) / words
    if speakers > 1:
        middle = (rate + lower) / 2
        variance += (SPEAKERS_APART * middle * (1 - middle)) ** 2 / speakers
    needed = float(stdtrit(units - 1, 1 - LEVEL / comparisons / 2))
    if 2**units < FEWEST_CHOICES * comparisons:
        needed *= sqrt(units / (units - 1))  # as `core.clustering.ratio_variance` has it for few speakers
    return 1 - float(nctdtr(units - 1, difference / sqrt(variance), needed))


def detectable_difference(
    *, utterances: int, words: int, rate: float = ASSUMED_RATE, speakers: int = 0, comparisons: int = 1
) -> float | None:
    """Return the smallest true difference that is seen in four of five cases; None where none up to the rate is.

    Args:
        utterances: Size of the test set.
        words: Of its references.
        rate: Word error rate of the worse side, a fraction.
        speakers: How many there are; 0 where they are not known.
        comparisons: How many are corrected for.
    """

    def seen(difference: float) -> float:
        return power(
            difference, utterances=utterances, words=words, rate=rate, speakers=speakers, comparisons=comparisons
        )

    if seen(rate) < SEEN:
        return None
    low, high = 0.0, rate
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if seen(middle) < SEEN else (low, middle)
    return high


def what_can_be_seen(
    *, utterances: int, words: int, speakers: int = 0, comparisons: int = 1, more: bool = False
) -> str:
    """Return in a sentence which difference a test set can show.

    Args:
        utterances: Size of the test set, as far as it was read.
        words: Of their references.
        speakers: How many there are; 0 where they are not known.
        comparisons: How many are corrected for.
        more: Whether there are more utterances, which were not read.
    """
    found = detectable_difference(utterances=utterances, words=words, speakers=speakers, comparisons=comparisons)
    voices = f" of {speakers} speakers" if speakers > 1 else ""
    size = f"{'The first ' if more else ''}{utterances:,} test utterance{'' if utterances == 1 else 's'}{voices}"
    assumed = f"at a WER of {ASSUMED_RATE:.0%}"
    if found is None:
        return f"{size} {'is' if utterances == 1 else 'are'} too few to tell two runs apart {assumed}."
    return f"{size} show a difference of {100 * found:.1f} points or more, {assumed}, in four of five cases."
