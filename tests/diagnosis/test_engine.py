"""The engine on made-up causes: order, what is not examined, demotion, limits, and the record."""

import json

import numpy as np
import pytest
from keras import layers
from tiny_classifiers import (
    case_of,
    colours,
    finding_of,
    mean_colour_reader,
    model_of,
    with_mistakes,
)

import debugcnn
from debugcnn.diagnosis import engine
from debugcnn.diagnosis.registry import CAUSES, Evidence, Limit, NotExamined, cause

WORDS = dict(title="it is made up", symptom="none", check="none", fix="Take it away.")
MANY = Limit(0.5, "parts", "made up")


@pytest.fixture
def no_causes():
    """The list of causes, emptied for a test."""
    causes = dict(CAUSES)
    CAUSES.clear()
    yield CAUSES
    CAUSES.clear()
    CAUSES.update(causes)


def made_up(name, result=0.9, stage="model", **options):
    """A cause whose only measurement returns or raises `result`."""

    def measure(case):
        case.calls.append(name)
        if isinstance(result, Exception):
            raise result
        return result if isinstance(result, Evidence) else Evidence(result, f"{name} is {result}.")

    measure.__name__ = name
    return cause(name, stage=stage, **WORDS, **({"limit": MANY} | options))(measure)


def small_case(**options):
    images, labels = colours(40)
    case = case_of(mean_colour_reader(), images, labels, with_mistakes(labels, 4), **options)
    case.calls = []
    return case


def verdicts():
    return {finding.cause: finding.verdict for finding in engine.examine(small_case()).findings}


# ------------------------------------------------------------------------------------------- order


def test_a_measurement_follows_those_that_it_refers_to(no_causes):
    made_up("first_by_stage", stage="files", after=("late",))
    made_up("b", unless=("c:c",))
    made_up("c", 0.1, after=("predictions",))
    made_up("late", stage="predictions")
    made_up("a", stage="model", explained_by=("late",))  # does not wait
    case = small_case()
    engine.examine(case)
    assert case.calls == ["a", "late", "first_by_stage", "c", "b"]


def test_without_references_the_stages_are_the_order(no_causes):
    for name, stage in (("z", "files"), ("y", "data"), ("x", "data"), ("w", "confidence")):
        made_up(name, stage=stage)
    assert [m.cause for m in engine.in_order()] == ["z", "x", "y", "w"]


@pytest.mark.parametrize("kind", ["unless", "after"])
def test_measurements_that_wait_for_one_another_are_an_error(no_causes, kind):
    made_up("a", **{kind: ("b",)})
    made_up("b", **{kind: ("c",)})
    made_up("c", **{kind: ("a",)})
    with pytest.raises(ValueError, match="wait for one another: a:a, b:b, c:c"):
        engine.in_order()


def test_a_cause_may_refer_to_its_own_stage(no_causes):
    made_up("a", unless=("model",))
    made_up("b", stage="files")
    assert [m.cause for m in engine.in_order()] == ["b", "a"]


@pytest.mark.parametrize("kind", ["unless", "after", "explained_by"])
@pytest.mark.parametrize("reference", ["nobody", "a:nothing", ":nothing", "modell"])
def test_a_reference_to_nothing_is_an_error(no_causes, kind, reference):
    made_up("a")
    made_up("b", **{kind: (reference,)})
    with pytest.raises(ValueError, match=f"reference '{reference}' names no cause"):
        engine.in_order()


def test_references_name_causes_measurements_or_stages(no_causes):
    a = made_up("a")

    @a.measurement(limit=MANY)
    def more(case):
        return Evidence(0, "")

    made_up("b", stage="files")
    measurements = engine.in_order()

    def named(reference):
        return [f"{m.cause}:{m.name}" for m in engine.meant([reference], measurements)]

    assert named("a") == ["a:a", "a:more"] == named("model")
    assert named("a:more") == ["a:more"] == named(":more") == named("model:more")
    assert named("files") == ["b:b"]


