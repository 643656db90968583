"""The figures of a test, as they were when they would have been saved."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that would have been saved."""
    figures: list[Figure] = []
    for chart in ("accuracy", "bit", "frontier", "indicator", "loss", "training"):
        monkeypatch.setattr(f"llt_nncf.plots.{chart}_chart.save_figure", lambda figure, path: figures.append(figure))
    return figures
