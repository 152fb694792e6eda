"""Work shared out among cores: the same for any number of them."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from snnc import cores


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_results_come_in_the_order_of_the_parts(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: count)
    for parts in range(10):
        assert cores.over_cores(lambda part: part**2, range(parts)) == [part**2 for part in range(parts)]


def test_several_threads_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 2)
    meeting = threading.Barrier(2, timeout=30)
    assert sorted(cores.over_cores(lambda _: meeting.wait(), range(2))) == [0, 1]


def test_work_may_share_out_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 2)

    def rows(size: int) -> int:
        return sum(cores.over_cores(lambda part: int(np.arange(part).sum()), range(size)))

    assert cores.over_cores(rows, range(6)) == [sum(sum(range(p)) for p in range(n)) for n in range(6)]


@pytest.mark.parametrize("wrong", [0, 3])
def test_an_error_waits_for_the_other_parts(wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cores", lambda: 2)
    done: list[int] = []

    def work(part: int) -> None:
        if part == wrong:
            raise ValueError(part)
        time.sleep(0.02)
        done.append(part)

    with pytest.raises(ValueError, match=str(wrong)):
        cores.over_cores(work, range(4))
    seen = list(done)
    time.sleep(0.1)
    assert done == seen
    assert cores.over_cores(lambda part: part, range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [1, 2])
def test_work_meanwhile_gives_its_result_or_its_error(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(cores, "cores", lambda: count)
    threads: list[threading.Thread] = []

    def work() -> int:
        threads.append(threading.current_thread())
        return 7

    waiting = cores.meanwhile(work)
    assert waiting() == waiting() == 7
    assert (threads == [threading.main_thread()]) == (count == 1)

    def fails() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cores.meanwhile(fails)()