# ----------------------------------------------------------------------------------- not examined


def test_a_fault_makes_others_meaningless(no_causes):
    made_up("root")
    made_up("fine", 0.1)
    made_up("a", unless=("root",))
    made_up("b", unless=("fine",))
    report = engine.examine(small_case())
    finding = finding_of(report, "a")
    assert (finding.verdict, finding.value, finding.limit) == ("not examined", None, None)
    assert finding.message == "It cannot be told apart from root." and not finding.fix
    assert finding_of(report, "b").verdict == "fault"


def test_a_suspicion_makes_nothing_meaningless(no_causes):
    made_up("root", Evidence(0.1, "", suspicious=True))
    made_up("a", unless=("root",))
    assert verdicts() == {"root": "suspicious", "a": "fault"}


def test_a_measurement_that_cannot_be_made_says_why(no_causes):
    made_up("a", NotExamined("There is nothing to measure."))
    made_up("b", unless=("a",))
    report = engine.examine(small_case())
    finding = finding_of(report, "a")
    assert (finding.verdict, finding.message) == ("not examined", "There is nothing to measure.")
    assert finding_of(report, "b").verdict == "fault"


def test_needs_that_are_not_met_are_the_reason(no_causes):
    for need in ("train", "trained weights", "finite logits", "finite predictions"):
        made_up(need.replace(" ", "_"), needs=(need,))
    images, labels = colours(40)
    logits = np.full((40, 2), np.nan)
    untrained = model_of(layers.Flatten(), layers.Dense(2, "softmax"))
    case = case_of(untrained, images, labels, logits)
    case.calls = []
    report = engine.examine(case)
    assert {f.cause: f.message for f in report.findings} == {
        "train": "No training images were given.",
        "trained_weights": "Most weights are untrained.",
        "finite_logits": "The logits are not finite.",
        "finite_predictions": "The predictions are not finite.",
    }
    assert not case.calls and (report.accuracy, report.auc) == (None, None)
    case = small_case(train=colours(20))
    report = engine.examine(case)
    assert {f.verdict for f in report.findings} == {"fault"} and report.accuracy == 0.9


def test_an_unknown_need_is_an_error(no_causes):
    made_up("a", needs=("money",))
    with pytest.raises(KeyError, match="money"):
        engine.examine(small_case())


# ---------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("evidence", "limit", "verdict"),
    [
        (Evidence(0.51, ""), MANY, "fault"),
        (Evidence(0.5, ""), MANY, "fine"),  # the limit itself is allowed
        (Evidence(0.51, "", clear=False), MANY, "fine"),
        (Evidence(0.51, "", clear=False, suspicious=True), MANY, "suspicious"),
        (Evidence(0.1, "", suspicious=True), MANY, "suspicious"),
        (Evidence(None, ""), MANY, "fine"),
        (Evidence(None, "", suspicious=True), MANY, "suspicious"),
        (Evidence(9.0, ""), None, "fine"),
        (Evidence(0.2, ""), Limit(0.5, "", "", above=False), "fault"),
        (Evidence(0.6, ""), Limit(0.5, "", "", above=False), "fine"),
        (Evidence(0.3, ""), Limit(0.5, "", "", hint=0.2), "suspicious"),
        (Evidence(0.2, ""), Limit(0.5, "", "", hint=0.2), "fine"),
        (Evidence(0.3, "", clear=False), Limit(0.5, "", "", hint=0.2), "suspicious"),
        (Evidence(0.7, ""), Limit(0.5, "", "", above=False, hint=0.8), "suspicious"),
        (Evidence(0.9, ""), Limit(0.5, "", "", above=False, hint=0.8), "fine"),
        (Evidence(0.7, "", limit=Limit(0.8, "", "")), MANY, "fine"),  # its own limit counts
    ],
)
def test_evidence_is_judged_by_its_limit(no_causes, evidence, limit, verdict):
    made_up("a", evidence, limit=limit)
    (finding,) = engine.examine(small_case()).findings
    assert (finding.verdict, finding.value) == (verdict, evidence.value)
    assert bool(finding.fix) is (verdict == "fault")
    used = evidence.limit or limit
    assert finding.limit == (used and used.value)


