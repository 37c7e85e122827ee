"""Damaged files end with a result or a sentence, in bounded time and memory, and touch no other.

`python -m tools.fuzz` puts 20,000 of each kind to the readers; here are the first 250.
"""

import pytest

from tools import fuzz


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["model", "image"])
def test_damaged_files(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = fuzz.fuzz(kind, 250, 0, tmp_path)
    assert outcomes.total() == 250 and min(outcomes["read"], outcomes["refused"]) > 25
