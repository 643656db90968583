"""How good the engines are on somebody's own samples, and how often they agree with each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from llt_nncf.errors import ArtifactError
from llt_nncf.validation.accuracy_function import AccuracyFunction
from llt_nncf.validation.accuracy_function import figures_of
from llt_nncf.validation.compare import has_classes
from llt_nncf.validation.compare import top_1
from llt_nncf.validation.runners import Runner
from llt_nncf.validation.sample_data import SampleData


def check_data(
    runners: Mapping[str, Runner],
    data: SampleData,
    accuracy_function: AccuracyFunction | None,
    *,
    sample_shape: tuple[int, ...],
    batch_size: int,
) -> dict[str, Any]:
    """
    Runs all samples batch by batch.

    :param runners: Engine to loaded model.
    :param data: The samples.
    :param accuracy_function: Gets the outputs for all samples, which are kept for it; without one, it is the share of
        samples whose largest output is at the label.
    :param sample_shape: Shape of one input.
    :param batch_size: Inputs in one run.
    :return: Number of samples, the figures of every engine, and the share of equal top-1 between two engines.
    :raises ArtifactError: If the samples cannot be read, or their labels do not fit the outputs.
    :raises ValidationFailedError: If an engine or the function fails.
    """
    samples = elements = equal = 0
    right = dict.fromkeys(runners, 0)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in runners}
    kept_labels: list[np.ndarray] = []
    labels = None
    for inputs, labels in data.batches(batch_size, sample_shape=sample_shape):
        outputs = {name: runner.run(inputs) for name, runner in runners.items()}
        classes = {name: top_1(array) for name, array in outputs.items()}
        first, *others = classes.values()
        samples, elements = samples + len(inputs), elements + first.size
        equal += int(sum((other == first).sum() for other in others))
        if accuracy_function is not None:
            for name, array in outputs.items():
                kept[name].append(array)
            kept_labels += [] if labels is None else [labels]
        elif labels is not None:
            if labels.shape != first.shape or not all(map(has_classes, outputs.values())):
                shape = next(iter(outputs.values())).shape
                msg = f"{data.path}: labels of shape {labels.shape} are no classes for outputs of shape {shape}. "
                msg += "Give an accuracy function that knows what they are."
                raise ArtifactError(msg)
            data.check_classes(labels)
            highest = next(iter(outputs.values())).shape[1] - 1
            if not ((labels >= 0) & (labels <= highest)).all():
                given = f"from {labels.min()} to {labels.max()}"
                msg = f"{data.path}: labels are {given}, and the classes from 0 to {highest}."
                raise ArtifactError(msg)
            for name, found in classes.items():
                right[name] += int((found == labels).sum())
    figures: dict[str, dict[str, float]] = {name: {} for name in runners}
    if accuracy_function is not None:
        all_labels = np.concatenate(kept_labels) if kept_labels else None
        figures = {
            name: figures_of(accuracy_function, np.concatenate(arrays), all_labels) for name, arrays in kept.items()
        }
    elif labels is not None:
        figures = {name: {"accuracy": count / elements} for name, count in right.items()}
    return {"samples": samples, "engines": figures, "agreement": equal / elements if len(runners) == 2 else None}
