"""Each cause by a whole diagnosis, and healthy models without any fault."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from faulty_cases import FAULTS, report_of
from tiny_classifiers import (
    colours,
    faults_of,
    finding_of,
    normalized_reader,
    red_halves,
    three_colour_reader,
    three_colours,
    top_reader,
)

import debugcnn
from debugcnn.diagnosis.registry import CAUSES


def test_each_cause_has_a_case():
    assert set(FAULTS) == set(CAUSES)


single_unit = pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")


@single_unit
@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_named_first(name):
    report = report_of(name)
    assert faults_of(report)[:1] == [name]
    finding = report.faults[0]
    assert finding.fix and finding.message and finding.title == CAUSES[name].title
    assert finding.verdict == "fault" and finding.value is not None and finding.limit is not None
    assert {f.cause for f in report.findings} == set(CAUSES)


@single_unit
@pytest.mark.parametrize("name", FAULTS)
def test_each_cause_has_a_picture(name):
    report = report_of(name)
    assert CAUSES[name].draw is not None
    figure, caption = CAUSES[name].draw(report.case, finding_of(report, name).evidence)
    try:
        assert caption.endswith(".") and len(caption) > 15
        drawn = [a for a in figure.axes if a.images or a.patches or a.lines or a.collections]
        assert drawn and all(size > 1 for size in figure.get_size_inches())
        figure.set_dpi(40)
        figure.canvas.draw()  # nothing is out of range, and all texts can be drawn

        assert np.ptp(np.asarray(figure.canvas.buffer_rgba())[..., :3]) > 100
    finally:
        plt.close(figure)


@pytest.mark.parametrize(
    "healthy",
    [
        lambda: (top_reader(), *red_halves(80), {"train": red_halves(80, seed=5)}),
        pytest.param(
            lambda: (three_colour_reader(), *three_colours(), {"train": three_colours(seed=1)}),
            marks=pytest.mark.slow,
        ),
        pytest.param(lambda: (normalized_reader(), *colours(100), {}), marks=pytest.mark.slow),
    ],
)
def test_a_healthy_model_has_no_fault(healthy):
    model, images, labels, options = healthy()
    report = debugcnn.diagnose(model, images, labels, value_range=(0, 1), **options)
    # Two of the models read a colour that separates the classes by itself, as their images do.
    assert set(faults_of(report)) <= {"shortcut"}
    assert report.accuracy > 0.9 and report.auc > 0.95 and report.images == len(labels)
    assert {f.cause for f in report.findings} == set(CAUSES)


def test_what_is_explained_by_the_fault_is_no_fault_of_its_own():
    for name, explained in (
        ("output_head", "constant_answer"),
        ("memorised", "at_chance"),
        ("threshold", "overconfident"),
    ):
        report = report_of(name)
        assert finding_of(report, explained).verdict in ("suspicious", "fine", "not examined")
    assert faults_of(report_of("untrained_layer")) == ["untrained_layer"]


def test_the_rest_is_examined_as_the_model_should_be_fed():
    report = report_of("input_scale")
    assert report.value_range in debugcnn.VALUE_RANGES and report.accuracy > 0.9
    assert report.accuracy_as_fed == 0.5
    assert "50.0% as fed" in str(report) and "after the fix" in str(report)
