"""How the images are fed: the forms, their contest, the search, and shifts of the images."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from tiny_classifiers import (
    SIDE,
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
    red_halves,
    textured,
    three_colour_reader,
    three_colours,
    top_reader,
    two_classes,
    verdict,
    with_a_corner,
    with_bars,
    with_mistakes,
)

import debugcnn
from debugcnn.diagnosis import distribution_shift, forms
from debugcnn.diagnosis.causes.flipped_or_rotated import rotated
from debugcnn.diagnosis.causes.resize import TALLER, WIDER, scaled
from debugcnn.diagnosis.forms import Contest, Feed, Form, compare_forms, contest, screen
from debugcnn.diagnosis.registry import CAUSES, NotExamined
from debugcnn.diagnosis.search import renamed_accuracy
from debugcnn.statistics import Comparison, auc

INPUT_CAUSES = "input_scale", "channel_order", "flipped_or_rotated", "resize"


def offered(cause, feed, labels=None, logits=None):
    """{name: Form} that a cause offers for a feed."""
    case = SimpleNamespace(labels=labels)
    return {form.name: form for form in CAUSES[cause].forms(case, feed, logits)}


def best_form(case, cause):
    """The Contest of the forms of one cause, tried on the case as it is fed."""
    options = CAUSES[cause].forms(case, case.given, case.given_logits)
    return contest(case.model, case.given, options, case.labels, case.given_logits)


# ------------------------------------------------------------------------------------------- forms


@pytest.fixture
def feed():
    return Feed(colours(40)[0], (0, 1))


def all_forms(feed):
    """{cause: {name: Form}} of the input, for a model that separates the classes."""
    labels = np.arange(len(feed.pixels)) % 2
    return {cause: offered(cause, feed, labels, with_mistakes(labels, 0)) for cause in INPUT_CAUSES}


def test_each_form_changes_the_images_and_their_resized_variants_alike():
    images = textured(4, 24)
    other = images[:, :, ::-1, ::-1].copy()
    feed, second = Feed(images, (0, 1), {"cropping": other}), Feed(other, (0, 1))
    options, options_of_other = all_forms(feed), all_forms(second)
    for name, form in options.pop("resize").items():
        assert not form.apply(feed).resized_variants, name  # not resized twice
    for cause in options:
        for name, form in options[cause].items():
            changed = form.apply(feed)
            expected = options_of_other[cause][name].apply(second)
            np.testing.assert_array_equal(changed.resized_variants["cropping"], expected.pixels)
            assert changed.value_range == expected.value_range
            assert changed.pixels.shape == images.shape
    np.testing.assert_array_equal(feed.pixels, textured(4, 24))


NEGATIVE = "black and white exchanged"
GAMMA = "pixels to the power of 1 / 2.2 (gamma)"


def test_value_ranges_that_are_tried(feed):
    options = all_forms(feed)["input_scale"]
    ranges = {f"pixel values {name}" for name in ("0 to 255", "-1 to 1", "caffe", "torch")}
    assert set(options) == {*ranges, NEGATIVE, GAMMA}
    grey = replace(feed, pixels=feed.pixels[..., :1])
    kept = ranges - {"pixel values caffe", "pixel values torch"}
    labels = np.arange(40) % 2
    of_grey = offered("input_scale", grey, labels, with_mistakes(labels, 0))
    assert set(of_grey) == {*kept, NEGATIVE, GAMMA}
    for name, form in options.items():
        assert (form.handicap > 0) is (name in ("pixel values caffe", NEGATIVE))
        if name in ranges:
            expected = debugcnn.from_pixels(feed.pixels, form.apply(feed).value_range)
            np.testing.assert_array_equal(form.apply(feed).images, expected)
    np.testing.assert_array_equal(options[NEGATIVE].apply(feed).pixels, 255 - feed.pixels)


def test_a_negative_is_tried_unless_predictions_are_inverted(feed):
    labels = np.arange(100) % 2
    for wrong, tried in ((0, True), (50, True), (54, True), (56, False), (100, False)):
        scores = 2.0 * labels - 1
        scores[:wrong] *= -1  # of both classes as many: of the pairs, 1 - wrong / 100 are in order
        logits = two_classes(scores)
        assert auc(logits, labels) == pytest.approx(1 - wrong / 100)
        assert (NEGATIVE in offered("input_scale", feed, labels, logits)) is tried


def test_gamma_undoes_linear_light(feed):
    linear = replace(feed, pixels=255 * (feed.pixels / 255) ** 2.2)
    restored = all_forms(feed)["input_scale"][GAMMA].apply(linear)
    np.testing.assert_allclose(restored.pixels, feed.pixels, rtol=1e-3)


def test_orientations(feed):
    changed = {name: form.apply(feed) for name, form in offered("flipped_or_rotated", feed).items()}
    expected = {
        "the images upside down": feed.pixels[:, ::-1, ::-1],
        "the images rotated to the left": np.rot90(feed.pixels, 1, (1, 2)),
        "the images rotated to the right": np.rot90(feed.pixels, -1, (1, 2)),
        "the images mirrored": feed.pixels[:, :, ::-1],
    }
    assert list(changed) == list(expected)
    for name, pixels in expected.items():
        np.testing.assert_array_equal(changed[name].pixels, pixels)


def test_rotated_images_keep_their_size():
    images = textured(3, 40)[:, :30]
    left, right = rotated(images, 1), rotated(images, 3)
    assert left.shape == right.shape == images.shape
    # What was the right edge is above now.
    edge = cv2.resize(images[0][:, -1][None], (40, 1), interpolation=cv2.INTER_LINEAR)[0]
    assert np.corrcoef(left[0, 0].ravel(), edge.ravel())[0, 1] > 0.9
    np.testing.assert_allclose(rotated(left, 2), right, atol=1e-3)
    np.testing.assert_array_equal(rotated(images, 2), images[:, ::-1, ::-1])
    assert rotated(images[..., :1], 1).shape == (3, 30, 40, 1)


# ------------------------------------------------------------------------------------ colour forms


@pytest.mark.parametrize("kind", ["YCrCb", "HSV"])
def test_other_colour_spaces_are_offered_where_the_images_look_like_them(kind):
    """As where cv2.cvtColor was called with another code; OpenCV is the oracle."""
    shades = np.linspace(0, 160, 32)[:, None, None]
    tints = np.random.default_rng(0).uniform(30, 80, (6, 1, 1, 3))
    images = np.float32(np.uint8(shades + tints * np.ones((32, 32, 1))))
    code = getattr(cv2, f"COLOR_RGB2{kind}")
    converted = np.float32([cv2.cvtColor(np.uint8(image), code) for image in images])
    usual = {"red and blue exchanged", "colour taken away"}
    for pixels, more in ((images, set()), (converted, {f"the channels taken for {kind}"})):
        feed = Feed(pixels, (0, 1))
        options = offered("channel_order", feed)
        assert set(options) == usual | more
        for name in more:
            again = options[name].apply(feed).pixels
            assert again.dtype == np.float32
            assert np.abs(again - images).mean() < 3 < 20 < np.abs(converted - images).mean()


def test_grey_images_have_no_order_of_channels(feed):
    with pytest.raises(NotExamined, match="do not have three channels"):
        offered("channel_order", replace(feed, pixels=feed.pixels[..., :1]))


def test_colours_of_forms(feed):
    options = offered("channel_order", feed)
    assert set(options) == {"red and blue exchanged", "colour taken away"}
    swapped = options["red and blue exchanged"].apply(feed).pixels
    np.testing.assert_array_equal(swapped, feed.pixels[..., [2, 1, 0]])
    grey = np.repeat(feed.pixels.mean(-1, keepdims=True), 3, -1)
    np.testing.assert_allclose(options["colour taken away"].apply(feed).pixels, grey, atol=1e-3)


# ------------------------------------------------------------------------------------ resize forms


def resize_forms(images, variants=None):
    """{name: images} that `resize` offers."""
    feed = Feed(images, (0, 1), variants or {})
    return {name: form.apply(feed).pixels for name, form in offered("resize", feed).items()}


BARS_OFF = "the bars at their edges cut off"
SHRUNK = "the images shrunk to {} and mirrored beyond"
ALWAYS = {SHRUNK.format("75%"), SHRUNK.format("60%"), WIDER, TALLER}


@pytest.mark.parametrize(
    ("shape", "above", "beside", "colour"),
    [
        ((28, 48), 10, 0, (0, 0, 0)),  # to a square
        ((48, 30), 0, 9, (255, 255, 255)),
        ((20, 44), 6, 0, (0, 0, 0)),  # to 32 x 44
        ((24, 40), 0, 8, (90, 160, 30)),  # to 24 x 56
        ((24, 40), 3, 5, (0, 0, 0)),
    ],
)
def test_bars_are_cut_off(shape, above, beside, colour):
    for channels in (3, 1):
        inside = textured(6)[:, : shape[0], : shape[1], :channels]
        padded = with_bars(inside, above, beside, colour)
        changed = resize_forms(padded, {"padding": padded[::-1]})
        assert set(changed) == {"the images resized by padding", BARS_OFF, *ALWAYS}
        size = padded.shape[2], padded.shape[1]
        truth = np.stack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in inside])
        np.testing.assert_array_equal(changed[BARS_OFF], truth.reshape(padded.shape))
        np.testing.assert_array_equal(changed["the images resized by padding"], padded[::-1])


def test_images_without_bars_stay():
    images = textured(20, 32)
    few, flat = images.copy(), np.full_like(images, 80)
    few[:6, :5] = 0  # 30 % of the images, and no more
    thin, middle = flat.copy(), images.copy()
    thin[:, 14:18] = images[:, 14:18]  # less than a quarter is left
    middle[:, 10:20] = 0  # not at the edges
    noisy = with_bars(images[:, 4:-4], 4)
    for bar in np.s_[:, :4], np.s_[:, -4:]:
        noisy[bar] += np.random.default_rng(0).uniform(0, 30, noisy[bar].shape)
    for pixels in (images, few, flat, thin, middle, noisy):
        assert set(resize_forms(pixels)) == ALWAYS
    few[6, :5] = 0
    cut = resize_forms(few)[BARS_OFF]
    np.testing.assert_allclose(cut[7:], images[7:], atol=1e-3)
    truth = cv2.resize(images[0, 5:], (32, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(cut[0], truth, atol=1e-3)


@pytest.mark.parametrize("colour", [0, 255])
def test_padding_at_one_side_is_cut_off(colour):
    images = textured(20, 40)[:, :32]
    padded = np.full_like(images, colour)
    padded[:, :16, :20] = images[:, 8:24, 10:30]
    cut = resize_forms(padded)[BARS_OFF]
    for i in range(20):
        truth = cv2.resize(images[i, 8:24, 10:30], (40, 32), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(cut[i], truth, atol=1e-3)


def test_scaled_images_keep_their_middle_or_are_mirrored():
    images = textured(2, 48)[:, :36]
    wide = scaled(images, 1, 2)
    expected = cv2.resize(images[0], (96, 36), interpolation=cv2.INTER_LINEAR)[:, 24:72]
    np.testing.assert_allclose(wide[0], expected, atol=1e-3)
    low = scaled(images, 0.5, 1)
    small = cv2.resize(images[1], (48, 18), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(low[1, 9:27], small, atol=1e-3)
    np.testing.assert_allclose(low[1, 8], low[1, 10])
    np.testing.assert_allclose(scaled(images, 1, 1), images)
    assert wide.shape == low.shape == images.shape
    shrunk = scaled(textured(2, 50)[:, :40, :, :1], 0.6, 0.6)
    small = cv2.resize(textured(2, 50)[0, :40, :, :1], (30, 24), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(shrunk[0, 8:32, 10:40, 0], small, atol=1e-3)
    np.testing.assert_allclose(shrunk[0, 7], shrunk[0, 9])
    np.testing.assert_allclose(shrunk[0, :, 40], shrunk[0, :, 38])


# ----------------------------------------------------------------------------------------- contest


def form(name, **options):
    return Form(name, lambda feed: feed, **options)


@pytest.mark.parametrize(
    ("before", "after", "better"),
    [
        (0.8, 0.95, True),
        (0.8, 0.8, False),
        (0.95, 0.8, False),
        (0.8, 0.81, False),  # too little
        (0.2, 0.45, False),  # still below chance
        (0.5, 1.0, True),
    ],
)
def test_a_form_is_better_if_more_is_correct(before, after, better):
    """Logits whose AUC is the share of correct predictions."""
    labels = np.arange(400) % 2
    logits = [
        two_classes((2.0 * labels - 1) * np.where(np.arange(400) < share * 400, 1, -1))
        for share in (before, after)
    ]
    outcome = compare_forms(logits[0], {form("a"): logits[1]}, labels)
    assert outcome.is_better is better and outcome.accuracies == pytest.approx((before, after))
    assert outcome.logits is (logits[1] if better else logits[0])
    assert outcome.gain == pytest.approx(2 * (after - before), abs=0.01)


def test_a_form_may_be_better_by_its_ranking_alone():
    """Where the threshold is off, the AUC rises while as many are correct."""
    labels = np.arange(400) % 2
    noise = np.random.default_rng(0).normal(size=400)
    weak, strong = (two_classes(spread * labels + noise - 20) for spread in (1, 3))
    outcome = compare_forms(weak, {form("a"): strong}, labels)
    assert outcome.is_better and outcome.accuracies == (0.5, 0.5)
    fewer = strong.copy()
    fewer[:20:2] = [-50, 50]  # 10 mistakes more, and the ranking is still much better
    worse = compare_forms(weak, {form("a"): fewer}, labels)
    assert worse.is_better and worse.accuracies[1] < 0.5


def test_fewer_correct_predictions_need_a_large_gain_in_auc():
    """The same small gain in AUC counts with as many correct predictions, and not with fewer."""
    labels = np.arange(800) % 2
    noise = np.random.default_rng(0).normal(size=800)
    before = two_classes(labels - 0.5 + noise)
    after = 1.15 * labels - 0.575 + noise
    same, fewer = two_classes(after), two_classes(after - 1)
    outcome = compare_forms(before, {form("a"): same}, labels)
    assert 0 < outcome.comparison.gain < forms.LARGE_GAIN
    assert outcome.is_better
    outcome = compare_forms(before, {form("a"): fewer}, labels)
    assert outcome.accuracies[1] < outcome.accuracies[0] - forms.MIN_GAIN and not outcome.is_better


def test_of_several_forms_the_best_wins():
    labels = np.arange(200) % 2
    after = {form(name): with_mistakes(labels, count) for name, count in (("a", 60), ("b", 10))}
    outcome = compare_forms(with_mistakes(labels, 80), after, labels)
    assert outcome.tried.name == "b" and outcome.is_better


def test_a_model_that_knows_nothing_wins_no_contest():
    labels = np.arange(60) % 2
    chance = np.random.default_rng(0).normal(size=(60, 2))
    wrong = chance * np.where(labels == chance.argmax(1), -1, 1)[:, None]  # always wrong
    assert not compare_forms(wrong, {form("a"): chance}, labels).is_better


def test_the_score_is_the_gain_less_the_handicap():
    comparison = Comparison(0.5, 0.8, 0.02, 0.01)
    for options, handicap in (({}, 0), ({"handicap": 0.05}, 0.05), ({"handicap_errors": 2}, 0.04)):
        outcome = Contest(form("a", **options), True, comparison, (0.5, 0.8), np.zeros((1, 2)))
        assert outcome.gain == pytest.approx(0.6) and outcome.score == pytest.approx(0.6 - handicap)


def test_what_is_tried_first_is_spread_over_the_classes():
    labels = np.random.default_rng(0).integers(0, 5, 400)
    first, few = screen(labels), screen(labels, 9)
    for k in range(5):
        assert np.sum(first[labels == k]) == -(-np.sum(labels == k) // 3)
    assert not (few & ~first).any() and 45 <= few.sum() <= 50
    assert screen(np.r_[np.zeros(200, int), 1])[200]
    assert screen(labels[:149]).all() and not screen(labels[:150]).all()


SHARES = {  # of correct predictions, and how many of 540 images have to be tried to see it
    "hopeless": (0.3, 60),
    "a little worse": (0.75, 180),
    "better": (0.95, 540),
}


def contest_of(names, **options):
    """A contest on 540 images: (Contest, {form: images tried}, labels)."""
    labels, tried = np.arange(540) % 2, dict.fromkeys(names, 0)
    pixels = np.broadcast_to(np.arange(540.0)[:, None, None, None], (540, 1, 1, 3))
    draws = np.random.default_rng(0).permutation(540) / 540

    def logits_of(share, indices):
        sign = np.where(draws[indices] < share, 1, -1) * (2 * labels[indices] - 1)
        return np.stack([-sign, sign], 1) * (1 + 0.1 * draws[indices, None])

    def made(name):
        def predict(model, images, output):
            tried[name] += len(images)
            return logits_of(SHARES[name][0], np.rint(images[:, 0, 0, 0]).astype(int))

        return Form(name, lambda feed: replace(feed, predict=predict), **options)

    feed = Feed(np.float32(pixels), (0, 255))
    options = [made(name) for name in names]
    outcome = contest(None, feed, options, labels, logits_of(0.8, np.arange(540)))
    return outcome, tried, labels


def test_a_form_is_tried_on_as_many_images_as_it_takes():
    outcome, tried, labels = contest_of(SHARES)
    assert outcome.is_better and outcome.tried.name == "better"
    assert tried == {name: count for name, (_, count) in SHARES.items()}
    assert outcome.accuracies == pytest.approx((0.8, 0.95), abs=0.01)
    correct = [np.mean(outcome.logits[k::9].argmax(1) == labels[k::9]) for k in range(9)]
    assert np.mean(correct) == pytest.approx(0.95, abs=0.01) and min(correct) > 0.85


def test_where_nothing_is_better_the_contest_is_on_what_was_tried():
    outcome, tried, labels = contest_of(["hopeless", "a little worse"])
    assert not outcome.is_better and outcome.tried.name == "a little worse"
    assert tried == {"hopeless": 60, "a little worse": 180}
    assert np.mean(outcome.logits.argmax(1) == labels) == pytest.approx(0.8, abs=0.01)
    outcome, tried, _ = contest_of(["hopeless"])
    assert not outcome.is_better and len(outcome.logits) == 540
    assert outcome.accuracies[1] == pytest.approx(0.3, abs=0.15) and tried == {"hopeless": 60}


def test_a_form_that_depends_on_the_batch_is_not_tried_on_few_images():
    assert contest_of(["hopeless"], runs_model_otherwise=True)[1] == {"hopeless": 180}


@pytest.mark.parametrize(
    ("wide", "tall", "winner"),
    [
        (2.0, 0.2, WIDER),
        (2.0, 1.0, WIDER),
        (2.0, 2.0, None),  # as where a model sees larger things better
        (0.2, 2.0, TALLER),
        (1.1, 0.2, None),  # by chance
    ],
)
def test_proportions_matter_where_one_is_better_and_its_rival_is_not(wide, tall, winner):
    labels = np.arange(300) % 2
    noise = np.random.default_rng(0).normal(size=(3, 300))
    strengths = np.array([1, wide, tall])[:, None]
    outcome = contest_of_proportions(*(strengths * (2 * labels - 1) + noise))
    assert (outcome.tried.name if outcome.is_better else None) == winner


def contest_of_proportions(as_fed, wide, tall, rivals=(TALLER, WIDER)):
    """A contest of two forms, and one that changes nothing, by the scores (n,) of each."""
    feed = Feed(np.arange(300, dtype=np.float32)[:, None, None, None], (0, 255))

    def made(name, scores, rival):
        def predict(model, images, output):
            return two_classes(scores[np.rint(images[:, 0, 0, 0]).astype(int)])

        return Form(name, lambda feed: replace(feed, predict=predict), rival=rival)

    options = [made(WIDER, wide, rivals[0]), made(TALLER, tall, rivals[1])]
    options.append(made("nothing", as_fed, None))
    return contest(None, feed, options, np.arange(300) % 2, two_classes(as_fed))


def test_a_threshold_that_is_off_is_no_matter_of_proportions():
    """Stretched, as many more are correct as with another threshold; the ranking is the same."""
    scores = np.random.default_rng(0).normal(size=300) + 4 * (np.arange(300) % 2) - 2
    three = scores + 3, scores, scores + 3
    assert contest_of_proportions(*three, rivals=(None, None)).is_better
    assert not contest_of_proportions(*three).is_better


# ------------------------------------------------------------------------------------- whole causes


@pytest.mark.parametrize("wrong", [(0, 255), (0, 1 / 255)])  # all saturated; one prediction
def test_another_value_range_is_found(wrong):
    images, labels = colours()
    case = case_of(mean_colour_reader(bias=0.1), images, labels, value_range=wrong)
    outcome = best_form(case, "input_scale")
    assert outcome.is_better and outcome.tried.name == "pixel values 0 to 1"
    assert outcome.accuracies[0] == 0.5 < 0.9 < outcome.accuracies[1]
    expected = debugcnn.logits(case.model, images / 255)
    np.testing.assert_allclose(outcome.logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cause", INPUT_CAUSES)
def test_a_model_that_is_fed_as_in_training_needs_no_other_form(cause):
    assert not best_form(case_of(mean_colour_reader(), *colours()), cause).is_better


def dark_reader():
    """Predicts 1 for dark reddish images; what is lighter than a quarter is all alike to it."""
    model = fresh(mean_colour_reader)
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([4 * kernel, bias])
    return model


def test_a_negative_is_turned_back():
    images, labels = colours(60)
    dark = images * np.float32(0.2)
    model = dark_reader()
    assert not best_form(case_of(model, dark, labels), "input_scale").is_better
    report = debugcnn.diagnose(model, 255 - dark, labels, value_range=(0, 1))
    assert faults_of(report)[0] == "input_scale"
    assert "black and white exchanged" in report.faults[0].message
    np.testing.assert_allclose(report.case.feed.pixels, dark, atol=1e-4)
    assert report.case.feed.value_range == (0, 1) and report.accuracy > 0.95
    assert not {"class_order", "at_chance", "threshold"} & set(faults_of(report))


def test_exchanged_channels_are_found_and_the_rest_is_examined_without_them():
    images, labels = colours()
    report = debugcnn.diagnose(mean_colour_reader(), images[..., ::-1], labels, value_range=(0, 1))
    assert faults_of(report)[0] == "channel_order"
    assert report.accuracy_as_fed < 0.1 and report.accuracy > 0.9 and report.auc > 0.95
    np.testing.assert_array_equal(report.case.feed.pixels, images)
    outcome = report.faults[0].evidence.details
    assert outcome.tried.name == "red and blue exchanged"
    assert outcome.comparison.before < 0.2 < 0.9 < outcome.comparison.after
    np.testing.assert_allclose(
        report.case.logits,
        debugcnn.logits(mean_colour_reader(), images / 255),
        rtol=1e-4,
        atol=1e-4,
    )


def test_colour_is_taken_away_for_a_model_of_grey_images():
    """Images whose middle is lighter (1) or darker (0), each with a strong tint of its own."""
    generator, labels = np.random.default_rng(0), np.arange(60) % 2
    images = generator.uniform(90, 130, (60, SIDE, SIDE, 1)) + np.zeros(3)
    images[:, 4:-4, 4:-4] += 40 * (2 * labels[:, None, None, None] - 1)
    images += generator.uniform(-60, 60, (60, 1, 1, 1)) * [1, 0, -1]
    images = np.float32(np.clip(images, 0, 255))
    model = mean_colour_reader((200, 100, -100), bias=-200 * 110 / 255)
    case = case_of(model, images, labels)
    outcome = best_form(case, "channel_order")
    assert outcome.is_better and outcome.tried.name == "colour taken away"
    assert outcome.accuracies[1] == 1 > 0.8 > outcome.accuracies[0]
    assert verdict(case, "channel_order") == "fault"
    grey = np.repeat(images.mean(-1, keepdims=True), 3, -1)
    np.testing.assert_allclose(case.feed.pixels, grey, atol=1e-3)
    assert not best_form(case_of(model, grey, labels), "channel_order").is_better


@pytest.mark.parametrize(
    ("quarters", "name"),
    [(0, None), (2, "upside down"), (3, "rotated to the left"), (1, "rotated to the right")],
)
def test_rotated_images_are_found(quarters, name):
    images, labels = red_halves(60)
    case = case_of(top_reader(), np.rot90(images, quarters, (1, 2)), labels)
    report = examined(case, "flipped_or_rotated")
    assert faults_of(report) == (["flipped_or_rotated"] if name else [])
    if name:
        assert f"With the images {name}, accuracy rises" in report.faults[0].message
        np.testing.assert_array_equal(case.feed.pixels, images)


def test_mirrored_images_are_found():
    images, labels = red_halves(60)
    images = np.swapaxes(images, 1, 2)  # redder on the left (1)
    model = top_reader()
    inputs = keras.Input((SIDE, SIDE, 3))
    turned = keras.Model(inputs, model(layers.Permute((2, 1, 3))(inputs)))
    case = case_of(turned, images[:, :, ::-1], labels)
    # Upside down is the same to this model as mirrored: it has the same AUC, and comes first.
    outcome = best_form(case, "flipped_or_rotated")
    assert outcome.is_better and outcome.accuracies == (0, 1)
    mirrored = [offered("flipped_or_rotated", case.given)["the images mirrored"]]
    assert contest(turned, case.given, mirrored, labels, case.given_logits).accuracies == (0, 1)


def test_bars_are_cut_off_for_a_model_that_looks_at_a_corner():
    images, labels = colours()
    part = np.stack([cv2.resize(image, (SIDE, 10)) for image in images])
    barred = with_bars(with_a_corner(part, labels), 3)
    case = case_of(corner_reader(), barred, labels)
    outcome = best_form(case, "resize")
    assert outcome.is_better and outcome.tried.name == BARS_OFF and outcome.accuracies == (0.5, 1)
    variants = {"cropping": with_a_corner(images, labels)}
    other = case_of(corner_reader(), images, labels, resized_variants=variants)
    report = examined(other, "resize")
    assert "With the images resized by cropping" in report.faults[0].message
    np.testing.assert_array_equal(other.feed.pixels, variants["cropping"])
    assert np.mean(other.correct) == 1


def spot_reader(rows, columns):
    """Images with a spot right above the middle (1), scaled; and a model that looks for the spot
    where it is in images that are not: (model, images, labels).
    """
    labels = np.arange(160) % 2
    images = np.random.default_rng(0).normal(100, 12, (160, 24, 24, 1))
    images[labels == 1, 4:6, 18:20] += 60
    head = layers.Dense(1, "sigmoid", name="head")
    model = model_of(layers.Flatten(), head, side=24, channels=1)
    kernel = np.zeros((24, 24))
    kernel[4:6, 18:20] = 20
    head.set_weights([kernel.reshape(-1, 1), np.array([-20 * 4 * 130 / 255])])
    return model, scaled(np.float32(np.clip(images, 0, 255)), rows, columns), labels


@pytest.mark.parametrize(
    ("rows", "columns", "name"), [(1, 1, None), (1, 0.75, WIDER), (0.75, 1, TALLER)]
)
def test_squeezed_images_are_stretched_again(rows, columns, name):
    case = case_of(*spot_reader(rows, columns))
    report = examined(case, "resize")
    assert faults_of(report) == (["resize"] if name else [])
    if name:
        assert f"With {name}" in report.faults[0].message
        stretched = scaled(case.given.pixels, 4 / 3 if rows < 1 else 1, 4 / 3 if columns < 1 else 1)
        np.testing.assert_allclose(case.feed.pixels, stretched)


# ------------------------------------------------------------------------------------------ search


def test_two_faults_of_the_input_are_found_one_after_the_other():
    """Upside down and with channels exchanged, the model sees only a weak difference in blue."""
    images, labels = red_halves(200)
    images[:, : SIDE // 2, :, 2] += 2 * labels[:, None, None]
    images[:, SIDE // 2 :, :, 2] += 2 * (1 - labels[:, None, None])
    fed = images[:, ::-1, ::-1, ::-1]
    report = debugcnn.diagnose(top_reader(), fed, labels, value_range=(0, 1))
    assert set(faults_of(report)) == {"channel_order", "flipped_or_rotated"}
    assert report.accuracy == 1 > 0.5 > report.accuracy_as_fed
    np.testing.assert_array_equal(report.case.feed.pixels, images)


def made_up_contest(gain, name="form", is_better=True, handicap=0.0, logits=None):
    """A Contest that brings `gain` of AUC, and as much accuracy."""
    comparison = Comparison(0.5, 0.5 + gain, 0.01, 0.01)
    options = Form(name, lambda feed: feed, handicap)
    return Contest(options, is_better, comparison, (0.5, 0.5 + gain), logits)


@pytest.fixture
def contests(monkeypatch):
    """Contests of causes with made-up results: {cause: gain}; what is missing brings nothing."""
    gains = {}

    def made_up(model, feed, options, labels, logits, output=None):
        cause = next(
            (c for c in CAUSES if CAUSES[c].forms and c in gains and _offers(c, options)), None
        )
        outcome = made_up_contest(gains.get(cause, 0.0), is_better=cause in gains, logits=logits)
        return replace(outcome, tried=replace(options[0], apply=lambda feed: replace(feed)))

    def _offers(cause, options):
        words = {
            "input_scale": "pixel",
            "channel_order": "red and blue",
            "batch_statistics": "each batch",
            "flipped_or_rotated": "upside down",
        }
        return words[cause] in options[0].name

    monkeypatch.setattr(forms, "contest", made_up)
    return gains


@pytest.mark.parametrize(
    ("gains", "faults"),
    [
        ({}, []),
        ({"input_scale": 0.2}, ["input_scale"]),
        ({"input_scale": 0.2, "channel_order": 0.3}, ["channel_order", "input_scale"]),
        ({"batch_statistics": 0.2}, ["batch_statistics"]),
        ({"batch_statistics": 0.2, "input_scale": 0.1}, ["batch_statistics"]),
        ({"batch_statistics": 0.2, "input_scale": 0.18}, ["input_scale", "batch_statistics"]),
        ({"batch_statistics": 0.1, "input_scale": 0.2}, ["input_scale", "batch_statistics"]),
    ],
)
def test_the_strongest_explanation_is_adopted_first(contests, gains, faults):
    """A fault of the model comes first only if it explains clearly more than the input."""
    contests.update(gains)
    images, labels = colours(60)
    case = case_of(normalized_reader(), images, labels)
    case.global_losses = []  # no property of the whole image is read
    assert [name for name, e in case.search.evidence.items() if _is_fault(e)] == faults
    if faults == ["batch_statistics"] and len(gains) > 1:
        reason = "Another cause explains the predictions already."
        assert case.search.evidence["channel_order"] == reason


def _is_fault(evidence):
    return not isinstance(evidence, str) and evidence.clear


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_classes_in_a_wrong_order_come_before_any_form(order):
    images, labels = three_colours()
    case = case_of(three_colour_reader(), images, np.array(order)[labels])
    report = examined(case, "class_order", *INPUT_CAUSES)
    # Red and blue exchanged would undo (2, 1, 0) as well.
    assert faults_of(report) == ([] if order == (0, 1, 2) else ["class_order"])
    message = finding_of(report, "channel_order").message
    assert ("classes are in another order" in message) is (order != (0, 1, 2))


def test_a_form_that_explains_more_than_another_order_comes_first():
    """Red, yellow and blue: with channels exchanged, yellow is taken for blue under any order."""
    labels = np.arange(180) % 3
    colour = np.array([[100, 0, 0], [100, 100, 0], [0, 0, 100]])[labels]
    images = np.random.default_rng(0).uniform(60, 100, (180, SIDE, SIDE, 3))
    images[:, 4:-4, 4:-4] += colour[:, None, None]
    model = model_of(layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax", name="head"))
    kernel = np.array([[40.0, 20, 0], [0, 40, 0], [0, -20, 40]])
    model.get_layer("head").set_weights([kernel, np.zeros(3)])
    case = case_of(model, images[..., ::-1], labels)
    correct, renamed = renamed_accuracy(case.given_logits, labels)
    assert (correct, renamed) == (0, pytest.approx(2 / 3))
    report = examined(case, "class_order", "channel_order")
    assert faults_of(report) == ["channel_order"] and report.accuracy == 1


def test_renamed_accuracy_in_closed_form():
    logits = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    assert renamed_accuracy(logits, np.array([1, 2, 0, 1, 2, 2])) == (1 / 6, 5 / 6)


@pytest.mark.parametrize(
    ("model", "images", "reason"),
    [
        (lambda: model_of(layers.Flatten(), layers.Dense(2)), None, "have not been trained"),
        (lambda: with_nan(fresh(mean_colour_reader)), None, "logits are not finite"),
    ],
)
def test_no_form_is_searched_for_where_it_makes_no_sense(model, images, reason):
    case = case_of(model(), *colours(60))
    assert all(reason in evidence for evidence in case.search.evidence.values())
    assert set(case.search.evidence) == {name for name, c in CAUSES.items() if c.forms}
    assert case.feed is case.given


def with_nan(model):
    model.get_layer("head").bias.assign([np.nan])
    return model


# ------------------------------------------------------------------------------ distribution shift


def step_reader(limit):
    """Knows images with steps between neighbours above a limit from smooth ones."""
    model = model_of(
        layers.Conv2D(2, (1, 2), use_bias=False, activation="relu", name="steps"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, activation="sigmoid", name="head"),
    )
    kernel = np.zeros((1, 2, 3, 2))
    kernel[0, 0], kernel[0, 1] = np.array([1, -1]) / 3, np.array([-1, 1]) / 3
    model.get_layer("steps").set_weights([kernel])
    model.get_layer("head").set_weights([np.full((2, 1), 400.0), np.array([-400 * limit])])
    return model


def rough(count, seed):
    """Images with much noise (1) or little (0) on large shades."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    shade = np.linspace(-60, 60, SIDE)[:, None] * generator.uniform(0.5, 1, (count, 1, 1))
    spread = np.where(labels, 20, 8)[:, None, None]
    grey = 128 + shade + spread * generator.normal(size=(count, SIDE, SIDE))
    return np.float32(np.clip(np.repeat(grey[..., None], 3, -1), 0, 255)), labels


