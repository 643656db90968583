"""Where the published instance lies."""

from pathlib import Path

import pytest


@pytest.fixture
def fixtures():
    return Path(__file__).parents[1] / "fixtures"
