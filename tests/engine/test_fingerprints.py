"""Fingerprints: both engines make the same, and every change shows."""

from __future__ import annotations

from array import array

import pytest
import torch

from sucrose.engine import CHUNK_NBYTES, Extents, Strides, get_engine
from sucrose.engine.fingerprints import fingerprint_of

SIZES = [1, 7, 8, 9, 4096, 70_001, CHUNK_NBYTES - 3, CHUNK_NBYTES + 5]


def extents_of(*tensors: torch.Tensor) -> Extents:
    extents = Extents(keep_alive=list(tensors))
    for index, tensor in enumerate(tensors):
        extents.append(tensor.data_ptr(), tensor.nbytes)
        if not tensor.is_contiguous():
            size = tensor.element_size()
            strides = tuple(size * stride for stride in tensor.stride())
            extents.strided.append(Strides(extent=index, shape=tuple(tensor.shape), strides=strides, itemsize=size))
    return extents


def in_both(extents: Extents, pieces: array[int]) -> bytes:
    found = get_engine("native").fingerprint(extents, pieces)
    assert get_engine("reference").fingerprint(extents, pieces) == found
    return found


@pytest.mark.parametrize("nbytes", SIZES)
def test_both_engines_have_the_same_fingerprint_for_each_chunk_of_a_piece(nbytes: int) -> None:
    tensor = torch.randint(0, 256, (nbytes,), dtype=torch.uint8)
    found = in_both(extents_of(tensor), array("Q", [nbytes]))
    content = memoryview(bytes(tensor.tolist()))
    chunks = [content[begin : begin + CHUNK_NBYTES] for begin in range(0, nbytes, CHUNK_NBYTES)]
    assert found == b"".join(map(fingerprint_of, chunks))


def test_pieces_begin_anew_wherever_they_lie() -> None:
    rows = torch.randn(10, 1000)
    whole = in_both(extents_of(rows), array("Q", [3000 * 4]))
    apart = in_both(extents_of(*rows.split(3)), array("Q", [12000] * 4))
    assert whole == apart
    assert len(whole) == 4 * 16


def test_strided_memory_counts_by_its_elements_in_order() -> None:
    turned = torch.randn(150, 900).t()
    every_other = torch.randn(64, 64)[::2, 1::3]
    strided = in_both(extents_of(turned, every_other), array("Q", [600 * 7, 100]))
    packed = in_both(extents_of(turned.contiguous(), every_other.contiguous()), array("Q", [600 * 7, 100]))
    assert strided == packed


def test_empty_extents_have_no_fingerprints() -> None:
    empty, one = torch.empty(0), torch.ones(1)
    assert in_both(extents_of(empty, one, empty), array("Q", [4, 4, 4])) == in_both(extents_of(one), array("Q", [4]))


@pytest.mark.parametrize("bit", [0, 1, 63, 64, 8 * 12345 + 3, 8 * 99999 + 7])
def test_one_flipped_bit_changes_both_halves(bit: int) -> None:
    tensor = torch.zeros(100_000, dtype=torch.uint8)
    before = in_both(extents_of(tensor), array("Q", [100_000]))
    tensor[bit // 8] ^= 1 << bit % 8
    after = in_both(extents_of(tensor), array("Q", [100_000]))
    assert before[:8] != after[:8]
    assert before[8:] != after[8:]


def test_zeros_of_another_length_are_something_else() -> None:
    found = {in_both(extents_of(torch.zeros(n, dtype=torch.uint8)), array("Q", [n])) for n in range(1, 40)}
    assert len(found) == 39


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("pieces", [[], [0], [4, 4]], ids=["none", "of no bytes", "too many"])
def test_sizes_of_pieces_that_do_not_fit_are_refused(engine: str, pieces: list[int]) -> None:
    with pytest.raises(ValueError, match="piece"):
        get_engine(engine).fingerprint(extents_of(torch.ones(3)), array("Q", pieces))
