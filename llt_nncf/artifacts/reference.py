"""What PyTorch computed, for validation without PyTorch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import numpy as np

from llt_nncf.artifacts.file_reading import reading
from llt_nncf.artifacts.json_file import write_atomically
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import located

_SCHEMA = "llt_nncf.reference/2"
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
        ``M <= N`` inputs, each run by itself, shape ``(M, ...)``, in the order of the forward pass. The second,
        third... call of quantizer ``name`` in a pass is ``name#1``, ``name#2``.
    :param ties: Tap to its elements, bool in its shape, that were so near to the middle between two codes that the
        rounding errors of float sums decided; a tap that is not named has none.
    :param weight_digests: Layer to the ``weight_digest`` of its frozen weights.
    :raises ArtifactError: If the shapes or types do not fit each other, or values are NaN or infinite.
    """

    inputs: np.ndarray
    logits: np.ndarray
    labels: np.ndarray | None = None
    float_logits: np.ndarray | None = None
    taps: Mapping[str, np.ndarray] = field(default_factory=dict)
    ties: Mapping[str, np.ndarray] = field(default_factory=dict)
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
        faults += self._faults_of_labels()
        if self.float_logits is not None and self.float_logits.shape != self.logits.shape:
            faults.append(f"float_logits has shape {self.float_logits.shape}, logits {self.logits.shape}")
        for name, codes in self.taps.items():
            if codes.dtype != np.uint8 or codes.ndim == 0 or not 0 < len(codes) <= count:
                faults.append(f"tap {name!r} is {codes.dtype} of shape {codes.shape}")
        if len({len(codes) for codes in self.taps.values() if codes.ndim}) > 1:
            faults.append("the taps have different numbers of samples")
        for name, ties in self.ties.items():
            if name not in self.taps or ties.dtype != np.bool_ or ties.shape != self.taps[name].shape:
                faults.append(f"ties {name!r} are {ties.dtype} of shape {ties.shape}")
        if faults:
            raise ArtifactError("Reference: " + "; ".join(faults) + ".")

    def _faults_of_labels(self) -> list[str]:
        if self.labels is None or self.labels.size == 0 or self.logits.ndim != 2 or self.logits.shape[1] < 2:
            return []  # without classes nothing is made of them
        lowest, highest, count = int(self.labels.min()), int(self.labels.max()), self.logits.shape[1]
        if lowest >= 0 and highest < count:
            return []
        return [f"labels are from {lowest} to {highest}, and the model has {count} classes, 0 to {count - 1}"]

    @property
    def num_tap_samples(self) -> int:
        """How many inputs have codes; 0 without taps."""
        return len(next(iter(self.taps.values()))) if self.taps else 0

    def save(self, path: Path | str) -> Path:
        """Saves everything as one ``.npz`` file, atomically."""
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        # Names of quantizers may hold characters that a zip member must not.
        arrays |= {f"tap_{i}": codes for i, codes in enumerate(self.taps.values())}
        arrays |= {f"ties_{i}": np.packbits(self.ties[name]) for i, name in enumerate(self.taps) if name in self.ties}
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
        with reading(path, "a reference"):
            # np.load would leave a file open that it cannot read. What is no array in it comes as bytes.
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: np.asarray(file[name]) for name in file.files}
            header = json.loads(str(arrays.pop("header")))
            schema = header["schema"]
            if schema == _SCHEMA:
                digests = {str(name): str(digest) for name, digest in header["weight_digests"].items()}
                names = [str(name) for name in header["taps"]]
                taps = {name: arrays.pop(f"tap_{i}") for i, name in enumerate(names)}
                packed = {name: arrays.pop(f"ties_{i}") for i, name in enumerate(names) if f"ties_{i}" in arrays}
                ties = {
                    name: np.unpackbits(bits, count=taps[name].size).reshape(taps[name].shape).astype(bool)
                    for name, bits in packed.items()
                }
        if schema != _SCHEMA or not {"inputs", "logits"} <= set(arrays) <= set(_ARRAYS):
            msg = f"{path}: schema {schema!r} with arrays {sorted(arrays)}; must be {_SCHEMA!r} with inputs and logits."
            msg += " Record it again with this version of llt_nncf."
            raise ArtifactError(msg)
        with located(path):
            return cls(**arrays, taps=taps, ties=ties, weight_digests=digests)
