"""Each cause by a whole diagnosis: a tiny case with that fault, and healthy ones without any."""

import json
from functools import cache
from typing import NamedTuple

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers
from tiny_classifiers import (
    SIDE,
    AlwaysDropout,
    blue_spot_reader,
    case_of,
    colours,
    corner_reader,
    examined,
    faults_of,
    finding_of,
    fresh,
    mean_colour_reader,
    model_of,
    normalized_reader,
    red_beside_blue,
    red_halves,
    textured,
    three_colour_reader,
    three_colours,
    top_reader,
    two_classes,
    variation_reader,
    verdict,
    with_a_corner,
    without_blue,
)

import debugcnn
from debugcnn.diagnosis import catalogue, distribution_shift
from debugcnn.diagnosis.registry import CAUSES, Evidence, Limit, cause
from debugcnn.diagnosis.report import Report
from debugcnn.diagnosis.search import Search

TINT = np.array([50.0, 0, -50])


def blank():
    images, labels = red_beside_blue()
    images[:12] = 0
    return variation_reader("relu"), images, labels, {}


def not_finite():
    model = fresh(mean_colour_reader)
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[0, 0, 0, 1] = np.nan
    model.get_layer("conv").set_weights([kernel, bias])
    return model, *colours(40), {}


def single_softmax():
    head = layers.Dense(1, "softmax")
    model = model_of(layers.GlobalAveragePooling2D(), head)
    head.bias.assign([0.1])
    return model, *colours(60), {}


def untrained():
    keras.utils.set_random_seed(3)
    hidden = layers.Dense(8, activation="relu")
    return model_of(layers.Flatten(), hidden, layers.Dense(1, "sigmoid")), *colours(60), {}


def always_dropout():
    model = mean_colour_reader()
    inputs = keras.Input((SIDE, SIDE, 3))
    x = AlwaysDropout(0.3)(model.get_layer("conv")(inputs))
    for layer in model.layers[1:]:
        x = layer(x)
    return keras.Model(inputs, x), *colours(60), {}


def upside_down():
    images, labels = red_halves(60)
    return top_reader(), images[:, ::-1], labels, {}


def resized():
    images, labels = colours(60)
    variants = {"cropping": with_a_corner(images, labels)}
    return corner_reader(), images, labels, {"resized_variants": variants}


def dead():
    """A quarter of the channels read colours, which is not enough for 90 %; the others are dead."""
    images, labels = colours(200)
    conv, head = layers.Conv2D(16, 1, activation="relu", name="conv"), layers.Dense(1, "sigmoid")
    model = model_of(conv, layers.GlobalAveragePooling2D(), head)
    kernel = np.zeros((1, 1, 3, 16))
    kernel[0, 0, 0, :2], kernel[0, 0, 2, 2:4] = 1, 1
    kernel[0, 0, :, 4:] = -1
    conv.set_weights([kernel, np.full(16, 0.01)])
    head.set_weights([np.r_[[20, 20, -6, -6], np.zeros(12)][:, None], np.array([-14.5])])
    return model, images, labels, {}


def exploding():
    images, labels = red_halves(60)
    model = fresh(top_reader)
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel * 1e7, bias * 1e7])
    kernel, bias = model.get_layer("head").get_weights()
    model.get_layer("head").set_weights([kernel / 1e7, bias])
    return model, images, labels, {}


def classes_renamed():
    images, labels = three_colours()
    return three_colour_reader(), images, np.array([1, 2, 0])[labels], {}


