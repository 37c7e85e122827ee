"""The diagnosis of committed models with injected faults, beside its frozen verdicts.

injected_faults/verdicts.json was written by the code before the causes became a registry.
"""

import json
import shutil

import pytest
from conftest import ROOT

from debugcnn import separator
from injected_faults import experiments, run

FROZEN = json.loads((ROOT / "injected_faults" / "verdicts.json").read_text())
INSTANCES = {instance.name: instance for instance in run.instances()}
QUICK = ("healthy / shapes 0, sample 0", "healthy / shapes 0, sample 1")  # need no photos


@pytest.fixture(scope="session")
def split(real_archive, tmp_path_factory):
    """The photos as debugcnn separate arranges them."""
    output = tmp_path_factory.mktemp("split") / "data"
    separator.main([str(real_archive), "--output", str(output)])
    return output


@pytest.fixture
def committed_models(tmp_path, monkeypatch):
    """The trained models that the experiments would otherwise train first."""
    monkeypatch.setattr(experiments, "WORK", tmp_path)
    for short, name in run.IN_NOTEBOOK.items():
        target = experiments.file_of(name)
        shutil.copy(run.SHOWN / f"{short}.keras", target)
        shutil.copy(run.SHOWN / f"{short}.json", target.with_suffix(".json"))


def verdicts(name, data):
    result = run.examine(INSTANCES[name], str(data))
    return {"faults": result.faults, "suspicious": sorted(result.suspicious)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FROZEN if name not in QUICK])
def test_verdicts_on_photos_are_as_frozen(name, split, committed_models):
    assert verdicts(name, split) == FROZEN[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_verdicts_on_drawn_shapes_are_as_frozen(name, committed_models):
    assert verdicts(name, "no photos") == FROZEN[name]
