"""Injected faults: how they are injected, and the pages that report the results."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from tiny_classifiers import colours, fresh, mean_colour_reader

import debugcnn
from debugcnn.diagnosis.catalogue import CAUSES
from debugcnn.files.compact_json import write_json
from injected_faults import (
    blind,
    cues,
    experiments,
    input_faults,
    results,
    run,
    strangers,
    tables,
    weight_faults,
)
from injected_faults.faults import FAULTS


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """The two pages and the figure in a folder of their own, with text around the marks."""
    for name, file in (("PAGE", "page.md"), ("README", "README.md"), ("FIGURE", "figure.png")):
        monkeypatch.setattr(tables, name, tmp_path / file)
    for page in (tables.PAGE, tables.README):
        blocks = (f"{begin}\nREPLACED\n{tables.END}" for begin in (tables.BEGIN, blind.BEGIN))
        page.write_text("before\n" + "\nthe middle\n".join(blocks) + "\nafter")
    return tmp_path


# ------------------------------------------------------------------------------------------- pages


def test_the_pages_show_the_stored_results():
    stored, page = results.read(), tables.PAGE.read_text()
    for part in (tables.faults_table, tables.healthy_table, tables.sentence):
        assert part(stored) in page
    assert tables.sentence(stored) in tables.README.read_text()
    assert list(stored.instances) == [instance.name for instance in run.instances()]
    assert tables.FIGURE.is_file() and tables.FIGURE.name in page


def test_the_pages_show_the_stored_cases_by_others():
    sets, page = blind.read(), tables.PAGE.read_text()
    assert blind.table(sets) in page and blind.missed(sets) in page
    assert blind.sentence(sets) in tables.README.read_text()
    for cases in sets.values():
        for case in cases.values():
            assert set(case["expected"]) <= set(CAUSES) | {"none_fits"}
            assert (case["kind"] == "control") == (not case["expected"])


def test_accepted_causes_are_in_the_catalogue():
    accepted = set().union(*(fault.expected for fault in FAULTS.values()))
    assert accepted | set().union(*strangers.ACCEPTED.values()) <= set(CAUSES)


def test_only_the_text_between_the_marks_is_replaced(pages):
    stored = results.read()
    for _ in range(2):
        tables.write(stored)
        blind.write(blind.read())
        for page, part in ((tables.PAGE, tables.faults_table), (tables.README, tables.sentence)):
            text = page.read_text()
            assert text.startswith("before\n") and text.endswith("\nafter")
            assert text.count(part(stored)) == text.count("\nthe middle\n") == 1
            assert "REPLACED" not in text
    assert tables.FIGURE.stat().st_size > 10_000


# ------------------------------------------------------------------------------------------ counts


@pytest.mark.parametrize(
    ("expected", "faults", "correct"),
    [
        (["leak"], ["leak", "resize"], True),
        (["leak"], ["resize", "leak"], False),
        (["leak"], [], False),
        ([], [], True),
        ([], ["leak"], False),
    ],
)
def test_only_the_first_cause_counts(expected, faults, correct):
    kind = "input" if expected else "healthy"
    assert results.Result(kind, "development", expected, faults, [], 0.8).correct is correct


def test_totals():
    found = results.Result("input", "held out", ["leak"], ["leak"], [], 0.8)
    healthy = found._replace(kind="healthy", expected=[])
    instances = {
        "a / model 0": found,
        "a / model 1": found._replace(faults=["resize", "leak"]),
        "b / model 0": found._replace(half="development", faults=[]),
        "c / model 0": found._replace(kind="weaker"),
        "healthy / model 0": healthy,
        "healthy / model 1": healthy._replace(faults=[]),
    }
    stored = results.Results("2 cores", instances)
    assert tables.totals(stored, "held out") == (2, 1, 1, 1, 2, 1)
    assert tables.totals(stored) == (3, 1, 1, 1, 2, 1)
    assert "| a | input |  | 1 of 2 | leak | resize |" in tables.faults_table(stored)
    assert "| model 0 | held out | 80.0% | leak |  |" in tables.healthy_table(stored)
    assert "1 of 2 faults" in tables.sentence(stored)


def test_any_fault_is_accepted_where_no_cause_fits():
    case = {"kind": "fault", "expected": ["none_fits"], "first_sight": ["leak"], "again": []}
    assert blind.is_correct(case, "first_sight") and not blind.is_correct(case, "again")


def test_results_are_written_with_one_line_an_instance(tmp_path):
    stored = results.read()
    results.write(stored, tmp_path / "results.json")
    assert results.read(tmp_path / "results.json") == stored
    assert len((tmp_path / "results.json").read_text().splitlines()) < len(stored.instances) + 10


@pytest.mark.parametrize("value", [[], {}, {"a": {}}, {1: [1.5, {"é": None}]}, [[[1]], "x"], "x"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_compact_json_is_json(value, depth, tmp_path):
    write_json(tmp_path / "file.json", value, depth)
    assert json.loads((tmp_path / "file.json").read_text()) == json.loads(json.dumps(value))


# ------------------------------------------------------------------------------ injections


@pytest.mark.parametrize(
    "cue",
    [
        cues.mark,
        cues.mark_anywhere,
        cues.add_border,
        cues.brighten,
        cues.tint,
        cues.to_grey,
        cues.compress,
        cues.blur,
    ],
)
def test_cues_change_the_chosen_images_only(cue):
    generator = np.random.default_rng(0)
    images = np.uint8(generator.uniform(0, 200, (6, 64, 64, 3)))
    chosen = np.arange(6) % 2 == 1
    changed = cue(images, chosen, generator=generator)
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(changed[~chosen], images[~chosen])
    assert all((a != b).any() for a, b in zip(changed[chosen], images[chosen]))


def test_a_change_of_the_weights_leaves_the_model_as_it_was():
    model = mean_colour_reader()
    before = debugcnn.model_digest(model)
    shifted = weight_faults.edited_copy(model, weight_faults.shift_logit(3))
    images = colours(8)[0] / 255
    before_and_after = [debugcnn.logits(each, images)[:, 1] for each in (model, shifted)]
    np.testing.assert_allclose(np.diff(before_and_after, axis=0), 3, atol=1e-3)
    assert debugcnn.model_digest(model) == before


def test_in_training_mode_a_prediction_depends_on_the_batch():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(1),
        ]
    )
    images = np.random.default_rng(0).normal(2, 1, (6, 8, 8, 3)).astype(np.float32)
    faulty = weight_faults.training_mode(model)
    assert np.ptp([model(images)[0, 0], model(images[:1])[0, 0]]) < 1e-5
    assert np.ptp([faulty(images)[0, 0], faulty(images[:1])[0, 0]]) > 1e-2


class FixedExperiment:
    """An experiment with 40 random images, trained on 100 others."""

    seed = 0

    def __init__(self):
        generator = np.random.default_rng(1)
        self.images = np.float32(generator.integers(0, 255, (40, 8, 8, 3)))
        self.labels = np.arange(40) % 2
        train = generator.integers(0, 255, (100, 8, 8, 3)).astype(np.uint8)
        self.train = train, np.arange(100) % 2

    def large_images(self):
        return np.random.default_rng(2).integers(0, 255, (3, 180, 180, 3)).astype(np.uint8)


@pytest.mark.parametrize("flip", [False, True])
def test_examined_training_images_are_among_those_that_are_known(flip):
    experiment = FixedExperiment()
    arguments = input_faults.examine_training_images(0.25, flip)(experiment, "model")
    known, labels = arguments["train"]
    copies = arguments["images"][:10]
    copies = copies[:, :, ::-1] if flip else copies
    for copy, label in zip(copies, arguments["labels"]):
        (index,) = np.flatnonzero((known == copy).all((1, 2, 3)))
        assert labels[index] == label
    np.testing.assert_array_equal(arguments["images"][10:], experiment.images[10:])


def test_labels_are_wrong_as_often_as_asked():
    experiment = FixedExperiment()
    experiment.labels = np.arange(4000) % 2
    wrong = input_faults.mislabel(0.1)(experiment, "model")["labels"] != experiment.labels
    assert wrong.mean() == pytest.approx(0.1, abs=0.02)
    labels = input_faults.mislabel_dogs(0.2)(experiment, "model")["labels"]
    assert (labels[::2] == 0).all() and labels[1::2].mean() == pytest.approx(0.8, abs=0.03)


def test_the_other_ways_to_resize_are_known_to_the_diagnosis():
    arguments = input_faults.resize_by("padding")(FixedExperiment(), "model")
    assert arguments["images"].shape == (3, 64, 64, 3)
    assert not arguments["images"][:, :12].any() and not arguments["images"][:, -12:].any()
    others = arguments["resized_variants"]
    assert set(others) == set(input_faults.RESIZING) - {"padding"}
    assert {images.shape for images in others.values()} == {(3, 64, 64, 3)}


# ---------------------------------------------------------------------------------------- commands


def saved_images(folder, images, labels):
    """A folder for cats (label 0) and one for dogs (1)."""
    for number, (image, label) in enumerate(zip(images, labels)):
        file = folder / ("cats", "dogs")[label] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(image)).save(file)


def red_model():
    """Predicts dog for reddish images of 64 x 64 pixels."""
    inputs = keras.Input((64, 64, 3))
    model = keras.Model(inputs, fresh(mean_colour_reader)(keras.layers.AveragePooling2D(4)(inputs)))
    return model


def test_a_run_examines_what_has_no_result_yet(tmp_path, monkeypatch, pages, capsys):
    for split, seed in (("train", 0), ("validation", 1)):
        images, labels = colours(80, seed)
        saved_images(tmp_path / "data" / split, images.repeat(4, 1).repeat(4, 2), labels)
    monkeypatch.setitem(experiments.BUILDS, "normalised", (red_model, 0))
    monkeypatch.setattr(experiments, "WORK", tmp_path / "work")
    monkeypatch.setattr(run, "SHOWN", tmp_path / "shown")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results.json")
    name = "BGR instead of RGB / normalised 0"
    few = [instance for instance in run.instances() if instance.name == name]
    monkeypatch.setattr(run, "instances", lambda: iter(few))
    run.main(["--data", str(tmp_path / "data")])
    stored = results.read()
    assert stored.instances[name].first == "channel_order"
    assert capsys.readouterr().out.startswith("correct ")
    assert "| BGR instead of RGB | input | 1 of 1 |" in tables.PAGE.read_text()
    run.main(["--data", str(tmp_path / "data")])
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit, match="was not written by data_separator.py"):
        run.main(["--data", str(tmp_path)])


def test_a_first_sight_result_is_kept(tmp_path, monkeypatch, pages):
    images, labels = colours(200)
    for name, kind, expected in (("bgr", "fault", ["channel_order"]), ("fine", "control", [])):
        case = tmp_path / "cases" / name
        case.mkdir(parents=True)
        mean_colour_reader().save(case / "model.keras")
        shown = np.uint8(images[..., ::-1] if name == "bgr" else images)
        np.savez(case / "photos.npz", photos=shown, labels=labels)
        truth = dict(kind=kind, expected=expected, value_range=[0, 1], description=name)
        (case / "truth.json").write_text(json.dumps(truth))
    monkeypatch.setattr(blind, "RESULTS", tmp_path / "blind.json")
    with monkeypatch.context() as patch:
        patch.setattr(blind, "examine", lambda folder, truth: ["leak"])
        blind.main([str(tmp_path / "cases"), "--name", "set"])
    blind.main([str(tmp_path / "cases"), "--name", "set"])
    cases = blind.read()["set"]
    assert all(case["first_sight"] == ["leak"] for case in cases.values())
    assert cases["bgr"]["again"][0] == "channel_order"
    page = tables.PAGE.read_text()
    assert "| set, first-sight result | 0 of 1 | 0 of 0 | 1 of 1 |" in page
    assert "| set, after changes | 1 of 1 |" in page
    with pytest.raises(SystemExit, match="holds no folder with a truth.json"):
        blind.main([str(tmp_path / "nothing")])


def test_models_of_strangers_are_fed_0_to_255(tmp_path, monkeypatch):
    images, labels = colours(80)
    saved_images(tmp_path / "images", images, labels)
    mean_colour_reader().save(tmp_path / "red.keras")
    (tmp_path / "truth.json").write_text('{"red.keras": {"faults": ["needs_rescale", "old"]}}')
    monkeypatch.setattr(strangers, "RESULTS", tmp_path / "strangers.json")
    strangers.main([str(tmp_path), "--images", str(tmp_path / "images")])
    (result,) = json.loads((tmp_path / "strangers.json").read_text())
    assert result["faults"][0] == "input_scale" and result["in_first_two"] == ["needs_rescale"]
    assert result["accuracy"] < result["fixed_accuracy"] and result["established"] == [
        "needs_rescale"
    ]


@pytest.mark.slow  # the commands themselves are tested above, in process
@pytest.mark.parametrize("module", ["run", "blind", "strangers"])
def test_each_command_starts(module):
    command = [sys.executable, "-m", f"injected_faults.{module}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"injected_faults.{module}" in done.stdout and not done.stderr
