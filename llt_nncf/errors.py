"""Every error that the package raises on purpose; each also derives from the builtin that callers may already catch."""

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager


class LltError(Exception):
    """Base of all errors of this package: ``except LltError`` catches every one and nothing else."""


class InvalidBitWidthError(LltError, ValueError):
    """A bit-width outside the supported range, or one that a quantizer does not hold."""


class InvalidTensorError(LltError, ValueError):
    """A tensor of the wrong shape, of no elements, or with NaN or infinity where numbers are needed."""


class ArtifactError(LltError, ValueError):
    """A JSON artifact that is missing, malformed, of another schema version, or inconsistent."""


class InvalidIndicatorError(LltError, ValueError):
    """An importance indicator that is missing, NaN, infinite or negative."""


class BudgetError(LltError, ValueError):
    """A budget that names no limit, or a limit that makes no sense."""


class InfeasibleBudgetError(BudgetError):
    """A budget that no policy meets; the text names the smallest reachable value."""


class SearchOptionError(LltError, ValueError):
    """An option of the search that is out of range, or a restriction that leaves a layer without bits."""


class SearchNotProvenError(LltError, RuntimeError):
    """The search stopped, by a limit of time or a failure of the solver, before it had proved the optimum."""


class ConfigError(LltError, ValueError):
    """One or more faults in the ``llt_quantization`` section; all are reported at once, with their key paths."""


class RegistrationError(LltError, ImportError):
    """The algorithm was registered too late, or with a version of NNCF that it does not support."""


class MissingDependencyError(LltError, ImportError):
    """A package that an option needs is not installed; the text says how to install it."""


class MissingInitArgsError(LltError, ValueError):
    """Training at initialisation lacks a data loader, a criterion, or batches from its loader."""


class TrainingDivergedError(LltError, RuntimeError):
    """The loss of a training became NaN or infinite."""


class RankExchangeError(LltError, RuntimeError):
    """Another process of the same training has ended, or does not answer."""


class DataParallelError(LltError, RuntimeError):
    """The model runs in ``torch.nn.DataParallel`` on several devices."""


class StageError(LltError, RuntimeError):
    """A stage was asked for before the one that it depends on was done."""


class ExportError(LltError, ValueError):
    """A model that cannot be written exactly; the text names the node."""


class ValidationOptionError(LltError, ValueError):
    """An option of the validation that is out of range."""


class ValidationFailedError(LltError, RuntimeError):
    """The exported model disagrees with its reference by more than the threshold."""


@contextmanager
def located(where: object) -> Iterator[None]:
    """
    Puts ``where``, a file or a key, in front of the text of this package's errors.

    >>> with located("policy.json"):
    ...     raise StageError("There is no policy.")
    Traceback (most recent call last):
    llt_nncf.errors.StageError: policy.json: There is no policy.

    :raises LltError: Of the same class as the one that was raised inside.
    """
    try:
        yield
    except LltError as error:
        msg = f"{where}: {error}"
        raise type(error)(msg) from error


def some_of(items: Sequence[str], most: int, separator: str = ", ") -> str:
    """
    Joins the first ``most`` of what is at fault, and counts the rest.

    >>> some_of(["a", "b", "c"], 2), some_of(["a", "b", "c"], 2, "; ")
    ('a, b and 1 more', 'a; b; and 1 more')
    """
    shown = separator.join(items[:most])
    left = len(items) - most
    return f"{shown}{separator.strip(', ')} and {left} more" if left > 0 else shown
