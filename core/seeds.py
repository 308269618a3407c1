"""Named streams of randomness: each consumer has its own, so that one more consumer changes no other's numbers."""

import hashlib

import torch


def stream_seed(seed: int, name: str) -> int:
    """Return the seed of a named stream, 0 to 2**63 - 1, the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, name: str) -> torch.Generator:
    """Return a generator for a named stream."""
    return torch.Generator().manual_seed(stream_seed(seed, name))