def test_the_fix_of_the_evidence_replaces_that_of_the_cause(no_causes):
    made_up("a", Evidence(0.9, "", fix="Do something else."))
    made_up("b")
    report = engine.examine(small_case())
    assert [finding.fix for finding in report.findings] == ["Do something else.", "Take it away."]


# ---------------------------------------------------------------------------------------- demotion


def test_what_a_fault_explains_is_only_suspicious(no_causes):
    made_up("root", stage="predictions")
    made_up("a", explained_by=("root",))
    made_up("b", 0.1, explained_by=("root",))
    made_up("c", explained_by=("b",))
    report = engine.examine(small_case())
    assert {f.cause: f.verdict for f in report.findings} == {
        **{"root": "fault", "c": "fault"},
        **{"a": "suspicious", "b": "fine"},
    }
    assert not finding_of(report, "a").fix and finding_of(report, "a").message


def test_demotion_happens_once_by_the_faults_as_measured(no_causes):
    made_up("a")
    made_up("b", explained_by=("a",))
    made_up("c", explained_by=("b",))  # although b is only suspicious in the end
    assert verdicts() == {"a": "fault", "b": "suspicious", "c": "suspicious"}
    made_up("d", unless=("b",))
    assert verdicts()["d"] == "not examined"  # by the fault that was measured


def test_faults_that_explain_each_other_are_both_suspicious(no_causes):
    made_up("a", explained_by=("b",))
    made_up("b", explained_by=("a",))
    assert verdicts() == {"a": "suspicious", "b": "suspicious"}


def test_a_cause_does_not_explain_its_own_measurement(no_causes):
    made_up("a", explained_by=("model",))
    assert verdicts() == {"a": "fault"}
    a = CAUSES["a"]

    @a.measurement(limit=MANY, unless=("a",))
    def more(case):
        raise AssertionError("is not made")

    assert verdicts() == {"a": "fault"}


# -------------------------------------------------------------------------------- limits, findings


def test_a_user_overrules_limits_of_causes_and_measurements(no_causes):
    a = made_up("a", 0.6)

    @a.measurement(limit=MANY)
    def more(case):
        return Evidence(0.6, "More.", limit=case.limits_given and Limit(0.5, "", ""))

    def examine(**limits):
        case = small_case(limits=limits)
        case.limits_given = bool(limits)
        report = engine.examine(case)
        return {m.measurement: (m.verdict, m.limit) for m in report.measurements}

    assert examine() == {"a": ("fault", 0.5), "more": ("fault", 0.5)}
    assert examine(a=0.7) == {"a": ("fine", 0.7), "more": ("fault", 0.5)}  # the first one's
    assert examine(**{"a:more": 0.7}) == {"a": ("fault", 0.5), "more": ("fine", 0.7)}
    both = examine(**{"a": 0.2, "a:a": 0.7})
    assert both["a"] == ("fine", 0.7)
    assert examine(a=0.6)["a"] == ("fine", 0.6)


def test_limits_keep_their_direction(no_causes):
    made_up("a", 0.6, limit=Limit(0.5, "", "", above=False))
    case = small_case(limits={"a": 0.7})
    (measured,) = engine.examine(case).measurements
    assert (measured.verdict, measured.above, measured.limit) == ("fault", False, 0.7)


@pytest.mark.parametrize("name", ["leek", "leak:leek", "leak:", "", "data"])
def test_limits_of_unknown_causes_are_an_error(name):
    with pytest.raises(ValueError, match="There is no cause .* to set a limit for: choose one of"):
        small_case(limits={name: 0.1})


