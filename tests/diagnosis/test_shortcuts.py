"""What a model reads beside the thing: cues, interventions, pasted patches."""

import cv2
import numpy as np
import pytest
from tiny_classifiers import (
    SIDE,
    WIDE,
    blue_spot_reader,
    case_of,
    colours,
    corner_reader,
    examined,
    finding_of,
    mean_colour_reader,
    textured,
    two_classes,
    verdict,
    with_a_corner,
    with_mistakes,
    without_blue,
)

import debugcnn
from debugcnn.diagnosis.causes import shortcut as shortcut_module
from debugcnn.diagnosis.forms import Feed, screen
from debugcnn.diagnosis.interventions import (
    CONTROL_REGION,
    CUE_AUC,
    Loss,
    accuracy_drop,
    cues,
    interventions,
    loss_of,
    separation,
    strongest,
)
from debugcnn.diagnosis.patches import ALIKE, HOSTS, Patch, likeness, paste_patches
from debugcnn.diagnosis.search import Search
from debugcnn.statistics import Z_ONE_IN_2000, binary_auc


def as_jpeg(image, quality):
    data = cv2.imencode(".jpg", np.uint8(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.float32(cv2.imdecode(data, cv2.IMREAD_COLOR))


def changed_by(images):
    """{what is done: the images after it}."""
    return {name: change(images) for name, change in interventions(images).items()}


# ----------------------------------------------------------------------------------- interventions


def test_interventions_do_what_they_say():
    images, _ = colours(8)
    images[3] += 60
    images = np.clip(images, 0, 255)
    changed = changed_by(images)
    assert all(after.shape == images.shape for after in changed.values())
    assert np.ptp(changed["colour taken away"], axis=-1).max() < 1e-3
    assert np.ptp(changed["brightness equalised"].mean((1, 2, 3))) < 3
    assert np.ptp(changed["tint equalised"].mean((1, 2)), axis=-1).max() < 3
    inside = np.s_[:, 2:-2, 2:-2]
    np.testing.assert_array_equal(changed["border covered"][inside], images[inside])
    mean = images.mean((0, 1, 2))
    for edge in np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]:
        np.testing.assert_allclose(changed["border covered"][edge] - mean, 0, atol=1e-3)
    steps = np.abs(np.diff(changed["sharpness taken away"], axis=1)).mean()
    assert steps < 0.7 * np.abs(np.diff(images, axis=1)).mean()
    assert 0 < np.abs(changed["file quality equalised"] - images).mean() < 40


def test_corners_are_where_their_names_say():
    images = np.random.default_rng(0).uniform(0, 255, (2, 50, 40, 3))
    changed, height, width = changed_by(images), 11, 9  # 0.22 of the sides
    for name, corner in (
        ("top left", np.s_[:, :height, :width]),
        ("top right", np.s_[:, :height, -width:]),
        ("bottom left", np.s_[:, -height:, :width]),
        ("bottom right", np.s_[:, -height:, -width:]),
    ):
        expected = images.copy()
        expected[corner] = images.mean((0, 1, 2))
        np.testing.assert_allclose(changed[f"{name} corner covered"], expected)


def test_as_much_of_the_middle_as_of_the_border_is_covered():
    images = np.zeros((1, 100, 60, 3), np.float32)
    images[0, 0, 0] = 255  # so that the mean shows where it was put
    changed = changed_by(images)
    shares = {name: (after[0] != images[0]).any(-1).mean() for name, after in changed.items()}
    for place, control in CONTROL_REGION.items():
        assert shares[place] == pytest.approx(shares[control], abs=0.02)
    assert not (changed["middle covered"] != images)[:, :20].any()
    assert not (changed["middle covered"] != images)[:, :, :12].any()


def test_equal_brightness_takes_away_gain_and_offset():
    images = textured(6, 24) * 0.3 + 60
    equalised = interventions(images)["brightness equalised"]
    plain = equalised(images)
    generator = np.random.default_rng(0)
    gain, offset = generator.uniform(0.5, 2, (6, 1, 1, 1)), generator.uniform(-20, 20, (6, 1, 1, 1))
    np.testing.assert_allclose(equalised(images * gain + offset), plain, atol=1e-2)
    assert (plain > 0).all() and (plain < 255).all()
    assert np.ptp(plain.mean((1, 2, 3))) < 0.01 and np.ptp(plain.std((1, 2, 3))) < 0.01
    assert plain.mean() == pytest.approx(images.mean(), rel=1e-4)
    assert plain.std((1, 2, 3)).mean() == pytest.approx(images.std((1, 2, 3)).mean(), rel=1e-4)
    tint = interventions(images)["tint equalised"]
    np.testing.assert_allclose(tint(images + [9, 0, -9]), tint(images), atol=1e-2)
    assert tint(images).mean((1, 2, 3)) == pytest.approx(images.mean((1, 2, 3)), rel=1e-4)


def test_images_of_other_channels_are_changed_too():
    grey = textured(3, 24)[..., :1]
    assert {"tint equalised", "colour taken away"}.isdisjoint(interventions(grey))
    four = np.concatenate([textured(3, 24), 7 + grey / 2], -1)
    for images in (grey, four):
        for name, after in changed_by(images).items():
            assert after.shape == images.shape, name
    for name in ("tint equalised", "colour taken away", "file quality equalised"):
        np.testing.assert_array_equal(changed_by(four)[name][..., 3], four[..., 3])


# -------------------------------------------------------------------------------------------- cues


def separates(images, labels, name):
    """The AUC with which a property separates the classes, and whether that is clear."""
    return separation(cues(images)[name], labels)


def test_what_is_in_the_middle_is_no_cue():
    labels = np.arange(200) % 2
    images = np.float32(np.random.default_rng(0).uniform(80, 120, (200, 32, 32, 3)))
    thing = images.copy()
    thing[labels == 1, 6:-6, 6:-6] = [250, 40, 30]
    thing[labels == 1, 8:24:2, 8:24] = 0  # sharp, and of another lightness
    for name in cues(thing):
        area, clear = separates(thing, labels, name)
        assert area < 0.65 and not clear
    tinted = images + labels[:, None, None, None] * np.float32([15, 0, -15])
    assert separates(tinted, labels, "tint equalised") == (1, True)
    assert separates(tinted, labels, "brightness equalised")[0] < 0.65
    lighter = images + 20 * labels[:, None, None, None]
    assert separates(lighter, labels, "brightness equalised") == (1, True)
    assert separates(lighter, labels, "tint equalised")[0] < 0.65


def test_cues_in_closed_form():
    flat = np.zeros((2, 40, 60, 3), np.float32) + np.float32([120, 90, 60])
    flat[:, 6:34, 9:51] = [0, 250, 130]  # 0.15 of the sides are outside
    amounts = cues(flat)
    assert amounts["brightness equalised"] == pytest.approx([90, 90])
    assert amounts["tint equalised"] == pytest.approx([60, 60])
    assert amounts["colour taken away"] == pytest.approx([60, 60])
    # A wide frame of stripes: the steps are 30 from each column to the next.
    striped = np.zeros((1, 40, 60, 3), np.float32) + 100
    striped[:, :, ::2] += 30
    amounts = cues(striped)
    assert amounts["sharpness taken away"] == pytest.approx([30 / 15], rel=0.01)
    assert amounts["file quality equalised"] == pytest.approx([1])
    blocks = np.zeros((1, 40, 60, 3), np.float32) + 100
    blocks += 20 * (np.arange(60) // 8 % 2)[:, None]
    assert cues(blocks)["file quality equalised"][0] > 5
    again = cues(striped * 2 + 20)
    assert again["sharpness taken away"] == pytest.approx(amounts["sharpness taken away"], rel=0.01)
    grey = cues(striped[..., :1])
    assert grey["tint equalised"] == 0 and grey["brightness equalised"] == pytest.approx([115])


def test_sharpness_and_compression_are_cues():
    images, labels = textured(60, 64), np.arange(60) % 2
    blurred, coarse = images.copy(), images.copy()
    blurred[labels == 1] = [cv2.GaussianBlur(p, (0, 0), 2) for p in images[labels == 1]]
    assert separates(blurred, labels, "sharpness taken away")[0] > 0.95
    assert separates(images, labels, "sharpness taken away")[0] < 0.75
    coarse[labels == 1] = [as_jpeg(p, 10) for p in images[labels == 1]]
    assert separates(coarse, labels, "file quality equalised")[0] > 0.8


@pytest.mark.parametrize(("others", "clear"), [(0.0, True), (0.5, False)])
def test_a_cue_of_many_classes_is_one_of_a_single_class(others, clear):
    labels = np.repeat([0, 1, 2], 80)
    amounts = np.random.default_rng(0).normal(size=240) + 2 * (labels == 0) - others * (labels == 1)
    best, is_clear = separation(amounts, labels)
    assert best == pytest.approx(binary_auc(amounts, np.int32(labels == 0))) and best > 0.85
    assert is_clear is clear
    assert separation(amounts[:160], labels[:160])[1] is True  # of two, each is one


def test_few_images_have_to_separate_more():
    for half, clear in ((5, False), (20, True)):
        labels = np.repeat([0, 1], half)
        for amounts in (np.arange(2.0 * half), -np.arange(2.0 * half)):
            assert separation(amounts, labels) == (1, clear)
    # Of 8 and 8, 3.3 standard errors of chance are 0.49: only what is nearly perfect is clear.
    labels, amounts = np.repeat([0, 1], 8), np.arange(16.0)
    assert separation(amounts, labels) == (1, True)
    amounts[7], amounts[8] = 8.5, 7.5
    assert separation(amounts, labels) == (pytest.approx(63 / 64), False)
    labels, noise = np.arange(4000) % 2, np.random.default_rng(0).normal(size=4000)
    assert separation(noise + 0.8 * labels, labels)[1] is False  # 0.71: below CUE_AUC
    assert separation(noise + 1.1 * labels, labels)[1] is True  # 0.78
    assert separation(np.ones(4000), labels) == (0.5, False)
    labels = np.arange(60) % 3  # one of three classes
    for far in (5.0, -5.0):
        assert separation(np.where(labels == 2, far, noise[:60]), labels) == (1, True)


# ----------------------------------------------------------------------------------- accuracy drop


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


# ----------------------------------------------------------------------------------------- patches


def with_marks(share=1.0, same=True):
    """Images and labels: somewhere on a share of class 1, but at no edge, a square of 5 pixels, all
    blue, or each with a pattern of its own around a blue pixel.
    """
    images, labels = without_blue(40)
    generator = np.random.default_rng(0)
    for i in np.flatnonzero(labels):
        y, x = generator.integers(8, WIDE - 13, 2)
        if generator.random() < share:
            mark = generator.uniform(0, 255, (5, 5, 3)) if not same else np.zeros((5, 5, 3))
            mark[..., 2] = 250 if same else np.minimum(mark[..., 2], mark[..., 0])
            mark[2, 2] = (0, 0, 250)
            images[i, y : y + 5, x : x + 5] = mark
    return images, labels


@pytest.fixture(scope="module")
def spot_reader():
    return blue_spot_reader()


def patches_of(model, images, labels, **options):
    feed = Feed(images, (0, 1))
    return paste_patches(model, feed, labels, feed.logits(model), **options)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_mark_at_any_place_is_found_by_pasting_it(spot_reader, share):
    images, labels = with_marks(share)
    first, *_ = patches_of(spot_reader, images, labels)
    assert first.label == 1 and first.turned == 1 and first.twins >= 2
    square = images[first.image, first.rows, first.columns]
    assert square.shape == (8, 8, 3) and np.sum((square == [0, 0, 250]).all(-1)) >= 20


@pytest.mark.parametrize(("same", "said"), [(True, "fault"), (False, "fine")])
def test_a_patch_is_a_mark_if_it_has_twins(spot_reader, same, said):
    images, labels = with_marks(same=same)
    case = case_of(spot_reader, images, labels)
    case.search = Search(case.given, case.given_logits)
    (finding,) = examined(case, "shortcut:pasted_patch").findings
    assert finding.verdict == said
    if same:
        patch = finding.evidence.details
        assert f"(row {patch.rows.start}, column {patch.columns.start})" in finding.message
        assert "makes the model predict class 1 for 100% of them" in finding.message


def test_another_thing_in_every_image_has_no_twins(spot_reader):
    pasted = patches_of(spot_reader, *with_marks(same=False))
    assert pasted[0].turned == 1 and pasted[0].twins < 2
    pasted = patches_of(mean_colour_reader(), *colours(200))
    assert len(pasted) == 16 and max(patch.turned for patch in pasted) < 0.8


def test_patches_at_the_same_place_are_twins_though_they_look_different(spot_reader):
    images, labels = without_blue(40)
    images = {"same": images, "other": images.copy()}
    generator = np.random.default_rng(0)
    for i in np.flatnonzero(labels):
        mark = generator.uniform(0, 255, (7, 7, 3))
        mark[..., 2] = np.minimum(mark[..., 2], mark[..., 0])
        mark[3, 3] = (0, 0, 250)
        for where, (y, x) in {"same": (8, 20), "other": generator.integers(0, 33, 2)}.items():
            images[where][i, y : y + 7, x : x + 7] = mark
    pasted = {where: patches_of(spot_reader, p, labels) for where, p in images.items()}
    strong = [patch for patch in pasted["same"] if patch.label == 1]
    assert len(strong) == 8 and all((p.turned, p.twins) == (1, 7) for p in strong)
    for patch in strong:
        assert patch.rows.start <= 11 < patch.rows.stop
        assert patch.columns.start <= 23 < patch.columns.stop
    pixels = [images["same"][p.image, p.rows, p.columns] for p in strong[:2]]
    assert likeness(*pixels) < ALIKE  # not by their looks
    assert pasted["other"][0].turned == 1 and pasted["other"][0].twins < shortcut_module.TWINS
    # No more is looked at than can matter.
    fewer = patches_of(spot_reader, images["same"], labels, enough_twins=3)
    assert [p for p in fewer if p.label] == strong
    assert sum(p.label == 0 for p in pasted["same"]) == 8 and sum(p.label == 0 for p in fewer) == 5


def test_a_patch_is_given_up_only_where_it_cannot_turn_enough():
    labels = np.arange(200) % 2
    images = np.zeros((200, 10, 10, 3), np.float32)
    images[..., 0] = np.arange(200)[:, None, None]
    images[labels == 1, :, :, 1] = 99
    hosts = np.random.default_rng(0).permutation(np.flatnonzero(labels == 0))[:HOSTS]

    def predicting(stay):
        def predict(model, images, output):
            index = np.median(images[..., 0], (1, 2)).round().astype(int)
            pasted = (images[..., 1] == 99).any((1, 2)) & (labels[index] == 0)
            ones = (labels[index] == 1) | (pasted & ~np.isin(index, stay))
            return two_classes(np.where(ones, 1.0, -1.0))

        return predict

    for many, turned, looked_at in ((6, 26 / 32, 8), (7, 9 / 16, 5)):
        feed = Feed(images, (0, 255), predict=predicting(hosts[:many]))  # all in the first half
        patches = paste_patches(None, feed, labels, two_classes(2.0 * labels - 1), enough_twins=3)
        own = [patch for patch in patches if patch.label == 1]
        assert all(patch.turned == pytest.approx(turned) for patch in own)
        assert len(own) == looked_at


def test_a_class_of_few_correct_images_has_a_patch_all_the_same():
    images, labels = colours(200)
    few = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:2]]
    pasted = patches_of(mean_colour_reader(), images[few], labels[few], enough_twins=3)
    assert {patch.label for patch in pasted} == {0, 1}


