"""Stored states as they are compared: paired, thinned, in one space."""

import numpy as np
import pytest

from core.alignment.states import PairedStates, in_one_space, thinned, utterance_means


def paired(counts: tuple[int, ...]) -> PairedStates:
    random = np.random.default_rng(1)
    total = sum(counts)
    sides = [random.normal(size=(total, 3)).astype(np.float32) for _ in range(2)]
    utterance = np.repeat(np.arange(len(counts)), counts)
    return PairedStates(sides[0], sides[1], utterance, np.concatenate([np.arange(count) for count in counts]))


def test_the_mean_of_an_utterance_is_that_of_its_own_points() -> None:
    states = paired((2, 5, 1))
    means = utterance_means(states)
    for number, (first, last) in enumerate([(0, 2), (2, 7), (7, 8)]):
        assert means.student[number] == pytest.approx(states.student[first:last].mean(axis=0), abs=1e-6)
        assert means.teacher[number] == pytest.approx(states.teacher[first:last].mean(axis=0), abs=1e-6)


def test_thinning_keeps_every_utterances_share_and_pairs_together() -> None:
    states = paired((400, 200, 100))
    places, by = thinned(states.utterance, 70)
    fewer = states.at(places)
    assert by == "utterance"
    assert np.bincount(fewer.utterance) == pytest.approx([40, 20, 10], abs=1)
    assert np.array_equal(fewer.teacher, states.teacher[places])
    assert np.array_equal(fewer.moment, states.moment[places])
    assert np.array_equal(thinned(states.utterance, 700)[0], np.arange(700))


def test_every_speaker_keeps_its_share_however_its_utterances_lie() -> None:
    utterance = np.repeat(np.arange(90), 7)
    speakers = [f"s{number % 3}" if number < 60 else "s9" for number in range(90)]
    places, by = thinned(utterance, 63, speakers=speakers)
    kept = [speakers[number] for number in utterance[places]]
    assert by == "speaker"
    assert {name: kept.count(name) for name in set(speakers)} == pytest.approx(
        {"s0": 14, "s1": 14, "s2": 14, "s9": 21}, abs=1
    )


def test_speakers_that_are_not_all_known_are_no_strata() -> None:
    assert thinned(np.arange(3), 2, speakers=["a", None, "b"])[1] == "utterance"


def test_states_of_one_width_are_seen_from_the_teachers_mean() -> None:
    random = np.random.default_rng(2)
    student, teacher, mean = random.normal(size=(5, 3)), random.normal(size=(5, 3)), random.normal(size=3)
    mine, theirs, how = in_one_space(student, teacher, mean=mean)
    assert how == "same space"
    assert mine[2] == pytest.approx(student[2] - mean)
    assert theirs[2] == pytest.approx(teacher[2] - mean)


def test_a_turn_into_another_width_keeps_distances_within_the_student() -> None:
    random = np.random.default_rng(3)
    student, teacher = random.normal(size=(9, 3)), random.normal(size=(9, 5))
    mine, theirs, how = in_one_space(student, teacher, mean=np.zeros(5))
    assert how == "orthogonal Procrustes"
    assert mine.shape == theirs.shape == (9, 5)
    assert np.linalg.norm(mine[0] - mine[4]) == pytest.approx(np.linalg.norm(student[0] - student[4]), rel=1e-5)
