from __future__ import annotations

import random

import pytest

from app.data.dataset.packing import PackCount, pack


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_packed_once_and_fits(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 128) for _ in range(2000)]
    packed = pack(lengths, 128)
    assert sorted(index for row in packed for index in row) == list(range(2000))
    assert all(sum(lengths[index] for index in row) <= 128 for row in packed)
    assert sum(lengths) / (len(packed) * 128) > 0.98


def test_the_best_fit_is_chosen() -> None:
    assert pack([5, 3, 7, 5], 10) == [[2, 1], [0, 3]]
    assert pack([10, 10], 10) == [[0], [1]]
    assert pack([], 10) == []


def test_as_full_as_trl() -> None:
    import pyarrow as pa
    from trl.data_utils import _pack_bfd

    rng = random.Random(0)
    lengths = [rng.randint(1, 300) for _ in range(1000)]
    theirs = _pack_bfd(pa.table({"input_ids": [list(range(length)) for length in lengths]}), 300)
    assert len(pack(lengths, 300)) <= len(theirs)


def test_counting_gives_the_fill() -> None:
    count = PackCount(10, True)
    for length in (5, 3, 7, 5):
        count.add(length)
    assert count.fill() == 1.0 and count.rows == 2
    plain = PackCount(10, False)
    plain.add(5)
    assert plain.fill() == 0.5
    assert PackCount(10, True).fill() == 0.0
