"""What is kept of the real tiny.en on generated speech, and what is lost by keeping less."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.audio import read_audio
from core.cache import Cache, Recipe
from core.cache.targets import (
    enough_tokens,
    held_mass,
    packed_states,
    top_entry,
    top_teacher,
    unpacked_states,
)
from core.families.whisper import Whisper
from core.fused_head import LiveTeacher, Wanted
from core.sources import Utterance
from tests.engine import tiny_en, utterances
from tests.test_fused_head import head_means

TEMPERATURES = (1.0, 2.0)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Utterance, Tensor]]:
    """Return utterances with the teacher's last decoder states at their valid tokens."""
    model = Whisper(tiny_en(), language="en")
    clips = utterances(tmp_path_factory.mktemp("speech"), train=3)
    found = []
    with torch.no_grad():
        for clip in clips:
            encoded = model.encode_rest(model.encode_start(model.mel([read_audio(clip.audio_path)], 8.0), 0), 0)[3]
            batch = model.collate([model.tokens(clip.text or "")], [clip.duration], 8.0)
            found.append((clip, model.decode(encoded, batch.inputs)[3][0][batch.token_mask[0]].clone()))
    return found


@pytest.fixture(scope="module")
def vocabulary() -> Tensor:
    return Whisper(tiny_en(), language="en").vocabulary.detach()


def test_a_second_of_speech_takes_less_than_half_a_kibibyte(
    spoken: list[tuple[Utterance, Tensor]], vocabulary: Tensor, tmp_path: Path
) -> None:
    logits = torch.cat([states @ vocabulary.T for _, states in spoken])
    count, mass = enough_tokens(logits, mass=0.95)
    assert count <= 32
    assert mass >= 0.95
    made = [top_entry(states @ vocabulary.T, count=count, temperatures=TEMPERATURES) for _, states in spoken]
    # As a job keeps them, many to a shard: the same utterances under many names.
    many = {f"{clip:032d}": entry for clip, entry in enumerate(made * 20)}
    Cache(tmp_path).shelf(Recipe("tiny.en", "1", "top tokens", {"count": count, "mass": mass})).write(many)
    (record,) = Cache(tmp_path).records()
    seconds = 20 * sum(clip.duration for clip, _ in spoken)
    assert record.size / seconds <= 512


def test_the_divergence_from_what_is_kept_is_nearly_that_from_all(
    spoken: list[tuple[Utterance, Tensor]], vocabulary: Tensor
) -> None:
    theirs = torch.cat([states for _, states in spoken])
    kept = [top_entry(states @ vocabulary.T, count=32, temperatures=TEMPERATURES) for _, states in spoken]
    generator = torch.Generator().manual_seed(0)
    for temperature in TEMPERATURES:
        mine = (theirs + theirs.std() / 4 * torch.randn(theirs.shape, generator=generator)).requires_grad_()
        wanted = [Wanted(0.0, 1.0, temperature)]
        (whole,) = head_means([mine], vocabulary, wanted=wanted, teacher=LiveTeacher(theirs, vocabulary))
        top = top_teacher(kept, temperature=temperature, temperatures=TEMPERATURES)
        (part,) = head_means([mine], vocabulary, wanted=wanted, teacher=top)
        whole_slope, part_slope = (torch.autograd.grad(terms.soft_labels, mine)[0] for terms in (whole, part))
        # Less is lost where the top tokens hold more of the probability.
        mass = np.mean([held_mass(one, temperature=temperature, temperatures=TEMPERATURES) for one in kept])
        less, all_of_it = float(part.soft_labels.detach()), float(whole.soft_labels.detach())
        assert less <= 1.01 * all_of_it
        assert less == pytest.approx(all_of_it, rel=0.02 + 2 * (1 - float(mass)))
        cosine = torch.nn.functional.cosine_similarity(part_slope.flatten(), whole_slope.flatten(), dim=0)
        assert float(cosine) > 0.9


def test_top_tokens_are_the_softened_distributions_own(vocabulary: Tensor) -> None:
    logits = 3 * torch.randn(5, 400, generator=torch.Generator().manual_seed(0))
    entry = top_entry(logits, count=16, temperatures=TEMPERATURES)
    for temperature in TEMPERATURES:
        teacher = top_teacher([entry], temperature=temperature, temperatures=TEMPERATURES)
        expected = (logits / temperature).log_softmax(dim=-1).gather(1, teacher.tokens)
        torch.testing.assert_close(teacher.log_probabilities, expected, atol=5e-3, rtol=0)
        held = float(expected.exp().sum(dim=-1).mean())
        assert held_mass(entry, temperature=temperature, temperatures=TEMPERATURES) == pytest.approx(held, abs=2e-3)


def test_more_tokens_are_kept_where_probability_is_spread() -> None:
    sharp = torch.zeros(4, 300)
    sharp[:, 7] = 12.0
    assert enough_tokens(sharp, mass=0.9)[0] == 8
    count, held = enough_tokens(torch.zeros(4, 300), mass=0.2)
    assert count == 64
    assert held == pytest.approx(64 / 300)
    # No number is enough: the largest, and the share that it holds, honestly.
    assert enough_tokens(torch.zeros(4, 300), mass=0.9) == (128, pytest.approx(128 / 300))


@pytest.mark.parametrize(("precision", "error", "size"), [("bfloat16", 2**-8, 2), ("int8", 1 / 127, 1)])
def test_states_come_back_nearly_as_they_were(
    spoken: list[tuple[Utterance, Tensor]], precision, error: float, size: int
) -> None:
    states = spoken[0][1]
    entry = packed_states(states, precision)
    back = unpacked_states(entry)
    largest = states.abs().amax(dim=-1, keepdim=True)
    assert back.shape == states.shape
    assert bool(((back - states).abs() <= error * largest).all())
    assert entry["states"].nbytes == states.numel() * size
