"""A folder to train in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.runs import filled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)
