"""The part of a validation report about cost, for the terminal: time, files, and the bits of the activations."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from llt_nncf.errors import some_of
from llt_nncf.validation.figure_table import figure_table
from llt_nncf.validation.figure_table import number
from llt_nncf.validation.figure_table import ratio

_ENGINES = ("onnxruntime", "openvino")
_KINDS = {"quantized": "quantized", "float": "float", "post_training": "NNCF post-training"}


def cost_tables(sections: Any) -> list[Table]:
    """Returns the tables of a report's sections; those without figures have no rows."""
    latency, throughput = sections.get("latency", {}), sections.get("throughput", {})
    return [
        _speed_table("Latency in ms, one input, one stream, one thread", latency, "ms"),
        _speed_table(f"Throughput in inputs per second\n{_streams(throughput)}", throughput, "per_s"),
        _benchmark_table(sections.get("benchmark_app", {})),
        _file_table(sections.get("files", {})),
    ]


def cost_sentences(sections: Any) -> Iterator[str]:
    """Words what tables cannot show: the size that the policy asks for, and what other bits would give."""
    theory, files = sections.get("theoretical_bytes"), sections.get("files", {})
    if theory and theory["total"]:  # none, if the policy is of another model
        shares = [
            f"{name} {row['bytes'] / theory['total']:.2f} times" for name, row in files.items() if "model." in name
        ]
        parts = (
            f"weights at their bits {_kib(theory['weights'])} KiB, with step sizes and biases {_kib(theory['total'])}"
        )
        yield f"Theory: {parts} KiB; {', '.join(shares)} that." if shares else f"Theory: {parts} KiB."
    target = sections.get("target")
    if target:
        yield _sentence_of_other_bits(target)
        if saturating := target["layers_that_may_saturate"]:
            here = {True: "this one has it", False: "this one has not", None: "of this one it is not known"}
            names = some_of(saturating, 4)
            yield (
                f"8-bit weights, which saturate on CPUs without VNNI ({here[target['has_vnni']]}), are in "
                f"{len(saturating)} layers: {names}. Weights up to 7 bits do not."
            )


def _sentence_of_other_bits(target: Any) -> str:
    other = target["other"]
    rest = "all activations" if other["activation_bits"] == 8 else "activations, but of fixed layers,"
    text = f"Bits below 8: {target['mode']}. With {rest} at {other['activation_bits']} bits"
    speeds = [
        f"{ratio(row['speed_up'], row['speed_up_quartiles'], ' ')} as fast in {engine}"
        for engine, row in other.get("engines", {}).items()
    ]
    if "gbitops" in other:
        speeds.append(f"{number(other['gbitops'])} instead of {number(target['gbitops'])} GBitOPs")
    return f"{text}: {', '.join(speeds)}, files as large." if speeds else f"{text} the files would be as large."


def _speed_table(title: str, section: Any, unit: str) -> Table:
    table = figure_table(title, "Engine", "Quantized", "Float", "Speed-up", "NNCF\nint8", "Speed-up\nover it")
    for engine, row in section.get("engines", {}).items():
        name = engine.split("_")[0]
        speed_up, over_post_training = (
            ratio(row.get(key), row.get(f"{key}_quartiles", ())) for key in ("speed_up", "speed_up_over_post_training")
        )
        table.add_row(
            f"{name} {row.get('inference_precision', '')}" if name == "openvino" else name,
            number(row.get(f"quantized_{unit}")),
            number(row.get(f"float_{unit}")),
            speed_up,
            number(row.get(f"post_training_{unit}")),
            over_post_training,
        )
    return table


def _streams(section: Any) -> str:
    engines = {engine.split("_")[0]: _settings(row) for engine, row in section.get("engines", {}).items()}
    return "; ".join(f"{engine}: {settings}" for engine, settings in engines.items())


def _settings(row: Any) -> str:
    return f"streams {row.get('num_streams')}, threads {row.get('num_threads')}"


def _benchmark_table(section: Any) -> Table:
    table = figure_table("OpenVINO's benchmark_app", "Model", "Latency\nms", "Throughput\nper s", "Settings")
    for kind, row in section.items():
        latency, throughput = row["latency"], row["throughput"]
        settings = f"{_settings(latency)};\n{_settings(throughput)}; {throughput['inference_precision']}"
        table.add_row(_KINDS[kind], number(latency["median_ms"]), number(throughput["per_s"]), settings)
    return table


def _file_table(section: Any) -> Table:
    headings = [f"{engine}\n{what}" for engine in _ENGINES for what in ("load ms", "peak MiB")]
    table = figure_table("Files", "File", "KiB", *headings)
    for name, row in section.items():
        loads = [row.get(engine, {}) for engine in _ENGINES]
        cells = [number(load.get(key)) for load in loads for key in ("load_ms", "load_peak_mib")]
        table.add_row(name, _kib(row["bytes"]), *cells)
    return table


def _kib(count: int) -> str:
    return f"{count / 1024:.1f}"