@pytest.mark.parametrize("shape", [(40, 40, 3), (110, 70, 3), (11, 9, 1)])
def test_the_patch_holds_the_whole_mark(shape):
    """A mark of a tenth of the sides; covering a part of it is not enough."""
    generator, size = np.random.default_rng(0), max(1, min(shape[:2]) // 10)
    labels = np.repeat([0, 1], [5, 8])

    def predict(model, images, output):
        return two_classes(images.max((1, 2, 3)) - 0.5)

    for _ in range(3):
        images = np.zeros((13, *shape), np.float32)
        for i in np.flatnonzero(labels):
            y, x = (generator.integers(0, side - size + 1) for side in shape[:2])
            images[i, y : y + size, x : x + size] = 1
        feed = Feed(images, (0, 255), predict=predict)
        pasted = paste_patches(None, feed, labels, predict(None, images, None))
        assert sum(patch.label for patch in pasted) == 8
        for patch in [patch for patch in pasted if patch.label]:
            rows, columns = np.nonzero(images[patch.image].max(-1))
            assert patch.rows.start <= rows.min() and rows.max() < patch.rows.stop
            assert patch.columns.start <= columns.min() and columns.max() < patch.columns.stop
            assert patch.rows.stop - patch.rows.start == max(2, round(shape[0] * 0.2))
            assert patch.turned == 1


def test_patches_that_look_alike():
    generator = np.random.default_rng(0)
    patch, other = (np.float32(generator.uniform(0, 255, (24, 24, 3))) for _ in range(2))
    patch, other = (cv2.GaussianBlur(p, (0, 0), 3) * 4 - 380 for p in (patch, other))
    assert likeness(patch, patch) == 1
    assert likeness(patch, other) < 0.3
    for shift in ((4, -6), (-6, 4), (6, 6)):
        assert 0.4 < likeness(patch, np.roll(patch, shift, (0, 1))) < 0.8
    assert likeness(patch, patch + 23) == 1 > likeness(patch, patch + 24)


def of_spots(same, ground):
    """Images on a background that all share or that differs, each of class 1 with a spot somewhere:
    always the same spot, or another one.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = generator.uniform(0, 255, (40, 40, 40, 1))
    if ground:
        images[:] = 65
    for i in np.flatnonzero(labels):
        y, x = generator.integers(8, 25, 2)
        spot = generator.uniform(100, 255, (8, 8, 1)) if not same else 230.0
        images[i, y : y + 8, x : x + 8] = spot
    return np.float32(np.repeat(images, 3, -1)), labels


@pytest.mark.parametrize(
    ("same", "ground", "twins"), [(True, False, True), (False, False, False), (False, True, False)]
)
def test_twins_are_more_alike_than_what_else_lies_there(same, ground, twins):
    """A background that all images share makes no twins."""
    images, labels = of_spots(same, ground)

    def predict(model, images, output):  # where there is a light spot of 8 x 8 pixels anywhere
        means = np.stack([cv2.blur(image, (8, 8)).max() for image in images[..., 0]])
        return two_classes(np.float64(means) - (160 if not ground else 90))

    feed = Feed(images, (0, 255), predict=predict)

    pasted = paste_patches(None, feed, labels, predict(None, images, None))
    marks = [patch for patch in pasted if patch.label and patch.turned >= 0.8]
    assert marks and (max(patch.twins for patch in marks) >= shortcut_module.TWINS) is twins


# ---------------------------------------------------------------------------------------- verdicts


def patch(label, twins, turned=1.0):
    return Patch(0, label, slice(0, 3), slice(0, 3), turned, twins)


@pytest.mark.parametrize(
    ("patches", "said"),
    [
        ([patch(0, 5), patch(1, 0)], "fault"),
        ([patch(0, 4, 0.8), patch(1, 0)], "fault"),  # just enough
        ([patch(0, 6), patch(1, 1)], "suspicious"),  # things that look all the same
        ([patch(0, 3), patch(1, 0)], "fine"),
        ([], "fine"),
    ],
)
def test_patches_in_most_classes_are_only_suspicious(monkeypatch, patches, said):
    images, labels = colours(60)
    monkeypatch.setattr(shortcut_module, "paste_patches", lambda *args, **options: patches)
    case = case_of(mean_colour_reader(), images, labels, with_mistakes(labels, 4))
    assert verdict(case, "shortcut:pasted_patch") == said


def test_a_shortcut_is_not_looked_for_in_a_model_that_knows_little():
    images, labels = colours(200)
    guesses = two_classes(np.random.default_rng(0).normal(size=200))
    case = case_of(mean_colour_reader(), images, labels, guesses)
    report = examined(case, "shortcut:covered_place", "shortcut:pasted_patch")
    assert {m.message for m in report.measurements} == {
        "The model knows too little for a shortcut to show."
    }


def test_patches_are_pasted_only_where_no_place_explains_it():
    images, labels = textured(100, SIDE), np.arange(100) % 2
    images[:, -2:, -2:] = 128
    images = with_a_corner(images, labels)
    case = case_of(corner_reader(), images, labels)
    case.search = Search(case.given, case.given_logits)
    report = examined(case, "shortcut:covered_place", "shortcut:pasted_patch")
    finding = finding_of(report, "shortcut")
    assert finding.verdict == "fault" and "covered, accuracy drops" in finding.message
    assert report.measurements[1].verdict == "not examined"
    assert "for class 1 by 100.0%" in finding.message


def test_a_healthy_model_reads_no_shortcut():
    """It reads the middle, which is covered as a control."""
    labels = np.arange(100) % 2
    images = np.random.default_rng(0).uniform(60, 140, (100, SIDE, SIDE, 3)).astype(np.float32)
    images[labels == 1, 6:10, 6:10, 0] += 100
    model = mean_colour_reader((160, -80, -80), bias=-160 * 3 / 255)
    case = case_of(model, images, labels)
    case.search = Search(case.given, case.given_logits)
    assert case.accuracy > 0.9
    report = examined(case, "shortcut")
    assert {m.verdict for m in report.measurements} == {"fine"}
