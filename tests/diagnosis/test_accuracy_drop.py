"""What it costs to take something away, and when that is a shortcut."""

import numpy as np
import pytest
from tiny_classifiers import (
    case_of,
    colours,
    corner_reader,
    examined,
    finding_of,
    mean_colour_reader,
    two_classes,
    with_a_corner,
    with_mistakes,
)

import debugcnn
from debugcnn.diagnosis.causes import shortcut as shortcut_module
from debugcnn.diagnosis.forms import Feed, screen
from debugcnn.diagnosis.interventions import (
    CUE_AUC,
    Loss,
    accuracy_drop,
    loss_of,
    strongest,
)
from debugcnn.statistics import Z_ONE_IN_2000


def drops(model, images, labels, **options):
    feed = Feed(images, (0, 1))
    losses = accuracy_drop(model, feed, labels, feed.logits(model), **options)
    return {loss.name: loss for loss in losses}


def test_a_loss_in_closed_form():
    labels = np.repeat([0, 1], [30, 10])
    before = np.arange(40) != 0
    after = before & (np.arange(40) >= 3) & (np.arange(40) < 35)
    loss = loss_of("it", before, after, labels)
    assert (loss.accuracy, loss.left) == ((29 / 30 + 1) / 2, (27 / 30 + 0.5) / 2)
    assert loss.worst == (1, 0.5) and loss.drop == loss.accuracy - loss.left
    shares = np.array([2 / 30, 5 / 10])
    error = np.sqrt(np.sum(shares * (1 - shares) / [30, 10])) / 2
    assert loss.low == pytest.approx(shares.mean() - Z_ONE_IN_2000 * error)


def test_a_model_that_reads_a_corner():
    images, labels = colours()
    losses = drops(corner_reader(), with_a_corner(images, labels), labels)
    corner = losses["bottom right corner covered"]
    assert (corner.accuracy, corner.left, corner.worst) == (1, 0.5, (1, 1.0)) and corner.low > 0.3
    assert losses["top left corner covered"].left == 1
    assert "brightness equalised" not in losses  # by itself it separates nothing


def test_only_what_separates_the_classes_by_itself_is_taken_away():
    images, labels = colours(60)
    losses = drops(mean_colour_reader(), images, labels)
    assert losses["tint equalised"].cue > CUE_AUC and losses["tint equalised"].left < 0.7
    assert losses["border covered"].cue is None
    assert not {"brightness equalised", "file quality equalised"} & set(losses)
    assert set(drops(mean_colour_reader(), images, labels, global_only=True)) == {
        *("tint equalised", "colour taken away")
    } & set(losses)


def test_what_costs_little_on_few_images_is_tried_on_few():
    """Images of 540 that a model, which counts them, is run on."""
    labels = np.arange(540) % 2
    few, third = screen(labels, 9), screen(labels)
    cost_on_few = np.flatnonzero(few)[0]

    def run(lost):
        """The Loss by covering anything, which costs these images, and how many were tried."""
        tried = []

        def predict(model, images, output):
            tried.append(len(images))
            index = np.median(images[..., 0], (1, 2)).astype(int)
            covered = images[:, 0, 0, 1] != 0
            wrong = covered & lost[index]
            return two_classes(np.where(wrong, -1.0, 1.0) * (2 * labels[index] - 1))

        images = np.zeros((540, 8, 8, 2), np.float32)
        images[..., 0] = np.arange(540)[:, None, None]
        images[:, 4, 4, 1] = 99  # so that the mean, which covers, is not 0
        feed = Feed(images, (0, 255), predict=predict)
        losses = accuracy_drop(None, feed, labels, two_classes(2.0 * labels - 1))
        return next(loss for loss in losses if loss.name == "top left corner covered"), tried

    loss, tried = run(np.zeros(540, bool))
    assert loss.drop == 0 and set(tried) == {60}
    loss, tried = run(np.arange(540) == cost_on_few)
    assert 0 < loss.drop < 0.02 and 120 in tried and 360 not in tried
    lost = (third & ~few) | (np.arange(540) == cost_on_few)
    loss, tried = run(lost)
    assert loss.accuracy == 1 and loss.left == pytest.approx(1 - lost.mean(), abs=1e-6)
    assert 360 in tried


def loss(name, accuracy, left, low, cue=None):
    return Loss(name, accuracy, left, low, (1, 0.6), cue)


BORDER, MIDDLE, TINT = "border covered", "middle covered", "tint equalised"


@pytest.mark.parametrize(
    ("losses", "name", "is_shortcut"),
    [
        ([loss(BORDER, 1, 0.7, 0.2), loss(MIDDLE, 1, 0.99, 0)], BORDER, True),
        ([loss(BORDER, 1, 0.7, 0.2), loss(MIDDLE, 1, 0.6, 0)], BORDER, False),
        ([loss(BORDER, 1, 0.95, 0.02), loss(MIDDLE, 1, 1, 0)], BORDER, False),
        ([loss(TINT, 1, 0.9, 0.06, 0.9)], TINT, True),  # half the limit
        ([loss(TINT, 1, 0.9, 0.04, 0.9)], TINT, False),
        ([loss(MIDDLE, 1, 0.5, 0.4)], None, None),  # the thing is in the middle
        ([loss(BORDER, 1, 0.5, 0.4)], None, None),  # nothing to compare with
        ([], None, None),
    ],
)
def test_what_shows_a_shortcut(losses, name, is_shortcut):
    shortcut = strongest(losses, 0.1)
    if name is None:
        assert shortcut is None
    else:
        assert shortcut.loss.name == name and (shortcut.excess > 0) is is_shortcut
        assert (shortcut.control is not None) is (name == "border covered")


@pytest.mark.parametrize(("middle", "said"), [(0.99, "fault"), (0.6, "fine")])
def test_a_border_counts_only_if_it_costs_more_than_the_middle(monkeypatch, middle, said):
    images, labels = colours(100)
    losses = [loss("border covered", 1.0, 0.7, 0.2), loss("middle covered", 1.0, middle, 0.0)]
    monkeypatch.setattr(shortcut_module, "accuracy_drop", lambda *args: losses)
    case = case_of(mean_colour_reader(), images, labels, with_mistakes(labels, 4))
    (finding,) = examined(case, "shortcut:covered_place").findings
    assert finding.verdict == said
    assert "With the border covered, accuracy drops from 100.0% to 70.0%" in finding.message
    assert f"Covering as much of the middle costs {1 - middle:.1%}" in finding.message


def test_a_property_of_the_whole_image_that_is_read():
    images, labels = colours(200)
    report = debugcnn.diagnose(mean_colour_reader(), images, labels, value_range=(0, 1))
    assert report.faults[0].cause == "shortcut"
    assert "With the tint equalised" in report.faults[0].message
    # Then no other input is searched for: it could only restore what is read.
    message = finding_of(report, "channel_order").message
    assert message == "The model may read something global: with the tint equalised, it fails."
