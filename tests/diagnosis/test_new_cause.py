"""A cause of one's own appears in the report, the page and the tables by being registered."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from tiny_classifiers import (
    case_of,
    faults_of,
    mean_colour_reader,
    red_halves,
    top_reader,
    verdict,
)

import debugcnn
from debugcnn.diagnosis import catalogue
from debugcnn.diagnosis.registry import CAUSES, Evidence, Limit, cause


@pytest.fixture
def no_green():
    """A cause of its own: images without green."""

    @cause(
        "no_green",
        stage="files",
        title="images have no <green>",
        symptom="meadows are missing",
        check="draw the green channel",
        fix="Read all channels.",
        limit=Limit(0.5, "share of the images", "made up"),
    )
    def no_green(case) -> Evidence:
        without = case.given.pixels[..., 1].max((1, 2)) == 0
        message = f"{without.mean():.0%} of the images have no green."
        return Evidence(float(without.mean()), message, details=np.flatnonzero(without))

    @no_green.picture
    def examples(case, evidence):
        figure, axis = plt.subplots()
        axis.imshow(np.uint8(case.given.pixels[evidence.details[0]]))
        return figure, "The first image without green."

    yield no_green
    del CAUSES["no_green"]


def test_a_cause_is_added_by_registering_it(no_green):
    images, labels = red_halves(60)
    assert verdict(case_of(mean_colour_reader(), images, labels), "no_green") == "fine"
    images[..., 1] = 0
    report = debugcnn.diagnose(top_reader(), images, labels, value_range=(0, 1))
    assert faults_of(report)[0] == "no_green"
    lines = str(report).splitlines()
    assert lines[1:4] == [
        "fault       no_green: images have no <green>.",
        "            100% of the images have no green.",
        "            Read all channels.",
    ]
    record = json.loads(report.to_json())
    assert record["findings"][0] == {
        **{"cause": "no_green", "verdict": "fault", "value": 1.0, "limit": 0.5},
        **{"message": "100% of the images have no green.", "fix": "Read all channels."},
    }
    assert "no_green" in [measured["cause"] for measured in record["measurements"]]
    html = report.to_html()
    assert "<h2>no_green: images have no &lt;green&gt;</h2>" in html
    assert "The first image without green." in html and "Read all channels." in html
    row = "| meadows are missing | `no_green` | images have no <green> | draw the green channel |"
    assert row in catalogue.causes_table()
    assert "`no_green:no_green` | above 0.5 | share of the images |" in catalogue.limits_table()
    assert "no_green" in catalogue.help_lines()
    limited = case_of(mean_colour_reader(), images, labels, limits={"no_green": 1.0})
    assert verdict(limited, "no_green") == "fine"


def test_the_cause_is_gone_afterwards():
    assert "no_green" not in CAUSES and "no_green" not in catalogue.causes_table()


def test_the_tables_list_each_cause_once():
    lines = catalogue.causes_table().splitlines()
    assert len(lines) == 2 + len(CAUSES)
    assert all(line.count("|") == 6 for line in lines)
    limits = catalogue.limits_table().splitlines()[2:]
    assert len(limits) == sum(bool(m.limit) for c in CAUSES.values() for m in c.measurements)
    assert [c.name for c in catalogue.causes_in_order()][:2] == ["blank_photos", "not_finite"]
