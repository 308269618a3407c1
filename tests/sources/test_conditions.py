"""Recording conditions against formulas that are not theirs: Schroeder's decay, power in bands, ratios of power."""

from typing import get_args

import numpy as np
import pytest
from scipy.signal import welch

from core.audio import SAMPLE_RATE
from core.config.sources import Condition
from core.sources.conditions import (
    DIRECT_TO_REVERBERANT,
    REVERBERATION_SECONDS,
    SPEED,
    Conditions,
    at_speed,
    heard_in,
    in_room,
    mu_law,
    over_telephone,
    room_response,
    with_noise,
)
from core.sources.made import LEVEL

ALL = get_args(Condition)
RATIOS = (5.0, 25.0)
PHRASE = np.random.default_rng(7).normal(size=3 * SAMPLE_RATE) * np.hanning(3 * SAMPLE_RATE)
"""Stands in for speech: three seconds that swell and fade, of all frequencies."""


def sound(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples)))


def decibels(ratio: float) -> float:
    return 10 * np.log10(ratio)


def drawn(clip_id: str = "train-000", *, kinds: tuple[Condition, ...] = ALL, share: float = 0.5, seed: int = 0):
    return heard_in(PHRASE, clip_id, Conditions(kinds, share, RATIOS, seed))


@pytest.mark.parametrize("seconds", [0.15, 0.3, 0.6])
def test_a_room_falls_by_60_db_in_its_reverberation_time(seconds: float) -> None:
    """Schroeder 1965: the energy that is still to come, in dB, is a straight line; its slope is the decay."""
    measured = []
    for seed in range(20):
        response = room_response(seconds, 6.0, np.random.default_rng(seed))[1:]
        to_come = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2))
        span = (to_come < -5) & (to_come > -25)
        slope, _ = np.polyfit(np.flatnonzero(span) / SAMPLE_RATE, to_come[span], 1)
        measured.append(-60 / slope)
    assert np.mean(measured) == pytest.approx(seconds, rel=0.03)
    assert measured == pytest.approx(20 * [seconds], rel=0.2)


@pytest.mark.parametrize("ratio", DIRECT_TO_REVERBERANT)
def test_direct_sound_is_so_far_above_the_reflections(ratio: float) -> None:
    response = room_response(0.4, ratio, np.random.default_rng(0))
    assert response[0] == 1
    assert not response[1:40].any(), "no reflection comes with the direct sound"
    assert decibels(1 / np.sum(response[1:] ** 2)) == pytest.approx(ratio)


def test_a_room_leaves_the_direct_sound_where_it_was_and_rings_on_after_it() -> None:
    click = np.zeros(SAMPLE_RATE)
    click[1000] = 1
    heard = in_room(click, room_response(0.3, 0.0, np.random.default_rng(0)))
    assert len(heard) == len(click)
    assert heard[1000] == pytest.approx(1)
    assert np.abs(heard[:1000]).max() < 1e-9
    assert np.abs(heard[1040:3000]).max() > 0.01


@pytest.mark.parametrize("ratio", [-5.0, 0.0, 5.0, 25.0])
def test_noise_is_as_far_below_speech_as_it_should_be(ratio: float) -> None:
    noise = np.random.default_rng(0).normal(size=len(PHRASE))
    noise /= np.sqrt(sound(noise))
    added = with_noise(PHRASE, noise, ratio) - PHRASE
    assert decibels(sound(PHRASE) / sound(added)) == pytest.approx(ratio)


@pytest.mark.parametrize("companded", [False, True])
def test_a_telephone_has_its_band_and_no_other(companded: bool) -> None:
    white = np.random.default_rng(0).normal(size=10 * SAMPLE_RATE)
    heard = over_telephone(white, companded=companded)
    assert len(heard) == len(white)
    hertz, power = welch(heard, SAMPLE_RATE, nperseg=1024, detrend=False)  # pyright: ignore[reportArgumentType]

    def mean(low: float, high: float) -> float:
        return float(power[(hertz >= low) & (hertz <= high)].mean())

    passed = mean(500, 3000)
    assert decibels(mean(400, 3200) / passed) == pytest.approx(0, abs=0.5)
    # Companding adds its own distortion to all of the line's band, some 37 dB below speech.
    assert decibels(mean(0, 80) / passed) < (-30 if companded else -40)
    assert decibels(mean(4300, 8000) / passed) < -60


