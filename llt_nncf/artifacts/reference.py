"""What PyTorch computed, for validation without PyTorch."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import numpy as np

from llt_nncf.artifacts.json_file import write_atomically
from llt_nncf.errors import ArtifactError

_SCHEMA = "llt_nncf.reference/1"
_ARRAYS = ("inputs", "logits", "labels", "float_logits")


def weight_digest(codes: np.ndarray, step_size: np.ndarray) -> str:
    """
    Returns a fingerprint of a layer's integer weights.

    :param codes: int8, in the layout of the layer's weight tensor.
    :param step_size: One, or one per channel; any shape.
    :return: SHA-256 in hexadecimal digits.
    """
    parts = (np.asarray(codes.shape, "<i8"), codes.astype("<i1"), step_size.ravel().astype("<f4"))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


@dataclass(frozen=True)
class Reference:
    """
    Inputs with the outputs of the frozen PyTorch model, and the integers inside it for the first few.

    :param inputs: float32, shape ``(N, ...)``.
    :param logits: Outputs of the frozen model, float32, shape ``(N, ...)``.
    :param labels: Class indices, int64, shape ``(N,)``, or ``None``.
    :param float_logits: Outputs of the float model, in the shape of ``logits``, or ``None``.
    :param taps: Activation quantizer to its uint8 codes (signed ones plus 128, as in the exported file) for the first
        ``M <= N`` inputs, shape ``(M, ...)``, in the order of the forward pass. The second, third... call of quantizer
        ``name`` in a pass is ``name#1``, ``name#2``.
    :param weight_digests: Layer to the ``weight_digest`` of its frozen weights.
    :raises ArtifactError: If the shapes or types do not fit each other, or values are NaN or infinite.
    """

    inputs: np.ndarray
    logits: np.ndarray
    labels: np.ndarray | None = None
    float_logits: np.ndarray | None = None
    taps: Mapping[str, np.ndarray] = field(default_factory=dict)
    weight_digests: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        count = len(self.inputs) if self.inputs.ndim else 0
        faults = ["inputs has no samples"] if not count else []
        for name, array in given.items():
            if array.ndim == 0 or len(array) != count:
                faults.append(f"{name} has shape {array.shape} for {count} inputs")
            wanted = np.dtype(np.int64 if name == "labels" else np.float32)
            if array.dtype != wanted:
                faults.append(f"{name} is {array.dtype} and must be {wanted}")
            elif not np.isfinite(array).all():
                faults.append(f"{name} has NaN or infinite values")
        if self.labels is not None and self.labels.ndim != 1:
            faults.append(f"labels has shape {self.labels.shape} and must have one index per input")
        if self.float_logits is not None and self.float_logits.shape != self.logits.shape:
            faults.append(f"float_logits has shape {self.float_logits.shape}, logits {self.logits.shape}")
        for name, codes in self.taps.items():
            if codes.dtype != np.uint8 or codes.ndim == 0 or not 0 < len(codes) <= count:
                faults.append(f"tap {name!r} is {codes.dtype} of shape {codes.shape}")
        if len({len(codes) for codes in self.taps.values() if codes.ndim}) > 1:
            faults.append("the taps have different numbers of samples")
        if faults:
            raise ArtifactError("Reference: " + "; ".join(faults) + ".")

    @property
    def num_tap_samples(self) -> int:
        """How many inputs have codes; 0 without taps."""
        return len(next(iter(self.taps.values()))) if self.taps else 0

    def save(self, path: Path | str) -> Path:
        """Saves everything as one ``.npz`` file, atomically."""
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        # Names of quantizers may hold characters that a zip member must not.
        arrays |= {f"tap_{i}": codes for i, codes in enumerate(self.taps.values())}
        header = json.dumps({"schema": _SCHEMA, "taps": list(self.taps), "weight_digests": dict(self.weight_digests)})

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, header=np.array(header), **arrays)

        return write_atomically(path, write)

    @classmethod
    def load(cls, path: Path | str) -> "Reference":
        """
        Loads a saved reference.

        :raises ArtifactError: If the file is missing, malformed, of another schema or inconsistent.
        """
        try:
            # np.load would leave a file open that it cannot read.
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop("header")))
            schema, names = header["schema"], header["taps"]
            digests = {str(name): str(digest) for name, digest in header["weight_digests"].items()}
            taps = {str(name): arrays.pop(f"tap_{i}") for i, name in enumerate(names)}
        except FileNotFoundError:
            msg = f"{path}: no such file."
            raise ArtifactError(msg) from None
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            msg = f"{path}: not a reference: {error!r}"
            raise ArtifactError(msg) from error
        if schema != _SCHEMA or not {"inputs", "logits"} <= set(arrays) <= set(_ARRAYS):
            msg = f"{path}: schema {schema!r} with arrays {sorted(arrays)}; must be {_SCHEMA!r} with inputs and logits."
            raise ArtifactError(msg)
        return cls(**arrays, taps=taps, weight_digests=digests)
