"""recode: exact where the code holds all levels, else near the range and never silent."""

from __future__ import annotations

import numpy as np
import pytest

from snnc.coding import CodeBook
from snnc.errors import UsageError
from snnc.ir import attributes, constant
from snnc.ops import attach_functions
from snnc.passes.recognise import Recode, RecodeExactly
from snnc.passes.recognise.uniform import quantise_attributes


def model_of(parse, book, ties="even", step=0.25):
    listed = ", ".join(
        f"{key} = {list(value) if not isinstance(value, str | int) else repr(value)}"
        for key, value in quantise_attributes(book, ties).items()
    ).replace("'", '"')
    model = parse(
        f"g (float[N, 3] x) => (float[N, 3] y) <float s = {{{step}}}> {{ y = "
        f"ai.snnc.Quantise<{listed}>(x, s) }}"
    )
    attach_functions(model)
    return model


def book_of(model):
    return CodeBook.from_attributes(attributes(model.graph[0]))


@pytest.mark.parametrize(
    ("book", "timesteps", "expected"),
    [
        (CodeBook.uniform(0, 255), 8, None),
        (CodeBook.uniform(-128, 127), 8, None),
        (CodeBook.uniform(-131, 124), 8, None),
        (CodeBook.uniform(0, 15), 8, CodeBook(8, 8, largest=15)),
        (CodeBook.uniform(0, 8), 4, None),
        (CodeBook.uniform(-3, 15), 5, CodeBook(5, 5, signed=True, smallest=-3, largest=15)),
    ],
)
def test_exact_where_the_code_holds_all_levels(parse, check, book, timesteps, expected):
    model = model_of(parse, book)
    result = check(RecodeExactly(timesteps, timesteps), model, spread=9.0)
    assert not Recode(timesteps, timesteps).run(model).rewrites
    assert bool(result.rewrites) == (expected is not None)
    assert book_of(model) == (expected or book)
    assert attributes(model.graph[0])["ties"] == "even"
    assert constant(model.graph[0].inputs[1]) == np.float32(0.25)


@pytest.mark.parametrize(
    ("book", "timesteps", "groups", "low", "high"),
    [
        (CodeBook.uniform(0, 255), 4, 2, 0, 12),
        (CodeBook.uniform(0, 15), 4, 2, 0, 12),
        (CodeBook.uniform(0, 15), 4, 1, 0, 8),
        (CodeBook.uniform(-128, 127), 4, 2, -12, 12),
        (CodeBook.uniform(0, 8), 3, 3, 0, 7),
    ],
)
def test_approximate(parse, evaluate, random_feeds, book, timesteps, groups, low, high):
    model = model_of(parse, book, step=4.0 / book.max_abs)
    feeds = random_feeds(model, batch=400, spread=1.3)
    before = evaluate(model, feeds)["y"]
    result = Recode(timesteps, groups).run(model)
    after = evaluate(model, feeds)["y"]
    new = book_of(model)
    assert (new.timesteps, new.groups, new.smallest, new.largest) == (timesteps, groups, low, high)
    assert attributes(model.graph[0])["ties"] == "away"
    assert result.notes[0].startswith(f"y: {book.levels} levels become {new.levels}, the step grows by")
    # A quantiser of these few levels, at a good step, keeps most of a normal signal.
    signal = np.maximum(before, 0) if low == 0 else before
    assert np.mean((after - signal) ** 2) < 0.1 * np.mean(signal**2)
    assert not Recode(timesteps, groups).run(model).rewrites


def test_uneven_ranges_stay_uneven(parse):
    """A zero point near one end: the new code is cut at the same value."""
    model = model_of(parse, CodeBook.uniform(-10, 245), step=0.02)
    Recode(4, 4).run(model)
    book, step = book_of(model), float(constant(model.graph[0].inputs[1]))
    assert book.signed and abs(book.smallest * step + 10 * 0.02) <= step / 2
    assert book.largest == 15


def test_partition(parse):
    model = model_of(parse, CodeBook.uniform(0, 15))
    result = RecodeExactly(4, 2, "contiguous").run(model)
    assert not result.rewrites and "lacks some of its codes" in result.not_matched[0].reason
    Recode(4, 2, "contiguous").run(model)
    assert book_of(model) == CodeBook(4, 2, "contiguous")
    # Asked for nothing, a book keeps its partition too.
    assert not RecodeExactly().run(model).rewrites and not Recode().run(model).rewrites


def test_missing_options(parse):
    same = model_of(parse, CodeBook.uniform(0, 15))
    assert not RecodeExactly().run(same).rewrites
    RecodeExactly(timesteps=6).run(same)
    assert book_of(same) == CodeBook(6, 6, largest=15)
    Recode(groups=2).run(same)
    assert (book_of(same).timesteps, book_of(same).groups) == (6, 2)


def test_signed_book_of_positive_codes_becomes_unsigned(parse):
    model = model_of(parse, CodeBook(7, 7, signed=True, smallest=0, largest=127))
    RecodeExactly().run(model)
    assert book_of(model) == CodeBook(7, 7)


def test_groups_are_at_most_the_time_steps_of_a_code(parse):
    """A spike of one time-step beside codes of eight: G = 4 is for those that have as many."""
    model = model_of(parse, CodeBook.uniform(0, 1))
    Recode(None, 4).run(model)
    assert book_of(model) == CodeBook(1, 1)


def test_illegal_options(parse):
    with pytest.raises(UsageError, match="SNN202"):
        Recode(4, 5).run(model_of(parse, CodeBook.uniform(0, 15)))


def test_a_step_that_is_computed_keeps_the_code(parse):
    model = model_of(parse, CodeBook.uniform(-8, 7))
    step = model.graph[0].inputs[1]
    model.graph.inputs.append(step)
    result = Recode(timesteps=2, groups=2).run(model)
    assert [entry.reason for entry in result.not_matched] == ["its step is not constant"]
    assert book_of(model) == CodeBook.uniform(-8, 7)
