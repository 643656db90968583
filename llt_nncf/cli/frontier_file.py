"""The file that ``llt-nncf frontier`` writes."""

from pathlib import Path

from llt_nncf.artifacts import load_json
from llt_nncf.artifacts.json_file import parsing
from llt_nncf.artifacts.json_file import typed
from llt_nncf.cost import AXES

FRONTIER_SCHEMA = "llt_nncf.frontier/1"


def load_frontier(path: Path | str) -> tuple[list[str], list[tuple[float, ...]]]:
    """
    Loads the points at which a policy was found.

    :param path: The file.
    :return: The names of the axes, and for every point its value on each axis and the objective.
    :raises ArtifactError: If the file is missing or malformed.
    """
    content = load_json(path, FRONTIER_SCHEMA)
    with parsing(path, "a frontier"):
        axes = [typed(axis, str) for axis in typed(content["axes"], list)]
        if len(axes) not in (1, 2) or not set(axes) <= set(AXES):
            msg = f"its axes are {axes}, and must be one or two of {', '.join(AXES)}"
            raise ValueError(msg)
        points = [
            (*(typed(point["at"][axis], float) for axis in axes), typed(point["objective"], float))
            for point in typed(content["points"], list)
            if point["objective"] is not None
        ]
    return axes, points
