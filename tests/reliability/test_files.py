"""Mutated files: each still gives what it gave, or what it says; or an error of this package that names it."""

import copy
import faulthandler
import json
import random
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llt_nncf.register  # noqa: F401

# isort: split

import pytest
import torch
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from llt_nncf.adapter.restore import restore
from llt_nncf.artifacts import BitPolicy
from llt_nncf.artifacts import CostTable
from llt_nncf.artifacts import LayerTable
from llt_nncf.artifacts import PairScoreTable
from llt_nncf.artifacts import Reference
from llt_nncf.artifacts import TrainingCurves
from llt_nncf.artifacts import ValidationReport
from llt_nncf.artifacts import load_scored_layers
from llt_nncf.cli.main import main
from llt_nncf.errors import LltError
from llt_nncf.indicators import train_indicators
from llt_nncf.validation import read_contents
from tests.indicators import tiny_net
from tests.reliability.mutation import damaged_bytes
from tests.reliability.mutation import damaged_json
from tests.reliability.mutation import damaged_structure
from tests.reliability.test_configs import INPUT
from tests.reliability.test_configs import Net
from tests.validation.exported_folder import export_folder

LONGEST_S = 120
MOST_KIB = 2**20  # 1 GiB


def counts(ordinary: int, slow: int):
    """The seeds of the two tiers of one test."""
    tiers = [range(ordinary), pytest.param(range(ordinary, slow), marks=pytest.mark.slow)]
    return pytest.mark.parametrize("seeds", tiers, ids=["few", "many"])


@pytest.fixture(autouse=True)
def bounds():
    """Ends the process if one test hangs, also in C; and fails if it took memory as its file asked for."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return Net()


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """A folder with one file of every kind."""
    folder = export_folder(tmp_path_factory.mktemp("originals"))
    section = {
        "algorithm": "llt_quantization",
        "budget": {"bitops_as": {"weight_bits": 4, "activation_bits": 4}},
        "importance": {"max_steps": 2, "log_every": 1},
    }
    images = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, torch.arange(8) % 3), batch_size=4)
    (folder / "config.json").write_text(json.dumps({**INPUT, "compression": section}))
    config = NNCFConfig.from_dict({**INPUT, "log_dir": str(folder), "compression": section})
    config = register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
    ctrl, model = create_compressed_model(small_model(), config, dump_graphs=False)
    state = ctrl.get_compression_state()
    torch.save({"model": model.state_dict(), "compression": state}, folder / "checkpoint.pt")
    pairs = {
        layer.name: {(w, a): 1.0 / (w * a) for w in layer.weight_bits for a in layer.activation_bits}
        for layer in ctrl.table.layers
    }
    PairScoreTable(ctrl.table, pairs, "a test").save(folder / "scores.json")
    CostTable("energy", "mJ", pairs, "a test", {"größe": 1}).save(folder / "energy.json")
    ValidationReport(True, (), {"agreement": {"top1": 1.0}, "rows": [1, 2]}).save(folder / "report.json")
    go_on_with_importance(folder / "importance.ckpt")
    return folder


def go_on_with_importance(path: Path) -> list[bytes]:
    """The weights after a training that had all its steps but the last checkpoint."""
    net = tiny_net.started_net()
    train_indicators(
        net,
        tiny_net.quantizer_set(net),
        tiny_net.batches(2),
        tiny_net.loss_fn,
        candidate_bits=tiny_net.CANDIDATES,
        checkpoint=path,
    )
    return [value.detach().numpy().tobytes() for value in net.state_dict().values()]


@contextmanager
def refusals(path: Path):
    """Gives a list that then holds the text of this package's error, which must name the file."""
    texts: list[str] = []
    try:
        yield texts
    except LltError as error:
        texts.append(str(error))
    if texts and path.name not in texts[0].replace("compression state", "compression_state"):
        pytest.fail(f"does not name {path.name}: {texts[0]}")


def says(content: Any, of_file: Any) -> bool:
    """Whether all of ``content`` stands in the file; what it leaves out may have been added as empty."""
    if isinstance(content, dict) and isinstance(of_file, dict):
        return all(says(value, of_file[key]) if key in of_file else not value for key, value in content.items())
    if isinstance(content, list) and isinstance(of_file, list):
        return len(content) == len(of_file) and all(map(says, content, of_file))
    # A huge integer is read as the nearest float.
    return content == of_file or (type(content) is float and type(of_file) is int and content == float(of_file))


ARTIFACTS = {
    "policy.json": BitPolicy.load,
    "layers.json": LayerTable.load,
    "indicators.json": load_scored_layers,
    "scores.json": load_scored_layers,
    "energy.json": CostTable.load,
    "report.json": ValidationReport.load,
}


@counts(5, 45)
@pytest.mark.parametrize("name", ARTIFACTS)
def test_a_mutated_artifact_gives_what_it_says_or_is_refused_by_name(originals, tmp_path, name, seeds):
    path, text, outcomes = tmp_path / name, (originals / name).read_text(), []
    for seed in seeds:
        path.write_bytes(damaged_json(text, random.Random(f"{name} {seed}")))
        with refusals(path) as texts:
            artifact = ARTIFACTS[name](path)
        if not texts:
            artifact.save(tmp_path / "again.json")
            assert says(json.loads((tmp_path / "again.json").read_text()), json.loads(path.read_text())), seed
        outcomes.append(bool(texts))
    assert any(outcomes)