def test_a_telephone_keeps_what_is_said_in_its_place() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE) * (np.arange(SAMPLE_RATE) > 8000)
    heard = over_telephone(tone, companded=True)
    loud = np.flatnonzero(np.abs(heard) > 0.2 * np.abs(heard).max())
    assert loud[0] / SAMPLE_RATE == pytest.approx(0.5, abs=0.003)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_mu_law_has_its_known_distortion_whatever_the_level(level: float) -> None:
    """8 bits of mu-law give a nearly constant ratio to their own distortion: 10 lg(3 * 128^2 / ln(256)^2) = 32 dB at
    the least where samples are loud, up to 38 dB as in G.711's mask."""
    tone = level * np.sqrt(2) * np.sin(2 * np.pi * 0.123456 * np.arange(50_000))
    ratio = decibels(sound(tone) / sound(mu_law(tone) - tone))
    assert 33 < ratio < 39
    assert len(np.unique(mu_law(np.linspace(-2, 2, 100_001)))) == 255
    assert np.abs(mu_law(np.array([-3.0, 0.0, 3.0]))).tolist() == pytest.approx([1, 0, 1])


@pytest.mark.parametrize("factor", SPEED)
def test_faster_speech_is_shorter_and_higher(factor: float) -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)
    heard = at_speed(tone, factor)
    assert len(heard) == pytest.approx(len(tone) / factor, abs=2)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    loudest = np.argmax(spectrum) * SAMPLE_RATE / len(heard)
    assert loudest == pytest.approx(500 * factor, abs=1)


def test_a_clip_has_always_the_same_conditions_and_another_one_others() -> None:
    one, what = drawn()
    again, same = drawn()
    assert what == same
    assert one.tobytes() == again.tobytes()
    assert drawn(seed=1)[0].tobytes() != one.tobytes()
    assert drawn("train-001")[0].tobytes() != one.tobytes()


def test_further_kinds_leave_what_was_drawn_of_the_others() -> None:
    for number in range(20):
        name = f"train-{number:03d}"
        _, every = drawn(name)
        for kind in ALL:
            alone = drawn(name, kinds=(kind,))[1]
            assert alone == {key: value for key, value in every.items() if key == kind}


def test_a_larger_share_only_adds_clips() -> None:
    for number in range(20):
        few, many = (drawn(f"train-{number:03d}", share=share)[1] for share in (0.3, 0.7))
        assert few.items() <= many.items()


def test_each_kind_applies_to_its_share_of_clips_independently() -> None:
    count, share = 300, 0.3
    tone = PHRASE[:: len(PHRASE) // 2000].copy()
    found = np.array(
        [
            [kind in heard_in(tone, f"train-{n}", Conditions(ALL, share, RATIOS, 0))[1] for kind in ALL]
            for n in range(count)
        ]
    )
    deviation = np.sqrt(share * (1 - share) / count)
    assert np.abs(found.mean(axis=0) - share).max() < 4 * deviation
    together = np.corrcoef(found.T)[np.triu_indices(len(ALL), 1)]
    assert np.abs(together).max() < 4 / np.sqrt(count)
    assert not drawn(share=0.0)[1]
    assert set(drawn(share=1.0)[1]) == set(ALL)


def test_what_is_drawn_is_within_its_limits_and_nothing_clips() -> None:
    kinds = set()
    for number in range(24):
        heard, what = drawn(f"train-{number:03d}", share=1.0)
        assert heard.dtype == np.float32
        assert np.abs(heard).max() <= 0.99
        assert np.sqrt(sound(heard)) <= LEVEL[1] * 1.0001
        assert SPEED[0] <= what["speed"] <= SPEED[1]
        assert REVERBERATION_SECONDS[0] <= what["room"]["reverberation_seconds"] <= REVERBERATION_SECONDS[1]
        assert DIRECT_TO_REVERBERANT[0] <= what["room"]["direct_to_reverberant"] <= DIRECT_TO_REVERBERANT[1]
        assert RATIOS[0] <= what["noise"]["signal_to_noise"] <= RATIOS[1]
        kinds |= {what["noise"]["noise"], what["telephone"]}
    assert kinds == {"coloured", "white", "babble", "mu-law", "linear"}


def test_a_peak_is_turned_down_rather_than_clipped() -> None:
    click = np.zeros(SAMPLE_RATE)
    click[5000] = 1
    heard, _ = heard_in(click, "train-000", Conditions((), 0.0, RATIOS, 0))
    assert heard.max() == pytest.approx(0.99)
    assert np.count_nonzero(heard) == 1


def test_clean_speech_is_as_it_was_but_for_its_level() -> None:
    heard, what = drawn(kinds=())
    assert not what
    assert np.corrcoef(heard, PHRASE)[0, 1] == pytest.approx(1, abs=1e-6)
    assert LEVEL[0] <= np.sqrt(sound(heard)) <= LEVEL[1]


def test_the_order_of_the_kinds_in_the_settings_does_not_matter() -> None:
    assert drawn(kinds=ALL[::-1])[0].tobytes() == drawn()[0].tobytes()
