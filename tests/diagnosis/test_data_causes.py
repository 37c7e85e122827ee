"""Images without content, and training images that are memorized."""

import numpy as np
import pytest
from scipy.stats import hypergeom
from tiny_classifiers import (
    SIDE,
    case_of,
    colours,
    examined,
    faults_of,
    finding_of,
    mean_colour_reader,
    red_beside_blue,
    textured,
    two_classes,
    variation_reader,
    verdict,
    with_mistakes,
)

import debugcnn
from debugcnn.diagnosis.case import blank_images
from debugcnn.diagnosis.causes.blank_photos import is_cut_short
from debugcnn.diagnosis.causes.memorised import memory
from debugcnn.statistics import Z_ONE_IN_2000

# ------------------------------------------------------------------------------------- blank_photos


def test_images_without_content():
    images = np.full((6, 8, 10, 3), 40, np.uint8)
    images[1] = 0
    images[2] = np.uint8([10, 200, 30])  # of one colour
    images[3, 2, 3] = 42  # hardly anything
    images[4, 2, 3, 1] = 43  # one pixel
    images[5, :, :, 2] = np.arange(10)
    assert blank_images(images).tolist() == [True, True, True, True, False, False]
    assert blank_images(images[..., :1]).tolist() == [True] * 6


@pytest.mark.parametrize(("count", "said"), [(0, "fine"), (1, "suspicious"), (12, "fault")])
def test_blank_images_are_reported_and_left_out(count, said):
    images, labels = red_beside_blue()
    images[:count] = 0
    model = variation_reader("relu")
    variants = {"cropping": images.copy()}
    case = case_of(model, images, labels, resized_variants=variants)
    report = examined(case, "blank_photos", "at_chance")
    finding = finding_of(report, "blank_photos")
    assert finding.verdict == said and report.accuracy > 0.99
    assert report.measurements[0].value == pytest.approx(count / 120)
    left = 120 if count == 1 else 120 - count
    assert report.images == left == len(case.given.resized_variants["cropping"])
    assert ("are left out" in finding.message) is (count > 1)
    assert len(case.all_labels) == len(case.blank) == 120


def test_a_class_without_content_may_be_meant_so():
    images, labels = red_beside_blue()
    images[labels == 0] = 128
    case = case_of(variation_reader("relu"), images, labels)
    (finding,) = examined(case, "blank_photos:blank_photos").findings
    assert finding.verdict == "suspicious" and "left out" not in finding.message
    assert len(case.labels) == 120 and case.accuracy == 1


@pytest.mark.parametrize("count", [50, 60])
def test_where_nearly_all_images_are_blank_none_is_left_out(count):
    images, labels = colours(60)
    images = np.where(np.arange(60)[:, None, None, None] < count, 7, images)
    case = case_of(mean_colour_reader(), images, labels, with_mistakes(labels, 4))
    (finding,) = examined(case, "blank_photos:blank_photos").findings
    assert finding.verdict == "fault" and "left out" not in finding.message
    assert len(case.labels) == 60


def test_which_images_are_cut_short():
    images = textured(6, 16)
    images[1, 12:] = 7
    images[2, 13:] = 7  # less than a quarter
    images[3, 12:, 3] = 9  # not all across
    images[4] = 200  # a plain background, with something on it
    images[4, 2:11, 3:9] = 90
    images[5, :4] = 200
    assert is_cut_short(images).tolist() == [False, True, False, False, False, False]
    assert not is_cut_short(np.full((2, 8, 8, 1), 9.0)).any()


