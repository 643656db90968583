"""``llt-nncf validate out/digits``, ``llt-nncf validate model.onnx --reference reference.npz``"""

import argparse
import sys
from pathlib import Path
from typing import Any

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.errors import ArtifactError
from llt_nncf.validation import load_accuracy_function
from llt_nncf.validation import print_report
from llt_nncf.validation import validate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "model",
        type=Path,
        help="a folder with model.onnx and reference.npz, and, if present, model.xml, float.onnx, policy.json, "
        "layers.json, and NNCF's post-training int8 as nncf_ptq.onnx and nncf_ptq.xml; or model.xml; or model.onnx, "
        "which both engines run then, though OpenVINO leaves out roundings that it keeps in the .xml",
    )
    parser.add_argument("--reference", type=Path, help="reference.npz; needed unless MODEL is a folder that has it")
    parser.add_argument("--policy", type=Path, help="policy.json; by default the one in the folder or in the file")
    parser.add_argument(
        "--data",
        type=Path,
        help="own samples for the engines' accuracy: .npz file with inputs and perhaps labels, or a folder of these",
    )
    parser.add_argument(
        "--accuracy",
        metavar="FILE.py:FUNCTION",
        help="what accuracy on --data is: (outputs, labels) -> number, or dict of numbers; runs the code of the file "
        "(default: share of labels that the largest output hits)",
    )
    parser.add_argument("--min-agreement", type=float, default=0.99, help="least share of equal top-1 (default 0.99)")
    parser.add_argument("--latency-rounds", type=int, default=50, help="interleaved timing rounds, 0 for none")
    parser.add_argument("--benchmark-app", action="store_true", help="run OpenVINO's benchmark_app on the files too")
    parser.add_argument("--require-int8", action="store_true", help="fail if an engine runs a layer in float")
    parser.add_argument("--report", type=Path, help="where the report goes (default FOLDER/report.json, if a folder)")


def run(options: argparse.Namespace) -> int:
    """Validates, prints the report, and returns 1 if it did not pass."""
    files = _files(options)
    if options.accuracy is not None and options.data is None:
        msg = "--accuracy says what accuracy on --data is: give --data too."
        raise ArtifactError(msg)
    report = validate(
        **files,
        data=options.data,
        accuracy_function=None if options.accuracy is None else load_accuracy_function(options.accuracy),
        min_agreement=options.min_agreement,
        require_int8=options.require_int8,
        latency_rounds=options.latency_rounds,
        benchmark_app=options.benchmark_app,
    )
    print_report(report)
    if options.report is not None:
        report.save(options.report)
    elif options.model.is_dir():
        try:
            report.save(options.model / "report.json")
        except OSError as error:  # a folder that others have deployed may not be ours to write
            print(f"The report was not saved ({error}); --report FILE puts it elsewhere.", file=sys.stderr)
    return 0 if report.passed else 1


def _files(options: argparse.Namespace) -> dict[str, Any]:
    """The files by the parameters of ``validate``."""
    model, is_folder = options.model, options.model.is_dir()
    if not is_folder and model.suffix not in (".onnx", ".xml"):
        msg = f"{model}: no such folder, and the names of models end in .onnx or .xml."
        raise ArtifactError(msg)
    if not is_folder and options.reference is None:
        msg = f"{model}: give the outputs to compare with, too: --reference reference.npz."
        raise ArtifactError(msg)

    def present(name: str) -> Path | None:
        path = model / name
        return path if path.exists() else None

    # A folder of which only the OpenVINO files were shipped has none.
    onnx_path = present("model.onnx") if present("model.xml") else model / "model.onnx"
    policy_path = options.policy or present("policy.json")
    table_path = present("layers.json")
    return {
        "reference": options.reference or model / "reference.npz",
        "onnx_path": onnx_path if is_folder else model if model.suffix == ".onnx" else None,
        "xml_path": present("model.xml") if is_folder else model if model.suffix == ".xml" else None,
        "float_onnx_path": present("float.onnx"),
        "post_training_paths": [path for name in ("nncf_ptq.onnx", "nncf_ptq.xml") if (path := present(name))],
        "policy": None if policy_path is None else BitPolicy.load(policy_path),
        "table": None if table_path is None else LayerTable.load(table_path),
    }
