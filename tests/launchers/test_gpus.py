import pytest

from core.launchers.gpus import chosen, parsed

TWO = """GPU 0: NVIDIA H200 (UUID: GPU-aaaa1111-0000)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb2222-0000)
"""

SPLIT = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000)
  MIG 3g.20gb     Device  0: (UUID: MIG-cccc3333-0000)
  MIG 3g.20gb     Device  1: (UUID: MIG-dddd4444-0000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222-0000)
"""

A, B = "GPU-aaaa1111-0000", "GPU-bbbb2222-0000"
C, D = "MIG-cccc3333-0000", "MIG-dddd4444-0000"


def test_the_list_of_gpus_is_read_with_the_parts_of_those_that_are_split() -> None:
    assert parsed(TWO) == [[A], [B]]
    assert parsed(SPLIT) == [[C, D], [B]]
    assert parsed("No devices were found\n") == []
    assert parsed("") == []


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, [A, B]),
        ("", []),
        ("0", [A]),
        ("1", [B]),
        ("1,0", [B, A]),
        (" 1 , 0 ", [B, A]),
        ("2", []),
        ("-1", []),
        ("0,-1,1", [A]),
        ("0,7,1", [A]),
        ("1,1", [B]),
        (B, [B]),
        ("GPU-bbbb", [B]),
        ("GPU-bbbb,GPU-aaaa", [B, A]),
        ("GPU-none", []),
        ("none", []),
    ],
)
def test_the_environment_is_read_as_cuda_reads_it(visible: str | None, found: list[str]) -> None:
    assert chosen(parsed(TWO), visible) == found


@pytest.mark.parametrize(("visible", "found"), [(None, [C, D, B]), (D, [D]), ("1", [B]), ("0", [C, D])])
def test_parts_of_a_gpu_stand_in_its_place(visible: str | None, found: list[str]) -> None:
    assert chosen(parsed(SPLIT), visible) == found
