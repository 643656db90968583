"""The config section: every fault found, worded with its key path and the nearest valid key."""

import math

import pytest

from llt_nncf.artifacts import CostTable
from llt_nncf.config import ImportanceConfig
from llt_nncf.config import LltConfig
from llt_nncf.config import SearchConfig
from llt_nncf.config import check_section
from llt_nncf.config import section_properties
from llt_nncf.cost import Budget
from llt_nncf.errors import ArtifactError
from llt_nncf.errors import ConfigError

MINIMAL = {"algorithm": "llt_quantization", "budget": {"bitops_as": {"weight_bits": 3, "activation_bits": 3}}}


def check(**keys):
    check_section({**MINIMAL, **keys}, section_properties(["step_size"]), where="compression")


def test_a_minimal_section_passes_and_has_the_papers_defaults():
    check()
    config = LltConfig.from_section(MINIMAL)
    assert config.candidate_bits == (6, 5, 4, 3, 2)
    assert (config.fixed_bits, config.importance.sampled_policies, config.importance.aggregation) == (8, 1, "sum")
    assert config.budget.bitops_as == (3, 3)


def test_the_schemas_defaults_are_the_dataclasses():
    properties = section_properties(["step_size"])
    config = LltConfig.from_section(MINIMAL)
    for name, schema in properties.items():
        if "default" in schema:
            value = getattr(config, name)
            assert (list(value) if isinstance(value, tuple) else value) == schema["default"], name
    importance = properties["importance"]["properties"]
    assert set(importance) == set(ImportanceConfig.__dataclass_fields__)
    for name, schema in importance.items():
        assert getattr(ImportanceConfig(), name) == schema.get("default"), name


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"candidate_bit": [2, 4]}, ["compression.candidate_bit: unknown key", "'candidate_bits'"]),
        ({"importance": {"epoch": 3}}, ["compression.importance.epoch: unknown key", "'epochs'"]),
        ({"importance": {"where": "later"}}, ["compression.importance.where='later'", "'init', 'training'"]),
        ({"importance": {"epochs": 0}}, ["compression.importance.epochs=0", "at least 1"]),
        ({"candidate_bits": [2, 9]}, ["compression.candidate_bits[1]=9", "at most 8"]),
        ({"candidate_bits": [4, 4]}, ["compression.candidate_bits=[4, 4]", "twice"]),
        ({"candidate_bits": "4"}, ["compression.candidate_bits='4'", "array"]),
        ({"alpha": -1}, ["compression.alpha=-1"]),
        ({"search": {"power": 0}}, ["compression.search.power=0"]),
        ({"fixed_bits": 8.0}, ["compression.fixed_bits=8.0: must be of type integer"]),
        ({"importance": {"seed": 2**63}}, ["compression.importance.seed=9223372036854775808", "64 bits"]),
        ({"search_time_limit_s": float("nan")}, ["compression.search_time_limit_s=nan: must be of type number"]),
        ({"budget": {"gbitops": float("inf")}}, ["compression.budget.gbitops=inf", "64 bits"]),
        ({"budget": {"weight_mib": 10**400}}, ["compression.budget.weight_mib=1000", "000...: must be of type number"]),
        ({"alpha": "autom"}, ["compression.alpha='autom'", "auto"]),
        ({"budget": {}}, ["compression.budget: is empty", "gbitops"]),
        ({"budget": {"gbitops": -1}}, ["compression.budget.gbitops=-1", "above 0"]),
        ({"budget": {"tables": [{"path": "x"}]}}, ["compression.budget.tables[0]", "'most'"]),
        ({"search": {"outlier": "keep"}}, ["compression.search.outlier: unknown key", "'outliers'"]),
        ({"search": {"outliers": "drop"}}, ["compression.search.outliers='drop'", "'repair', 'keep', 'error'"]),
        ({"search": {"weight_bits": {"a": [9]}}}, ["compression.search.weight_bits.a[0]=9", "at most 8"]),
        ({"budget": {"bitops_as": {"weight_bits": 3}}}, ["compression.budget.bitops_as", "'activation_bits'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_fault_is_named_with_path_value_and_remedy(keys, words):
    with pytest.raises(ConfigError) as caught:
        check(**keys)
    for word in words:
        assert word in str(caught.value)


def test_the_search_section_is_read_and_its_defaults_are_the_dataclasses():
    assert LltConfig.from_section(MINIMAL).search == SearchConfig()
    properties = section_properties(["step_size"])["search"]["properties"]
    assert {name: schema["default"] for name, schema in properties.items()} == vars(SearchConfig())
    section = {**MINIMAL, "search": {"k_best": 3, "tied": True, "weight_bits": {"a.*": [4, 2]}}}
    check(search=section["search"])
    assert LltConfig.from_section(section).search == SearchConfig(k_best=3, tied=True, weight_bits={"a.*": [4, 2]})


def test_cost_tables_of_the_budget_are_loaded(tmp_path):
    latency = CostTable("latency", "ms", {"a": {(4, 2): 1.0}}, "by hand")
    energy = CostTable("energy", "mJ", {"a": {(4, 2): 2.0}}, "by hand")
    paths = [str(table.save(tmp_path / f"{table.name}.json")) for table in (latency, energy)]
    budget = {"latency_ms": 1.5, "latency_table": paths[0], "tables": [{"path": paths[1], "most": 3}]}
    check(budget={**budget, "without_fixed": ["energy"]})
    found = LltConfig.from_section({**MINIMAL, "budget": {**budget, "without_fixed": ["energy"]}}).budget
    expected = Budget(latency_ms=1.5, latency_table=latency, tables=((energy, 3),), without_fixed=("energy",))
    assert found == expected
    with pytest.raises(ArtifactError, match="none.json"):
        LltConfig.from_section({**MINIMAL, "budget": {**budget, "latency_table": str(tmp_path / "none.json")}})


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ({"alpha": "autom"}, "compression.alpha='autom': must be 'auto' or a number."),
        ({"budget": {"bitops_as": [4, 4]}}, "must be of type object, with weight_bits and activation_bits."),
        ({"budget": {"gbitops": math.nan}}, "must be of type number, finite and of 64 bits at most."),
        ({"budget": 3}, "compression.budget=3: must be of type object, with one or more of bitops_as, gbitops, "),
    ],
)
def test_values_of_the_wrong_type_are_told_what_is_right(section, text):
    with pytest.raises(ConfigError) as caught:
        check(**section)
    assert text in str(caught.value)