def light(count, seed):
    """Images that are light (1) or dark (0)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = generator.normal(120, 20, (count, SIDE, SIDE, 3)) + 40 * labels[:, None, None, None]
    return np.float32(np.clip(images, 0, 255)), labels


def blurred(images):
    return np.stack([cv2.GaussianBlur(image, (0, 0), 1.2) for image in images])


def noised(images):
    noise = np.random.default_rng(5).normal(0, 40, images.shape)
    return np.clip(images + noise, 0, 255)


def paler(images):
    grey = images.mean(-1, keepdims=True)
    return grey + 0.2 * (images - grey)


TINT = np.array([50.0, 0, -50])
SHIFTS = [
    ("light", light, lambda: mean_colour_reader((20,) * 3, -60 * 140 / 255), lambda p: p * 0.7),
    (
        "contrast",
        light,
        lambda: mean_colour_reader((20,) * 3, -60 * 155 / 255),
        lambda p: p * 0.2 + 112,
    ),
    ("tint", colours, mean_colour_reader, lambda p: np.clip(p + TINT, 0, 255)),
    ("colour", colours, lambda: mean_colour_reader(bias=-3.0), paler),
    ("sharpness", rough, lambda: step_reader(11 / 255), blurred),
    ("sharpness", rough, lambda: step_reader(11 / 255), noised),
]


@pytest.mark.parametrize(("name", "images_of", "model", "change"), SHIFTS)
def test_images_unlike_those_trained_on(name, images_of, model, change):
    (trained, trained_labels), (images, labels) = images_of(300, 1), images_of(300, 2)
    model, train = model(), (trained, trained_labels)
    case = case_of(model, images, labels, train=train)
    assert distribution_shift.shifts_of(case, case.given) == []
    changed = np.float32(change(images))
    case = case_of(model, changed, labels, train=train)
    shifts = distribution_shift.shifts_of(case, case.given)
    lows = [shift.loss.low for shift in shifts]
    assert lows == sorted(lows, reverse=True)
    shift = next(shift for shift in shifts if shift.name == name)
    assert shift.auc > 0.75 and shift.loss.low > 0.2 and shift.loss.accuracy > 0.85
    imitated = shift.imitate(trained)
    correct = debugcnn.logits(model, imitated / 255).argmax(1) == trained_labels
    assert shift.loss.left == pytest.approx(correct.mean())
    wanted, before, after = (
        np.median(distribution_shift.properties(p)[name]) for p in (changed, trained, imitated)
    )
    assert abs(after - wanted) < 0.35 * abs(before - wanted)


def test_properties_in_closed_form():
    image = np.zeros((1, 4, 4, 3), np.float32) + [130.0, 90, 80]
    amounts = {name: values[0] for name, values in distribution_shift.properties(image).items()}
    assert amounts == {"light": 100, "contrast": 0, "tint": 50, "colour": 50, "sharpness": 0}
    image[:, :, ::2] += 60  # stripes: steps of 60, a standard deviation of 30
    amounts = {name: values[0] for name, values in distribution_shift.properties(image).items()}
    assert amounts == {"light": 130, "contrast": 30, "tint": 50, "colour": 50, "sharpness": 2}
    grey = distribution_shift.properties(image[..., :1])
    assert (grey["tint"], grey["colour"], grey["light"]) == (0, 0, 160)


def test_a_shift_is_reported_under_the_cause_that_it_belongs_to():
    train, (images, labels) = colours(300, 1), colours(300, 2)
    tinted = np.float32(np.clip(images + TINT, 0, 255))
    options = dict(train=train, value_range=(0, 1))
    report = debugcnn.diagnose(mean_colour_reader(), tinted, labels, **options)
    assert faults_of(report) == ["channel_order"]
    finding = report.faults[0]
    assert finding.fix == distribution_shift.FIX
    assert "of another tint than those trained on" in finding.message
    measured = {(m.cause, m.measurement): m.verdict for m in report.measurements}
    assert measured["input_scale", "unlike_training"] == "fine"
    assert measured["resize", "unlike_training"] == "fine"
    assert finding_of(report, "memorised").verdict == "fine"  # compared with images made alike
    assert finding_of(report, "label_noise").verdict == "not examined"


def test_differences_that_cost_nothing_are_left_alone():
    train, (images, labels) = colours(300, 1), colours(300, 2)
    case = case_of(mean_colour_reader(), images * np.float32(0.6), labels, train=train)
    shift = distribution_shift.shifts_of(case, case.given)[0]
    assert shift.auc > 0.9 and shift.loss.low < 0.05
    assert distribution_shift.explanation(case, case.given, case.given_logits) is None
    worse = with_mistakes(labels, 90)  # 70 % are correct, for another reason
    assert distribution_shift.explanation(case, case.given, worse) is None


def test_a_shift_explains_only_what_is_wrong():
    train, (images, labels) = colours(300, 1), colours(300, 2)
    case = case_of(mean_colour_reader(), np.clip(images + TINT, 0, 255), labels, train=train)
    assert distribution_shift.explanation(case, case.given, case.given_logits).name == "tint"
    right = with_mistakes(labels, 0)  # yet all are correct
    assert distribution_shift.explanation(case, case.given, right) is None


def test_a_shift_is_not_looked_for_without_training_images_or_after_a_form():
    images, labels = colours(300, 2)
    tinted = np.float32(np.clip(images + TINT, 0, 255))
    case = case_of(mean_colour_reader(), tinted, labels)
    report = examined(case, "channel_order:unlike_training")
    assert report.findings[0].verdict == "not examined"
    assert report.findings[0].message == "No training images were given."
    case = case_of(mean_colour_reader(), images[..., ::-1], labels, train=colours(300, 1))
    assert verdict(case, "channel_order:channel_order") == "fault" and case.search.shift is None


def test_classes_count_as_they_are_among_the_images():
    """Shares of classes that differ are no shift: as many of each class are compared."""
    (trained, trained_labels), (images, labels) = colours(300, 1), colours(80)
    for chosen in (labels == 1, labels == 0):  # only reddish ones, only bluish ones
        case = case_of(mean_colour_reader(), images, labels, train=(trained, trained_labels))
        case.labels = labels[chosen]
        feed = replace(case.given, pixels=images[chosen])
        assert distribution_shift.shifts_of(case, feed) == []
    case = case_of(mean_colour_reader(), images, labels, train=(trained, trained_labels))
    case.labels = labels + 5  # no class in common
    assert distribution_shift.shifts_of(case, case.given) == []


def test_a_tint_is_no_other_light():
    train, (images, labels) = colours(300, 1), colours(300, 2)
    changed = np.float32(np.clip(images + np.array([60.0, 0, -20]), 0, 255))
    case = case_of(mean_colour_reader(), changed, labels, train=train)
    shifts = distribution_shift.shifts_of(case, case.given)
    tint = next(shift for shift in shifts if shift.name == "tint")
    assert tint.imitate(train[0]).mean() == pytest.approx(train[0].mean(), abs=3)