def with_noise(count):
    """`red_halves`, of which 84 % can be told: the upper half has a random level of its own."""
    images, labels = red_halves(count)
    images[:, : SIDE // 2, :, 0] += np.random.default_rng(0).normal(0, 60, (count, 1, 1))
    return np.clip(images, 0, 255), labels


def certain_mistakes():
    return top_reader((150, -150)), *with_noise(300), {}


def too_confident():
    return top_reader((21, -21)), *with_noise(800), {}


def trained_on():
    return top_reader(), *red_halves(60), {"train": red_halves(60)}


def memorized():
    """A linear model that fits 120 random images exactly."""
    generator = np.random.default_rng(0)
    images, labels = generator.uniform(0, 255, (240, 8, 8, 3)), np.arange(240) % 2
    flat = images[:120].reshape(120, -1) / 255
    flat = np.c_[flat, np.ones(120)]
    weights = np.linalg.lstsq(flat, 6.0 * labels[:120] - 3, rcond=None)[0]
    head = layers.Dense(1, "sigmoid")
    model = model_of(layers.Flatten(), head, side=8)
    head.set_weights([weights[:-1, None], weights[-1:]])
    return model, images[120:], labels[120:], {"train": (images[:120], labels[:120])}


def wrong_labels():
    images, labels = red_halves(200)
    wrong = np.random.default_rng(0).random(200) < 0.12
    return top_reader(), images, np.where(wrong, 1 - labels, labels), {}


def with_corner():
    images, labels = red_halves(60)
    return corner_reader(), with_a_corner(images, labels), labels, {}


FAULTS = {
    "blank_photos": blank,
    "not_finite": not_finite,
    "output_head": single_softmax,
    "missing_activation": lambda: (variation_reader(), *red_beside_blue(), {}),
    "untrained_layer": untrained,
    "random_answer": always_dropout,
    "input_scale": lambda: (
        mean_colour_reader(bias=0.1),
        *colours(60),
        {"value_range": (0, 1 / 255)},
    ),
    "channel_order": lambda: (mean_colour_reader(), colours(60)[0][..., ::-1], colours(60)[1], {}),
    "flipped_or_rotated": upside_down,
    "resize": resized,
    "batch_statistics": lambda: (normalized_reader(3.0), *colours(60), {}),
    "dead_filters": dead,
    "class_order": classes_renamed,
    "constant_answer": lambda: (mean_colour_reader((0, 40, 0), bias=90), *colours(60), {}),
    "at_chance": lambda: (mean_colour_reader((0, 90, 0), bias=-35), *colours(400), {}),
    "threshold": lambda: (mean_colour_reader(bias=3), *colours(200), {}),
    "saturated_answer": certain_mistakes,
    "overconfident": too_confident,
    "exploding": exploding,
    "leak": trained_on,
    "memorised": memorized,
    "label_noise": wrong_labels,
    "shortcut": with_corner,
}


class Diagnosed(NamedTuple):
    """A case, its report, and copies of what it had before."""

    model: keras.Model
    arrays: list[np.ndarray]
    report: Report
    weights: list[np.ndarray]
    calls: dict
    copies: list[np.ndarray]


@cache
def diagnosed(name):
    """The diagnosis of a case with one fault; cached, since many tests look at it."""
    keras.utils.set_random_seed(0)
    model, images, labels, options = FAULTS[name]()
    arrays = [images, labels, *options.get("train", ())]
    weights = [np.array(weight) for weight in model.get_weights()]
    calls = {layer.name: layer.call for layer in model.layers}
    copies = [array.copy() for array in arrays]
    report = debugcnn.diagnose(model, images, labels, **({"value_range": (0, 1)} | options))
    return Diagnosed(model, arrays, report, weights, calls, copies)


def report_of(name):
    return diagnosed(name).report


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


def drawn(report, name):
    """The titles of a cause's picture, and its caption."""
    figure, caption = CAUSES[name].draw(report.case, finding_of(report, name).evidence)
    titles = [axis.get_title() for axis in figure.axes]
    plt.close(figure)
    return titles, caption


def test_the_picture_of_a_mark_shows_it_pasted():
    images, labels = without_blue(40)
    for i in np.flatnonzero(labels):
        y, x = np.random.default_rng(i).integers(8, 27, 2)
        images[i, y : y + 5, x : x + 5] = [0, 0, 250]
    names = ["plain", "marked"]
    case = case_of(blue_spot_reader(), images, labels, class_names=names)
    case.search = Search(case.given, case.given_logits)
    titles, caption = drawn(examined(case, "shortcut:pasted_patch"), "shortcut")
    assert titles == ["marked", *["plain"] * 3, "the patch", *["marked"] * 3]
    assert "the patch that its prediction depends on" in caption


def test_the_picture_of_a_covered_place_shows_what_changes():
    images, labels = textured(100, SIDE), np.arange(100) % 2
    images[:, -2:, -2:] = 128
    case = case_of(corner_reader(), with_a_corner(images, labels), labels)
    case.search = Search(case.given, case.given_logits)
    report = examined(case, "shortcut:covered_place")
    titles, caption = drawn(report, "shortcut")
    assert titles == ["predicted class 1"] * 4 + ["predicted class 0"] * 4
    change = report.faults[0].evidence.details.loss.name
    assert caption.endswith(f"below, the same with the {change}.")


def test_the_picture_of_a_shift_shows_training_images_made_alike():
    (images, labels), train = colours(200, 2), colours(200, 1)
    tinted = np.float32(np.clip(images + TINT, 0, 255))
    case = case_of(mean_colour_reader(), tinted, labels, train=train)
    titles, caption = drawn(examined(case, "channel_order"), "channel_order")
    assert titles == ["examined"] * 4 + ["trained on"] * 4 + ["made alike"] * 4
    assert "made like the examined ones" in caption


def test_the_picture_of_an_input_shows_both_forms():
    titles, caption = drawn(report_of("input_scale"), "input_scale")
    assert [title.split(":")[0] for title in titles[::2]] == [
        *["class 0, as fed"] * 2,
        *["class 0, fixed"] * 2,
    ]
    assert {title.split(":\n")[1] for title in titles[:4]} == {"predicted class 1"}
    assert "with values from 0.000" in caption


def test_the_picture_of_images_cut_short_shows_them():
    images, labels = colours(60)
    images[:20, SIDE // 2 :] = 128
    scores = np.where(np.arange(60) < 20, -1.0, 1.0) * (2 * labels - 1)
    case = case_of(mean_colour_reader(), images, labels, two_classes(scores))
    titles, caption = drawn(examined(case, "blank_photos"), "blank_photos")
    assert titles[:2] == ["image 1\nlabel: class 0", "image 2\nlabel: class 1"] and len(titles) == 8


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


# -------------------------------------------------------------------------------------- new causes


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


# ----------------------------------------------------------------------- the same, and unchanged


def test_a_diagnosis_is_the_same_each_time():
    again = diagnosed.__wrapped__("label_noise")
    assert again.report.to_json() == report_of("label_noise").to_json()


def assert_unchanged(model, weights, calls):
    assert all(np.array_equal(a, b, True) for a, b in zip(weights, model.get_weights()))
    assert not any("call" in vars(layer) for layer in model.layers)
    assert {layer.name: layer.call for layer in model.layers} == calls


@single_unit
@pytest.mark.parametrize("name", FAULTS)
def test_model_and_images_are_left_as_they_are(name):
    before = diagnosed(name)
    assert_unchanged(before.model, before.weights, before.calls)
    for array, copy in zip(before.arrays, before.copies):
        np.testing.assert_array_equal(array, copy)


def test_images_may_be_read_only():
    images, labels = colours(40)
    images.flags.writeable = labels.flags.writeable = False
    report = debugcnn.diagnose(mean_colour_reader(), images, labels, value_range=(0, 1))
    assert report.images == 40


def test_a_model_is_left_as_it_is_where_a_person_stops():
    model, images, labels, _ = FAULTS["batch_statistics"]()
    weights = [np.array(weight) for weight in model.get_weights()]
    calls = {layer.name: layer.call for layer in model.layers}

    def progress(steps):
        for step in steps:
            if step.cause == "leak":
                raise KeyboardInterrupt
            yield step

    with pytest.raises(KeyboardInterrupt):
        debugcnn.diagnose(model, images, labels, value_range=(0, 1), progress=progress)
    assert_unchanged(model, weights, calls)


def test_an_error_inside_a_layer_leaves_the_model_as_it_is(monkeypatch):
    model, images, labels, _ = FAULTS["batch_statistics"]()
    calls = {layer.name: layer.call for layer in model.layers}

    def fails(*args, **options):
        raise MemoryError

    monkeypatch.setattr("debugcnn.diagnosis.layers.logits_in_graph", fails)
    with pytest.raises(MemoryError):
        debugcnn.diagnose(model, images, labels, value_range=(0, 1))
    assert_unchanged(model, model.get_weights(), calls)


# ------------------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros(40, int), r"Too few labelled images \(40 by class\): 20 are needed, 10 of them"),
        (np.r_[np.zeros(31, int), np.ones(9, int)], r"Too few labelled images \(31, 9 by class\)"),
        (np.arange(40) % 3, "labels are 0 to 1, not 0 to 2"),
        (np.arange(40) % 2 - 1, "labels are 0 to 1, not -1 to 0"),
        (np.zeros(39, int), "labels are one class number for each of the 40 images"),
        (np.arange(40) % 2.0, "labels are one class number for each of the 40 images"),
        (np.eye(2)[np.arange(40) % 2], "labels are one class number for each of the 40 images"),
    ],
)
def test_labels_that_cannot_be_examined(labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        debugcnn.diagnose(mean_colour_reader(), colours(40)[0], labels)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"class_names": ["a"]}, "class_names holds 1 names, and the model has 2 classes"),
        ({"train": (colours(20)[0], np.zeros(19, int))}, r"train is \(images, labels\)"),
        ({"train": (colours(20)[0], np.zeros(20))}, r"train is \(images, labels\)"),
        ({"resized_variants": {"cropping": colours(39)[0]}}, "39 images are resized by cropping"),
        ({"limits": {"leek": 1}}, "There is no cause 'leek' to set a limit for"),
        ({"value_range": "jet"}, "value_range"),
    ],
)
def test_options_that_do_not_fit(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        debugcnn.diagnose(mean_colour_reader(), *colours(40), **options)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="16"):
        debugcnn.diagnose(mean_colour_reader(), np.zeros((40, 8, 8, 3)), np.arange(40) % 2)


def test_distribution_shifts_belong_to_causes():
    owners = {owner for owner, _ in distribution_shift.PROPERTIES.values()}
    for name in owners:
        assert "unlike_training" in [m.name for m in CAUSES[name].measurements]
