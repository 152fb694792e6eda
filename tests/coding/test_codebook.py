"""Code books: printed tables, facts, arguments, encoding."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle
from typing import Any, get_args

import numpy as np
import pytest

from snnc.coding import CodeBook, IllegalCode, Partition
from snnc.errors import UsageError

PARTITIONS: tuple[Partition, ...] = get_args(Partition)
SMALL = [(t, g, p) for t in range(1, 9) for g in range(1, t + 1) for p in PARTITIONS]


def brute_force_patterns(timesteps: int, groups: int, partition: Partition) -> list[tuple[int, ...]]:
    """Every 0/1 pattern of at most one spike per group, from the definition in words."""
    if partition == "interleaved":
        blocks = [[t for t in range(timesteps) if t % groups == g] for g in range(groups)]
    else:
        blocks, start = [], 0
        for g in range(groups):
            length = timesteps // groups + (1 if g < timesteps % groups else 0)
            blocks.append(list(range(start, start + length)))
            start += length
    return [
        s
        for s in itertools.product((0, 1), repeat=timesteps)
        if all(sum(s[t] for t in block) <= 1 for block in blocks)
    ]


def code_of(pattern: tuple[int, ...]) -> int:
    return sum(s * 2 ** (len(pattern) - 1 - t) for t, s in enumerate(pattern))


def as_text(book: CodeBook) -> list[str]:
    return ["".join(map(str, row)) for row in book.patterns.tolist()]


def test_t4_g1_is_the_one_spike_code() -> None:
    for partition in PARTITIONS:
        book = CodeBook(4, 1, partition)
        assert book.codes.tolist() == [0, 1, 2, 4, 8]
        assert as_text(book) == ["0000", "0001", "0010", "0100", "1000"]
        assert book.spikes.tolist() == [0, 1, 1, 1, 1]
        assert (book.twice_midpoints / 2).tolist() == [0.5, 1.5, 3, 6]
        assert (book.magnitude, book.levels, book.comparisons) == (8, 5, 3)


def test_t4_g2_interleaved_table() -> None:
    book = CodeBook(4, 2)
    assert book.codes.tolist() == [0, 1, 2, 3, 4, 6, 8, 9, 12]
    assert as_text(book) == ["0000", "0001", "0010", "0011", "0100", "0110", "1000", "1001", "1100"]
    assert book.spikes.tolist() == [0, 1, 1, 2, 1, 2, 1, 2, 2]
    assert (book.twice_midpoints / 2).tolist() == [0.5, 1.5, 2.5, 3.5, 5, 7, 8.5, 10.5]
    assert (book.magnitude, book.comparisons) == (12, 4)
    assert book.group_of_step == (0, 1, 0, 1)
    assert book.weights.tolist() == [8, 4, 2, 1]


def test_t4_g2_contiguous_table() -> None:
    book = CodeBook(4, 2, "contiguous")
    assert book.codes.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert as_text(book) == ["0000", "0001", "0010", "0100", "0101", "0110", "1000", "1001", "1010"]
    assert (book.twice_midpoints / 2).tolist() == [0.5, 1.5, 3, 4.5, 5.5, 7, 8.5, 9.5]
    assert book.magnitude == 10
    assert book.group_of_step == (0, 0, 1, 1)


def test_t4_g3_and_g4_codes() -> None:
    assert CodeBook(4, 3).codes.tolist() == [*range(9), 10, 12, 14]
    assert CodeBook(4, 3, "contiguous").codes.tolist() == list(range(12))
    for partition in PARTITIONS:
        assert CodeBook(4, 4, partition).codes.tolist() == list(range(16))


def test_first_contiguous_blocks_take_the_remainder() -> None:
    assert CodeBook(8, 3, "contiguous").group_of_step == (0, 0, 0, 1, 1, 1, 2, 2)
    assert CodeBook(8, 3).group_of_step == (0, 1, 2, 0, 1, 2, 0, 1)


@pytest.mark.parametrize(("timesteps", "groups", "partition"), SMALL)
def test_facts_of_the_grid(timesteps: int, groups: int, partition: Partition) -> None:
    book = CodeBook(timesteps, groups, partition)
    legal = sorted(brute_force_patterns(timesteps, groups, partition), key=code_of)
    assert [tuple(row) for row in book.patterns.tolist()] == legal
    assert book.codes.tolist() == [code_of(s) for s in legal]
    sizes = [book.group_of_step.count(g) for g in range(groups)]
    assert book.levels == math.prod(n + 1 for n in sizes)
    assert book.spikes.tolist() == [sum(s) for s in legal]
    assert book.spikes.max() == groups
    assert set(book.codes.tolist()) <= set(range(2**timesteps))
    assert book.comparisons == math.ceil(math.log2(book.levels)) <= timesteps
    assert legal == sorted(legal), "numeric order is lexicographic order"
    assert len(set(book.codes.tolist())) == book.levels
    if timesteps % groups == 0:
        n = timesteps // groups
        assert book.levels == (n + 1) ** groups
        if partition == "contiguous":
            assert book.magnitude * (2**n - 1) == (2**timesteps - 1) * 2 ** (n - 1)
    if partition == "interleaved":
        assert book.magnitude == 2**timesteps - 2 ** (timesteps - groups)


@pytest.mark.parametrize(("timesteps", "groups", "partition"), SMALL)
def test_signed_book_is_the_mirror_image(timesteps: int, groups: int, partition: Partition) -> None:
    plain = CodeBook(timesteps, groups, partition)
    book = CodeBook(timesteps, groups, partition, signed=True)
    assert book.levels == 2 * plain.levels - 1
    assert (book.smallest, book.largest) == (-plain.magnitude, plain.magnitude)
    assert np.array_equal(book.codes, -book.codes[::-1])
    assert np.array_equal(book.patterns, -book.patterns[::-1])
    assert np.array_equal(book.codes[plain.levels - 1 :], plain.codes)
    assert book.comparisons <= timesteps + 1
    rows = [tuple(row) for row in book.patterns.tolist()]
    assert rows == sorted(rows)


def test_largest_books() -> None:
    book = CodeBook(16, 16, signed=True)
    assert book.levels == 2 * 65535 + 1
    assert book.comparisons == 17
    assert CodeBook(16, 16).codes.tolist() == list(range(65536))
    assert CodeBook(16, 8).levels == 3**8
    assert CodeBook(16, 5, "contiguous").levels == 5 * 4**4


def test_restrictions() -> None:
    qcfs = CodeBook(3, 3, largest=4)
    assert qcfs.codes.tolist() == [0, 1, 2, 3, 4]
    assert (qcfs.magnitude, qcfs.max_abs, qcfs.is_uniform) == (7, 4, True)
    int8 = CodeBook(8, 8, signed=True, smallest=-128, largest=127)
    assert int8.codes.tolist() == list(range(-128, 128))
    assert (int8.max_abs, int8.comparisons, int8.dtype.name) == (128, 8, "int8")
    narrow = CodeBook(4, 2, signed=True).restricted(-7, 11)
    assert narrow.codes.tolist() == [-6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 9]
    assert narrow == CodeBook(4, 2, signed=True, smallest=-6, largest=9)
    assert narrow.restricted(-100, 100) == narrow
    lone = CodeBook(1, 1, largest=0)
    assert (lone.levels, lone.comparisons, lone.break_points()) == (1, 0, ())
    assert not CodeBook(4, 2).is_uniform
    assert CodeBook(4, 2, largest=4).is_uniform


@pytest.mark.parametrize(
    ("smallest", "largest", "timesteps", "signed"),
    [
        (0, 255, 8, False),
        (-128, 127, 8, True),
        (-127, 127, 7, True),
        (0, 4, 3, False),
        (0, 0, 1, False),
        (-1, 0, 1, True),
        (-8, 7, 4, True),
        (0, 65535, 16, False),
        (-32768, 32767, 16, True),
        (3, 9, 4, False),
        (-9, -3, 4, True),
    ],
)
def test_uniform_holds_the_range_in_the_fewest_steps(
    smallest: int, largest: int, timesteps: int, signed: bool
) -> None:
    book = CodeBook.uniform(smallest, largest)
    assert (book.timesteps, book.groups, book.signed) == (timesteps, timesteps, signed)
    assert book.codes.tolist() == list(range(smallest, largest + 1))
    assert book.is_uniform


@pytest.mark.parametrize(
    ("book", "dtype"),
    [
        (CodeBook(8, 8), np.uint8),
        (CodeBook(9, 9), np.int16),
        (CodeBook(9, 9, largest=255), np.uint8),
        (CodeBook(7, 7, signed=True), np.int8),
        (CodeBook(8, 4, signed=True), np.int16),
        (CodeBook(15, 15), np.int16),
        (CodeBook(16, 16), np.int32),
        (CodeBook(16, 16, signed=True, smallest=-32768, largest=32767), np.int16),
        (CodeBook(15, 15, signed=True), np.int16),
        (CodeBook(4, 4, signed=True, smallest=0), np.uint8),
    ],
)
def test_stored_type(book: CodeBook, dtype: type[np.generic]) -> None:
    assert book.dtype == dtype
    assert np.array_equal(book.codes.astype(book.dtype), book.codes)


@pytest.mark.parametrize(
    ("code", "name", "arguments"),
    [
        ("SNN201", "timesteps", {"timesteps": 0, "groups": 1}),
        ("SNN201", "timesteps", {"timesteps": 17, "groups": 1}),
        ("SNN201", "timesteps", {"timesteps": 4.0, "groups": 1}),
        ("SNN201", "timesteps", {"timesteps": True, "groups": 1}),
        ("SNN202", "groups", {"timesteps": 4, "groups": 0}),
        ("SNN202", "groups", {"timesteps": 4, "groups": 5}),
        ("SNN202", "groups", {"timesteps": 4, "groups": "2"}),
        ("SNN203", "partition", {"timesteps": 4, "groups": 2, "partition": "diagonal"}),
        ("SNN204", "signed", {"timesteps": 4, "groups": 2, "signed": 2}),
        ("SNN205", "smallest", {"timesteps": 4, "groups": 2, "smallest": -1}),
        ("SNN205", "smallest", {"timesteps": 4, "groups": 2, "signed": True, "smallest": -13}),
        ("SNN205", "largest", {"timesteps": 4, "groups": 2, "largest": 5}),
        ("SNN205", "largest", {"timesteps": 4, "groups": 4, "largest": 16}),
        ("SNN205", "largest", {"timesteps": 4, "groups": 4, "largest": 2.5}),
        ("SNN205", "smallest", {"timesteps": 4, "groups": 4, "smallest": 3, "largest": 2}),
    ],
)
def test_wrong_arguments_are_named(code: str, name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        CodeBook(**arguments)
    assert caught.value.code == code
    assert caught.value.message.startswith(name)


@pytest.mark.parametrize(("smallest", "largest"), [(-65536, 0), (0, 65536), (2, 1), (0.0, 1)])
def test_uniform_refuses_impossible_ranges(smallest: Any, largest: Any) -> None:
    with pytest.raises(UsageError, match=r"smallest|largest") as caught:
        CodeBook.uniform(smallest, largest)
    assert caught.value.code == "SNN205"


@pytest.mark.parametrize(("signed", "kind"), [(True, "signed"), (False, "unsigned")])
def test_a_bound_that_is_no_code_is_told_with_the_kind_of_book(signed: bool, kind: str) -> None:
    with pytest.raises(UsageError, match=f"largest must be a code of the {kind} book, which 5 is not"):
        CodeBook(4, 2, signed=signed, largest=5)


def test_restricted_refuses_an_empty_book() -> None:
    with pytest.raises(UsageError, match="SNN205"):
        CodeBook(4, 2).restricted(10, 11)


def test_equality_hash_and_copies() -> None:
    book = CodeBook(4, 2, "contiguous", signed=True)
    explicit = CodeBook(np.int64(4), 2, "contiguous", True, -10, 10)  # type: ignore[arg-type]
    assert book == explicit
    assert hash(book) == hash(explicit)
    assert book != CodeBook(4, 2, "interleaved", signed=True)
    assert pickle.loads(pickle.dumps(book)) == book == copy.deepcopy(book)
    assert dataclasses.replace(book, largest=9).codes.max() == 9
    with pytest.raises(dataclasses.FrozenInstanceError):
        book.timesteps = 5  # type: ignore[misc]


def test_shared_arrays_are_read_only() -> None:
    book = CodeBook(4, 2)
    for array in (book.codes, book.patterns, book.spikes, book.thresholds()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_attributes_round_trip() -> None:
    book = CodeBook(4, 2, "contiguous", signed=True, smallest=-6)
    attributes = book.to_attributes()
    assert attributes == {
        "timesteps": 4,
        "groups": 2,
        "partition": "contiguous",
        "signed": 1,
        "smallest": -6,
        "largest": 10,
    }
    assert CodeBook.from_attributes(attributes) == book
    assert CodeBook.from_attributes({**attributes, "partition": b"contiguous", "codes": [1]}) == book
    del attributes["signed"]
    with pytest.raises(UsageError, match="signed") as caught:
        CodeBook.from_attributes(attributes)
    assert caught.value.code == "SNN206"


@pytest.mark.parametrize("value", [2, "yes", b"1", None])
def test_attributes_with_a_bad_sign_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match="SNN204"):
        CodeBook.from_attributes({**CodeBook(4, 2).to_attributes(), "signed": value})


def test_encode_and_decode_shapes_and_types() -> None:
    book = CodeBook(4, 2, signed=True)
    codes = np.array([[-12, 0, 9], [1, -3, 12]])
    patterns = book.encode(codes.astype(np.int8))
    assert patterns.shape == (4, 2, 3)
    assert patterns.dtype == np.int8
    assert patterns[:, 0, 0].tolist() == [-1, -1, 0, 0]
    assert patterns[:, 1, 1].tolist() == [0, 0, -1, -1]
    decoded = book.decode(patterns)
    assert decoded.dtype == np.int32
    assert np.array_equal(decoded, codes)
    assert book.spike_count(codes).tolist() == [[2, 0, 2], [1, 2, 2]]
    assert book.spike_count(codes).dtype == np.uint8
    assert book.encode(12).shape == (4,)
    assert book.decode(book.encode(12)) == 12
    assert book.encode(np.zeros((0, 2), np.uint8)).shape == (4, 0, 2)
    assert book.rows(codes).tolist() == [[0, 8, 15], [9, 5, 16]]
    assert book.encode(np.array([3], np.uint8))[:, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    "codes",
    [
        [5],
        [13],
        [-1],
        [0, 1, 7],
        np.array([2**64 - 1], np.uint64),
        np.array([2**32], np.int64),
        [1.0],
        [True],
    ],
)
def test_illegal_codes_are_refused(codes: Any) -> None:
    for method in (CodeBook(4, 2).encode, CodeBook(4, 2).spike_count, CodeBook(4, 2).rows):
        with pytest.raises(IllegalCode, match="SNN310"):
            method(codes)


def test_a_book_of_one_code_refuses_all_others() -> None:
    for book, code in ((CodeBook(1, 1, largest=0), 0), (CodeBook(4, 2).restricted(6, 6), 6)):
        assert book.rows([code, code]).tolist() == [0, 0]
        for other in (code - 1, code + 1, 12):
            with pytest.raises(IllegalCode, match="SNN310"):
                book.rows([code, other])


def test_a_wrapped_around_code_is_refused_by_a_signed_book() -> None:
    with pytest.raises(ValueError, match="SNN310"):
        CodeBook(4, 2, signed=True).encode(np.array([2**64 - 1], np.uint64))


@pytest.mark.parametrize(
    "pattern",
    [
        [1, 0, 1, 0],  # two spikes in the first group
        [0, 0, 0, -1],  # negative in an unsigned book
        [0, 1, 0, -1],  # both signs; adds up to the legal code 3
        [0, 0, 0, 2],
        [0, 0, 1],
        [0.0, 0.0, 0.0, 1.0],
    ],
)
def test_illegal_patterns_are_refused(pattern: list[Any]) -> None:
    with pytest.raises(IllegalCode, match="SNN311"):
        CodeBook(4, 2).decode(np.array(pattern))


def test_one_illegal_pattern_among_legal_ones_is_refused() -> None:
    book = CodeBook(4, 2, signed=True)
    legal = book.encode([3, 0, -6])
    for wrong in ([0, 1, 0, -1], [0, 0, 0, 2], [0, 0, 0, -2], [1, 0, 1, 0]):
        patterns = legal.copy()
        patterns[:, 1] = wrong
        with pytest.raises(IllegalCode, match="SNN311"):
            book.decode(patterns)
    assert book.decode(legal).tolist() == [3, 0, -6]


def test_patterns_outside_the_bounds_are_refused() -> None:
    wide = CodeBook(4, 2)
    with pytest.raises(IllegalCode, match="SNN311"):
        wide.restricted(0, 8).decode(wide.encode([9]))