def test_a_cause_is_told_by_its_worst_measurement(no_causes):
    def add(name, *results):
        first = made_up(name, results[0])
        for i, result in enumerate(results[1:]):

            def measure(case, result=result):
                if isinstance(result, Exception):
                    raise result
                return result

            measure.__name__ = f"more{i}"
            first.measurement(limit=MANY)(measure)

    fine, other = Evidence(0.1, "Fine."), Evidence(0.2, "Also fine.")
    hint = Evidence(0.3, "Hint.", suspicious=True)
    hint2 = Evidence(0.4, "Another hint.", suspicious=True)
    fault, none = Evidence(0.9, "Fault."), NotExamined("Not looked at.")
    for name, results, message in (
        ("a", (fine, other), "Fine."),  # of equal ones without a finding the first
        ("b", (fine, fault, hint), "Fault."),
        ("c", (hint, hint2, fine), "Another hint."),  # of equal findings the last
        ("d", (none, fine), "Fine."),
        ("e", (none, NotExamined("Later.")), "Not looked at."),
    ):
        add(name, *results)
        assert finding_of(engine.examine(small_case()), name).message == message


def test_faults_come_first_and_of_these_the_root(no_causes):
    made_up("late", stage="data")
    made_up("suspicion", Evidence(0.1, "", suspicious=True), stage="files")
    made_up("fine", 0.1, stage="files")
    made_up("unknown", NotExamined("No."), stage="files")
    made_up("second", stage="model")
    made_up("first", stage="model", limit=Limit(0, "", ""))
    made_up("measured_later", stage="files", after=("late",))
    report = engine.examine(small_case())
    order = [f.cause for f in report.findings]
    assert order == [
        *("measured_later", "first", "second", "late"),
        *("suspicion", "fine", "unknown"),
    ]
    assert [f.cause for f in report.faults] == order[:4]


def test_every_value_is_kept(no_causes):
    a = made_up("a", np.float32(0.25))

    @a.measurement(limit=MANY)
    def more(case):
        raise NotExamined("Not now.")

    @a.measurement()
    def third(case):
        return Evidence(np.int64(3), "Three.", suspicious=True)

    record = engine.examine(small_case()).to_dict()
    keys = ("cause", "measurement", "verdict", "value", "limit", "above", "message", "fix")
    assert [tuple(measured[key] for key in keys) for measured in record["measurements"]] == [
        ("a", "a", "fine", 0.25, 0.5, True, "a is 0.25.", ""),
        ("a", "more", "not examined", None, None, True, "Not now.", ""),
        ("a", "third", "suspicious", 3.0, None, True, "Three.", ""),
    ]
    assert set(record["measurements"][0]) == set(keys)
    assert json.loads(json.dumps(record))["measurements"] == record["measurements"]


def test_progress_wraps_the_list_of_measurements(no_causes):
    made_up("a")
    made_up("b")
    seen = []

    def progress(steps):
        for step in steps:
            seen.append(step.cause)
            yield step

    report = engine.examine(small_case(), progress)
    assert seen == ["a", "b"] == [m.cause for m in report.measurements]


# ---------------------------------------------------------------------------------------- registry


def test_a_name_is_taken_once_and_a_stage_exists(no_causes):
    made_up("a")
    with pytest.raises(ValueError, match="There is a cause 'a' already"):
        made_up("a")
    with pytest.raises(ValueError, match="stage is one of files, model, .* not 'later'"):
        made_up("b", stage="later")
    assert list(CAUSES) == ["a"]


def test_what_a_diagnosis_uses_is_registered_without_a_call():
    assert len(CAUSES) == 23 and debugcnn.diagnose is engine.diagnose
    for name, registered in CAUSES.items():
        assert registered.name == name and registered.measurements
        words = registered.title, registered.symptom, registered.check, registered.fix
        assert all(words) and registered.fix.endswith(".") and not registered.title.endswith(".")
        assert len({m.name for m in registered.measurements}) == len(registered.measurements)
        for measurement in registered.measurements:
            if measurement.limit:
                assert measurement.limit.unit and measurement.limit.origin
    ordered = engine.in_order()
    assert len(ordered) == sum(len(c.measurements) for c in CAUSES.values())
