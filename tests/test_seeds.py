"""Named streams: the same everywhere, and none disturbs another."""

import torch

from core.seeds import stream, stream_seed


def test_a_stream_has_the_same_seed_on_every_machine() -> None:
    # The first 8 bytes of sha256("0:order") and sha256("7:adapters"), by `printf 0:order | sha256sum`, halved.
    assert stream_seed(0, "order") == 0x23EAF8BFB83FDE6D >> 1
    assert stream_seed(7, "adapters") == 0x956ACF12E07F0D21 >> 1


def test_seeds_and_names_make_streams_of_their_own() -> None:
    seeds = {stream_seed(seed, name) for seed in range(50) for name in ("order", "adapters", "noise")}
    assert len(seeds) == 150
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_stream_begins_again_with_the_same_numbers() -> None:
    assert torch.equal(torch.rand(5, generator=stream(3, "order")), torch.rand(5, generator=stream(3, "order")))
    assert not torch.equal(torch.rand(5, generator=stream(3, "order")), torch.rand(5, generator=stream(3, "noise")))


def test_reading_one_stream_changes_neither_another_nor_the_global_one() -> None:
    other = stream(0, "other")
    expected = torch.rand(3, generator=stream(0, "other"))
    before = torch.random.get_rng_state()
    torch.rand(100, generator=stream(0, "order"))
    assert torch.equal(torch.rand(3, generator=other), expected)
    assert torch.equal(torch.random.get_rng_state(), before)
