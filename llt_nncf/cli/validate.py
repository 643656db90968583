"""``llt-nncf validate out/digits``"""

import argparse
from pathlib import Path

from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import LayerTable
from llt_nncf.validation import print_report
from llt_nncf.validation import validate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "folder",
        type=Path,
        help="folder with model.onnx and reference.npz; model.xml, float.onnx, policy.json, layers.json and NNCF's "
        "post-training int8 as nncf_ptq.onnx and nncf_ptq.xml if present",
    )
    parser.add_argument("--min-agreement", type=float, default=0.99, help="least share of equal top-1 (default 0.99)")
    parser.add_argument("--latency-rounds", type=int, default=50, help="interleaved timing rounds, 0 for none")
    parser.add_argument("--benchmark-app", action="store_true", help="run OpenVINO's benchmark_app on the files too")
    parser.add_argument("--require-int8", action="store_true", help="fail if an engine runs a layer in float")
    parser.add_argument("--report", type=Path, help="where the report goes (default FOLDER/report.json)")


def run(options: argparse.Namespace) -> int:
    """Validates, prints the report, and returns 1 if it did not pass."""

    def present(name: str) -> Path | None:
        path = options.folder / name
        return path if path.exists() else None

    policy_path, table_path = present("policy.json"), present("layers.json")
    report = validate(
        options.folder / "reference.npz",
        options.folder / "model.onnx",
        policy=None if policy_path is None else BitPolicy.load(policy_path),
        table=None if table_path is None else LayerTable.load(table_path),
        xml_path=present("model.xml"),
        float_onnx_path=present("float.onnx"),
        post_training_paths=[path for name in ("nncf_ptq.onnx", "nncf_ptq.xml") if (path := present(name))],
        min_agreement=options.min_agreement,
        require_int8=options.require_int8,
        latency_rounds=options.latency_rounds,
        benchmark_app=options.benchmark_app,
        report_path=options.report or options.folder / "report.json",
    )
    print_report(report)
    return 0 if report.passed else 1