@pytest.mark.parametrize(
    ("count", "cut", "wrong", "said"),
    [
        (60, True, True, "fault"),
        (60, True, False, "suspicious"),  # it does not matter
        (60, False, True, "fine"),  # they are whole
        (2, True, True, "fault"),  # all others are correct
        (1, True, True, "fine"),
    ],
)
def test_images_cut_short_are_a_fault_where_they_cost_accuracy(count, cut, wrong, said):
    images, labels = colours(120)
    if cut:
        images[:count, SIDE // 2 :] = 128
    mistaken = (np.arange(120) % 4 < 2) & (np.arange(120) < count) & wrong
    logits = two_classes(np.where(mistaken, -1.0, 1.0) * (2 * labels - 1))
    report = examined(case_of(mean_colour_reader(), images, labels, logits), "blank_photos")
    assert finding_of(report, "blank_photos").verdict == said
    measured = report.measurements[1]
    if count > 1 and cut:
        assert measured.value == pytest.approx(count / 120)
        assert f"{count} of 120 images have an empty lowest quarter" in measured.message
        assert f"{np.mean(~mistaken[:count]):.1%} of them" in measured.message


def test_chance_is_fishers():
    """Of 40 images 20 are cut short and 20 correct; so few of these by chance (hypergeometric)."""
    images, labels = colours(40)
    images[:20, SIDE // 2 :] = 128
    for correct_cut, said in ((5, "suspicious"), (4, "fault")):
        chance = hypergeom(40, 20, 20).cdf(correct_cut)
        assert (chance < 0.001) == (said == "fault")
        correct = np.r_[np.arange(20) < correct_cut, np.arange(20) < 20 - correct_cut]
        logits = two_classes(np.where(correct, 1.0, -1.0) * (2 * labels - 1))
        assert (
            verdict(case_of(mean_colour_reader(), images, labels, logits), "blank_photos") == said
        )


# ---------------------------------------------------------------------------------------- memorised


def test_memory_in_closed_form():
    labels = np.arange(300) % 3
    measured = memory(np.ones(300), labels, np.arange(300) % 4 > 0, labels)
    assert (measured.trained, measured.others) == pytest.approx((1, 0.75))
    error = np.sqrt(0.75 * 0.25 / 300 + 1e-6)
    assert measured.low == pytest.approx(0.25 - Z_ONE_IN_2000 * error, abs=1e-3)
    assert memory(np.ones(300), labels, np.ones(300), labels).low < 0


def test_memory_weights_classes_as_they_are_among_the_others():
    trained, others = np.repeat([0, 1, 2], [180, 20, 50]), np.repeat([0, 1], [30, 90])
    measured = memory(trained == 0, trained, others == 0, others)
    assert (measured.trained, measured.others) == (0.25, 0.25) and measured.low < 0
    correct = trained == 0
    correct[180:190] = True  # half of class 1
    measured = memory(correct, trained, others == 0, others)
    assert (measured.trained, measured.others) == (0.25 + 0.75 * 0.5, 0.25)
    error = np.sqrt(0.75**2 * 0.25 / 20 + 1e-6)
    assert measured.low == pytest.approx(0.375 - Z_ONE_IN_2000 * error)


@pytest.mark.parametrize(
    ("wrong", "said"), [(60, "fault"), (28, "suspicious"), (4, "fine"), (0, "fine")]
)
def test_training_images_that_are_known_better(wrong, said):
    """The model classifies all training images correctly; of 200 others some are wrong."""
    images, labels = colours(200)
    trained, trained_labels = colours(200, seed=1)
    predicted = debugcnn.logits(mean_colour_reader(), trained / 255).argmax(1)
    case = case_of(
        mean_colour_reader(),
        *(images, labels, with_mistakes(labels, wrong)),
        train=(trained, predicted),  # all of them correct
    )
    (finding,) = examined(case, "memorised").findings
    assert finding.verdict == said
    assert finding.message.startswith("Accuracy is 100.0% on training images")
    assert f"and {1 - wrong / 200:.1%} on the others" in finding.message


def test_what_was_memorized_is_not_learned():
    """At chance on the others: if training images are known, that is the explanation."""
    images, labels = colours(120)
    trained, trained_labels = colours(200, 1)
    guesses = two_classes(np.tile([-1.0, 1, 1, -1], 30))
    shuffled = np.random.default_rng(0).permutation(trained_labels)
    for truth, memorised, chance in (
        (trained_labels, "fault", "suspicious"),
        (shuffled, "fine", "fault"),
    ):
        case = case_of(mean_colour_reader(), images, labels, guesses, train=(trained, truth))
        report = examined(case, "memorised", "at_chance")
        assert finding_of(report, "memorised").verdict == memorised
        assert finding_of(report, "at_chance").verdict == chance


def test_a_healthy_model_has_no_fault_of_its_data():
    images, labels = colours(200)
    model = mean_colour_reader()
    case = case_of(model, images, labels, train=colours(200, seed=5))
    report = examined(case, "leak", "memorised", "label_noise", "blank_photos")
    assert faults_of(report) == [] and {f.verdict for f in report.findings} == {"fine"}