def test_all_faults_are_reported_at_once():
    with pytest.raises(ConfigError, match="4 faults") as caught:
        check(fixed_bits=1, alphas=2, importance={"momentum": 1, "learning_rate_per_bit": {"9": 1}})
    text = str(caught.value)
    assert "compression.fixed_bits=1" in text
    assert "compression.alphas: unknown key; did you mean 'alpha'?" in text
    assert "compression.importance.momentum=1" in text
    assert "compression.importance.learning_rate_per_bit.9: unknown key; the keys are 2, 3, 4, 5, 6, 7, 8." in text


@pytest.mark.parametrize(
    ("section", "word"),
    [
        ({"algorithm": "llt_quantization"}, "compression.budget: missing"),
        ({**MINIMAL, "policy": "a.json", "indicators": "b.json"}, "compression.indicators: has no effect"),
        ({**MINIMAL, "importance": {"where": "training", "max_steps": 3}}, "compression.importance.max_steps"),
        ({**MINIMAL, "importance": {"where": "training", "aggregation": "mean"}}, "compression.importance.aggregation"),
        ({**MINIMAL, "importance": {"tensorboard": True}}, "compression.importance.tensorboard: needs a folder"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(section, word):
    with pytest.raises(ConfigError, match=word):
        LltConfig.from_section(section)


def test_the_cpu_target_searches_weights_up_to_7_bits_and_keeps_activations_at_8():
    config = LltConfig.from_section({**MINIMAL, "target": "cpu"})
    assert (config.candidate_bits, config.fixed_bits, config.activation_bits) == ((7, 6, 5, 4, 3, 2), 7, 8)
    given = LltConfig.from_section({**MINIMAL, "target": "cpu", "candidate_bits": [2, 4], "fixed_bits": 6})
    assert (given.candidate_bits, given.fixed_bits, given.activation_bits) == ((4, 2), 6, 8)
    assert LltConfig.from_section(MINIMAL).activation_bits is None


def test_the_cpu_target_names_all_that_contradicts_it():
    section = {"candidate_bits": [8, 4], "fixed_bits": 8, "budget": {"average_activation_bits": 4}}
    with pytest.raises(ConfigError) as caught:
        LltConfig.from_section({"target": "cpu", **section})
    lines = str(caught.value).splitlines()
    assert [line.split("=")[0].split(":")[0] for line in lines] == [
        "compression.candidate_bits",
        "compression.fixed_bits",
        "compression.budget.average_activation_bits",
    ]
    assert "[8, 4]" in lines[0]
    assert "weight_only" in lines[0]
