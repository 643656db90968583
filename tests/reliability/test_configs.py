"""Whatever stands in the section: it works, or an error of this package names the key."""

import json
import math
import re
from contextlib import contextmanager
from typing import Any

import llt_nncf.register  # noqa: F401

# isort: split

import jsonschema
import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import Phase
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from nncf import NNCFConfig
from nncf.torch import create_compressed_model
from nncf.torch import register_default_init_args
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import TensorDataset

from llt_nncf.adapter.nncf_schema import full_properties
from llt_nncf.config import LltConfig
from llt_nncf.errors import LltError
from tests.reliability.section_strategy import odd_values
from tests.reliability.section_strategy import sections
from tests.reliability.section_strategy import spoilt

INPUT = {"input_info": {"sample_size": [1, 2, 6, 6]}}
PROPERTIES = full_properties()
VALID = sections(PROPERTIES)


def example_count(ordinary: int, slow: int):
    """The tiers of one test; the examples are the same in every run."""
    return pytest.mark.parametrize("examples", [ordinary, pytest.param(slow, marks=pytest.mark.slow)])


def try_out(examples: int, strategy: st.SearchStrategy[Any], test: Any) -> None:
    run = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run(given(strategy)(test))()


def keys_of(schema: dict[str, Any]) -> set[str]:
    """The names of all keys that a schema knows, however deep."""
    inner = [*schema.get("properties", {}).values(), *schema.get("oneOf", [])]
    inner += [schema["items"]] if "items" in schema else []
    return set(schema.get("properties", {})).union(*map(keys_of, inner))


# A key path, or of two sections side by side the key that holds both; or a key that is no word of any text.
KEY_PATH = re.compile(r"compression(\[\d+\])?(\.\S|:)")
KEYS = {key for key in keys_of({"properties": PROPERTIES}) if len(key) > 6} | {"target_device"}  # beside the section


@contextmanager
def refusals(*also: type[Exception]):
    """Gives a list that then holds the text of this package's error, if one was raised; it must name a key."""
    texts: list[str] = []
    try:
        yield texts
    except (LltError, *also) as error:
        texts.append(str(error))
        is_ours = isinstance(error, LltError)
    if texts and is_ours and not KEY_PATH.search(texts[0]) and not any(key in texts[0] for key in KEYS):
        pytest.fail(f"names no key: {texts[0]}")


def load(content: dict[str, Any]) -> tuple[NNCFConfig | None, str]:
    """The config as read from JSON, or ``None`` and why it was refused."""
    with refusals() as texts:
        return NNCFConfig.from_dict(json.loads(json.dumps(content))), ""
    return None, texts[0]


@example_count(100, 1200)
def test_a_section_is_taken_or_refused_by_the_key_that_is_at_fault(examples):
    outcomes = []

    def test(drawn):
        (before, section, keys), in_a_list = drawn
        config, text = load({**INPUT, "compression": [section] if in_a_list else section})
        outcomes.append(config is not None)
        if config is not None:
            with refusals():
                LltConfig.from_section(section)
        elif load({**INPUT, "compression": before})[0] is not None:
            assert "compression" in text
            assert any(key in text for key in keys), text

    whole = VALID.map(lambda section: (section, section, set()))
    try_out(examples, st.tuples(whole | spoilt(VALID), st.booleans()), test)
    assert examples / 10 < sum(outcomes) < len(outcomes) - examples / 10


OTHERS = [
    {"algorithm": "magnitude_sparsity"},
    {"algorithm": "filter_pruning"},
    {"algorithm": "knowledge_distillation", "type": "mse"},
    {"algorithm": "quantization"},
    {"algorithm": "llt_quantization"},
    {"algorithm": "no_such_thing"},
    {"algorithm": "magnitude_sparsity", "sparsity_init": "much"},
    {},
    None,
    7,
    "quantization",
    [],
]
ROOT_KEYS = ["input_info", "log_dir", "target_device", "no_such_key"]


@example_count(30, 400)
def test_a_config_with_faults_outside_the_section_gets_our_error_or_that_of_nncfs_validation(examples):
    # Faults in the keys of NNCF itself and of its other algorithms are for NNCF to word: its validation raises
    # jsonschema's ValidationError, also where the section is none at all because "algorithm" is wrong or missing.
    def test(drawn):
        (_, section, _), others, root = drawn
        content = {**INPUT, **root, "compression": [section, *others]}
        with refusals(jsonschema.ValidationError):
            NNCFConfig.from_dict(json.loads(json.dumps(content)))

    root = st.dictionaries(st.sampled_from(ROOT_KEYS), odd_values(), max_size=1)
    others = st.lists(st.sampled_from(OTHERS), max_size=2)
    try_out(examples, st.tuples(spoilt(VALID), others, root), test)


class Net(nn.Module):
    """As small as has all kinds of rows: a fixed first and last layer, a searched one, a residual."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv1(x)))
        return self.fc(torch.relu(x + self.conv2(x)).mean((2, 3)))


def small(section: dict[str, Any]) -> dict[str, Any]:
    """The same section for a test of milliseconds, if it is one of hours or writes somewhere."""
    importance = section.get("importance", {})
    if isinstance(importance, dict) and importance.get("where") != "training":
        importance = {**importance, "max_steps": min(importance.get("max_steps", 1), 2)}
    return {key: value for key, value in {**section, "importance": importance}.items() if key != "artifacts_dir"}


@example_count(20, 400)
def test_a_model_is_made_of_every_config_that_was_taken(examples):
    images = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, torch.arange(8) % 3), batch_size=4)
    made = []

    def test(section):
        section = small(section)
        config, _ = load({**INPUT, "compression": section})
        if config is None:
            return
        config = register_default_init_args(config, loader, criterion=nn.CrossEntropyLoss())
        torch.manual_seed(0)
        with refusals():
            ctrl, model = create_compressed_model(Net(), config, dump_graphs=False)
            assert all(math.isfinite(value) for value in model(images).flatten().tolist())
            made.append(ctrl)

    try_out(examples, VALID, test)
    assert len(made) > examples / 10