@counts(5, 45)
@pytest.mark.parametrize("name", ["indicators.json", "scores.json", "energy.json"])
def test_the_search_takes_a_mutated_file_or_ends_with_a_status(originals, tmp_path, name, seeds, capsys):
    for file in ("indicators.json", "scores.json", "energy.json"):
        shutil.copy(originals / file, tmp_path)
    scored = tmp_path / ("scores.json" if name == "scores.json" else "indicators.json")
    arguments = ["search", str(scored), "--average-weight-bits", "5", "--table", str(tmp_path / "energy.json"), "9"]
    for seed in seeds:
        (tmp_path / name).write_bytes(damaged_json((originals / name).read_text(), random.Random(f"{name} {seed}")))
        status = main([*arguments, "-o", str(tmp_path / "policy.json")])
        error = capsys.readouterr().err
        assert status in (0, 2, 3), seed
        assert (status == 0) == (error == ""), seed
        assert error == "" or error.startswith("llt-nncf search: "), seed


@counts(5, 45)
def test_a_mutated_log_gives_what_it_says_or_is_refused_by_name(originals, tmp_path, seeds):
    path, lines = tmp_path / "importance.jsonl", (originals / "importance.jsonl").read_text().splitlines()
    for seed in seeds:
        rng = random.Random(seed)
        at = rng.randrange(len(lines))
        content = [line.encode() for line in lines]
        content[at] = damaged_json(lines[at], rng)
        path.write_bytes(b"\n".join(content) + b"\n")
        with refusals(path) as texts:
            curves = TrainingCurves.load(path)
        if not texts:
            rows = [json.loads(line) for line in path.read_text().splitlines()[1:]]
            said = {(name, row["step"]): value for row in rows for name, value in row["losses"].items()}
            given = {(name, step): value for name, values in curves.losses.items() for step, value in values.items()}
            assert given == {key: float(value) for key, value in said.items() if value is not None}, seed


def value_of(path: Path) -> Any:
    """What a file with checksums gives, in a form that compares."""
    if path.name == "importance.ckpt":
        return go_on_with_importance(path)
    if path.name == "checkpoint.pt":
        ctrl = restore(small_model(), path.parent / "config.json", path)
        tensors = {name: value.numpy().tobytes() for name, value in ctrl.model.state_dict().items()}
        return tensors, ctrl.policy.bits
    reference = Reference.load(path)
    arrays = {name: getattr(reference, name) for name in ("inputs", "logits", "float_logits")}
    arrays |= {("tap", name): codes for name, codes in reference.taps.items()}
    arrays |= {("tie", name): ties for name, ties in reference.ties.items()}
    return {name: array.tobytes() for name, array in arrays.items()}, reference.weight_digests


@counts(5, 45)
@pytest.mark.parametrize("name", ["reference.npz", "importance.ckpt", "checkpoint.pt"])
def test_a_mutated_file_with_checksums_gives_the_same_or_is_refused_by_name(originals, tmp_path, name, seeds):
    path = tmp_path / name
    shutil.copy(originals / "config.json", tmp_path)
    whole = shutil.copy(originals / name, tmp_path / "whole").rename(tmp_path / name)
    expected, content = value_of(whole), (originals / name).read_bytes()
    refused = 0
    for seed in seeds:
        path.write_bytes(damaged_bytes(content, random.Random(f"{name} {seed}")))
        with refusals(path) as texts:
            assert value_of(path) == expected, seed
        refused += len(texts)
    assert refused > len(seeds) / 2


@counts(3, 45)
@pytest.mark.parametrize("name", ["importance.ckpt", "checkpoint.pt"])
def test_a_checkpoint_of_another_structure_works_or_is_refused_by_name(originals, tmp_path, name, seeds):
    path = tmp_path / name
    shutil.copy(originals / "config.json", tmp_path)
    content = torch.load(originals / name)
    for seed in seeds:
        torch.save(damaged_structure(content, random.Random(seed)), path)
        with refusals(path):
            value_of(path)


@counts(3, 45)
def test_a_mutated_compression_state_works_or_is_refused_as_one(originals, seeds):
    content = torch.load(originals / "checkpoint.pt")["compression"]
    config = NNCFConfig.from_json(str(originals / "config.json"))
    for seed in seeds:
        state = damaged_structure(content, random.Random(seed))
        with refusals(Path("compression_state")):
            create_compressed_model(small_model(), copy.deepcopy(config), compression_state=state, dump_graphs=False)


@counts(3, 30)
@pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.bin"])
def test_a_mutated_model_is_inspected_or_refused_by_name(originals, tmp_path, name, seeds, capsys):
    for file in ("model.onnx", "model.xml", "model.bin"):
        shutil.copy(originals / file, tmp_path)
    path, content = tmp_path / name, (originals / name).read_bytes()
    opened = path.with_suffix(".xml") if name == "model.bin" else path
    for seed in seeds:
        path.write_bytes(damaged_bytes(content, random.Random(f"{name} {seed}")))
        with refusals(opened) as texts:
            json.dumps(read_contents(opened, with_kernels=False).to_dict())
        status = main(["inspect", str(opened), "--no-kernels"])
        error = capsys.readouterr().err
        assert status == (2 if texts else 0), seed
        assert error.startswith("llt-nncf inspect: ArtifactError: ") if texts else error == "", seed
