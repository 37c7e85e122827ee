"""The report of a diagnosis: as text, as JSON, and as a page."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from tiny_classifiers import (
    case_of,
    colours,
    examined,
    mean_colour_reader,
    two_classes,
    with_mistakes,
)

from debugcnn.diagnosis.engine import examine
from debugcnn.diagnosis.registry import CAUSES, Evidence, Limit, NotExamined, cause


@pytest.fixture
def no_causes():
    """The list of causes, emptied for a test."""
    causes = dict(CAUSES)
    CAUSES.clear()
    yield CAUSES
    CAUSES.clear()
    CAUSES.update(causes)


def made_up(name, result, title="it is made up", stage="model", fix="Take it away."):
    """A cause that is always found so, with a picture."""

    def measure(case):
        if isinstance(result, Exception):
            raise result
        return result

    words = dict(title=title, symptom="none", check="none", fix=fix)
    registered = cause(name, stage=stage, **words, limit=Limit(0.5, "", ""))(measure)

    @registered.picture
    def picture(case, evidence):
        figure, axis = plt.subplots(figsize=(2, 2))
        axis.set_title(case.class_names[0])
        return figure, f"Drawn for {case.class_names[1]}."

    return registered


def report(class_names=("cat", "dog"), wrong=4):
    images, labels = colours(40)
    logits = with_mistakes(labels, wrong)
    return examine(case_of(mean_colour_reader(), images, labels, logits, class_names=class_names))


FAULT = Evidence(0.9, "Nine of ten are <so>.")
HINT = Evidence(0.3, "It may be.", suspicious=True)
FINE = Evidence(0.1, "Nothing to see.")


# --------------------------------------------------------------------------------------------- text


def test_the_text_lists_what_was_found(no_causes):
    made_up("a", FAULT)
    made_up("b", HINT, title="it may be wrong")
    for name in ("c", "d"):
        made_up(name, FINE)
    made_up("e", NotExamined("No training images were given."))
    made_up("f", NotExamined("The logits are not finite."))
    made_up("g", NotExamined("No training images were given."))
    assert str(report()).splitlines() == [
        "40 images, accuracy 90.0% as fed",
        "fault       a: it is made up.",
        "            Nine of ten are <so>.",
        "            Take it away.",
        "suspicious  b: it may be wrong.",
        "            It may be.",
        "fine        c, d",
        "not examined e, g: No training images were given.",
        "not examined f: The logits are not finite.",
    ]


def test_the_first_line_tells_both_accuracies():
    images, labels = colours(60)
    case = case_of(mean_colour_reader(), images[..., ::-1], labels)
    lines = str(examined(case, "channel_order")).splitlines()
    assert re.fullmatch(r"60 images, accuracy \d.\d% as fed, 9\d.\d% after the fix", lines[0])


def test_the_text_holds_nothing_that_a_terminal_obeys(no_causes):
    made_up("a", Evidence(0.9, "It is called \x1b[31mred\x1b[0m\u202e."))
    text = str(report())
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b[31mred" in text


# --------------------------------------------------------------------------------------------- JSON


def test_the_json_holds_numbers_and_sentences(no_causes, tmp_path):
    made_up("a", Evidence(1 / 3, "A third.", suspicious=True))
    made_up("b", Evidence(None, "Nothing."))
    result = report()
    record = json.loads(result.to_json())
    assert record["findings"] == [
        {
            **{"cause": "a", "verdict": "suspicious", "value": 0.3333, "limit": 0.5},
            **{"message": "A third.", "fix": ""},
        },
        {
            **{"cause": "b", "verdict": "fine", "value": None, "limit": 0.5},
            **{"message": "Nothing.", "fix": ""},
        },
    ]
    numbers = {key: record[key] for key in ("accuracy", "accuracy_as_fed", "images", "value_range")}
    assert numbers == {
        **{"accuracy": 0.9, "accuracy_as_fed": 0.9},
        **{"images": 40, "value_range": [0, 1]},
    }
    assert record["auc"] == pytest.approx(result.auc, rel=1e-3)
    result.save(tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == result.to_json()


def test_what_is_not_a_number_is_null(no_causes):
    made_up("a", FINE)
    images, labels = colours(40)
    logits = two_classes(np.full(40, np.nan))
    record = json.loads(examine(case_of(mean_colour_reader(), images, labels, logits)).to_json())
    assert (record["accuracy"], record["accuracy_as_fed"], record["auc"]) == (None, None, None)


# --------------------------------------------------------------------------------------------- page


@pytest.mark.parametrize(
    ("faults", "title"), [(0, "No fault found"), (1, "One fault found"), (2, "2 faults found")]
)
def test_the_page_counts_faults_and_shows_each(no_causes, tmp_path, faults, title):
    for i in range(faults):
        made_up(f"fault{i}", FAULT)
    made_up("fine", FINE)
    made_up("hint", HINT)
    made_up("later", NotExamined("Not now."))
    result, opened = report(), plt.get_fignums()
    page = result.to_html()
    assert page.count(f"<h1>{title}</h1>") == page.count(f"<title>{title}</title>") == 1
    assert page.count("<h2>fault") == page.count("data:image/jpeg;base64,") == faults
    assert page.count("<figcaption>Drawn for dog.</figcaption>") == faults
    assert page.count("<b>Take it away.</b>") == faults
    rows = re.findall(r'<tr class="(\w+)"><td>. ([\w ]+)<td>(\w+)<td>', page)
    assert rows[faults:] == [
        ("suspicious", "suspicious", "hint"),
        ("fine", "fine", "fine"),
        ("skipped", "not examined", "later"),
    ]
    assert "<p>40 images, accuracy 90.0% as fed.</p>" in page
    result.save(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page == result._repr_html_()
    assert plt.get_fignums() == opened  # none is left open


def test_the_page_fetches_nothing_and_escapes_what_comes_from_files(no_causes):
    made_up("a", FAULT, title="it is <b>bold</b>", fix="Use <this>.")
    page = report(class_names=["$x^$ & <script>", 'dog"><script>alert(1)</script>']).to_html()
    assert "<script" not in page and "<so>" not in page and "<this>" not in page
    assert "&lt;so&gt;" in page and "&lt;b&gt;bold" in page and "Use &lt;this&gt;." in page
    assert 'alt="Drawn for dog&quot;&gt;&lt;script&gt;' in page
    assert not re.search(r'(src|href)="(?!data:)', page) and "url(" not in page


def test_class_names_are_escaped_where_a_cause_names_them():
    images, labels = colours(200)
    scores = 4.0 * labels - 2 + 3
    names = ["blue <ish>", "<i>reddish</i>"]
    case = case_of(mean_colour_reader(), images, labels, two_classes(scores), class_names=names)
    result = examined(case, "threshold:threshold")
    assert "<i>reddish</i> is predicted for 100%" in result.faults[0].message
    page = result.to_html()
    assert "<ish>" not in page and "<i>" not in page
    assert "&lt;i&gt;reddish&lt;/i&gt; is predicted" in page


def test_a_report_repeats_nothing_of_its_case():
    """Its repr is short, and equal reports are equal, whatever they were drawn from."""
    images, labels = colours(40)
    logits = with_mistakes(labels, 4)
    first, second = (
        examined(case_of(mean_colour_reader(), images, labels, logits), "at_chance")
        for _ in range(2)
    )
    assert first == second and len(repr(first)) < 1000
    assert first.findings[0].title == CAUSES["at_chance"].title
