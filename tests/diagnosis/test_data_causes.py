"""What the images and labels have to do with it: blank files, copies, memory, label noise."""

import cv2
import numpy as np
import pytest
from scipy.special import softmax
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
    softmax_of,
    textured,
    two_classes,
    variation_reader,
    verdict,
    with_mistakes,
)

import debugcnn
from debugcnn.diagnosis.case import blank_images
from debugcnn.diagnosis.causes.blank_photos import is_cut_short
from debugcnn.diagnosis.causes.label_noise import noise_of
from debugcnn.diagnosis.causes.memorised import memory
from debugcnn.diagnosis.copies import copies, is_copy
from debugcnn.statistics import Z_ONE_IN_2000

# ------------------------------------------------------------------------------------ blank_photos


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


# ---------------------------------------------------------------------------------------- leak


def moved(image, degrees=0.0, scale=1.0, shift=(0, 0)):
    """An image rotated and enlarged around its middle, mirrored beyond its edges."""
    side = image.shape[0]
    warp = cv2.getRotationMatrix2D(((side - 1) / 2,) * 2, degrees, scale)
    warp[:, 2] += shift
    return cv2.warpAffine(image, warp, (side, side), borderMode=cv2.BORDER_REFLECT)


def as_jpeg(image, quality):
    data = cv2.imencode(".jpg", np.uint8(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.float32(cv2.imdecode(data, cv2.IMREAD_COLOR))


def small_grey(image, side=48):
    return cv2.resize(np.float32(image).mean(-1), (side, side), interpolation=cv2.INTER_AREA)


CHANGES = {
    "rotated by 5 degrees": lambda p: moved(p, 5),
    "rotated the other way": lambda p: moved(p, -4),
    "cropped": lambda p: cv2.resize(p[4:-4, 4:-4], p.shape[1::-1], interpolation=cv2.INTER_AREA),
    "shifted": lambda p: moved(p, shift=(4, -3)),
    "darker": lambda p: 0.6 * p,
    "lighter": lambda p: np.clip(p + 40, 0, 255),
    "compressed": lambda p: as_jpeg(p, 30),
    "all at once": lambda p: as_jpeg(np.clip(0.8 * moved(p, 3, 1.08) + 10, 0, 255), 60),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_image_is_a_copy(change):
    images = textured(5, 96)
    own = [small_grey(image) for image in images]
    changed = [small_grey(CHANGES[change](image)) for image in images]
    for i in range(5):
        assert is_copy(changed[i], own[i]) is True
        assert is_copy(changed[i], own[(i + 1) % 5]) is False


def test_alike_in_large_but_not_in_detail_is_no_copy():
    generator = np.random.default_rng(0)
    large = cv2.resize(np.float32(generator.uniform(0, 255, (4, 4))), (48, 48))
    image, other = (np.float32(large + generator.normal(0, 12, (48, 48))) for _ in range(2))
    assert np.corrcoef(image.ravel(), other.ravel())[0, 1] > 0.9
    assert is_copy(image, image) and not is_copy(image, other)


def test_alike_in_detail_but_not_in_large_is_no_copy():
    generator = np.random.default_rng(0)
    large = np.float32(generator.uniform(80, 170, (2, 4, 4)))
    detail = cv2.GaussianBlur(generator.normal(size=(48, 48)), (0, 0), 1.2)
    detail *= 40 / detail.std()
    image, other = (np.float32(cv2.resize(coarse, (48, 48)) + detail) for coarse in large)
    assert np.corrcoef(image.ravel(), other.ravel())[0, 1] < 0.82
    assert is_copy(image, np.float32(image + 5)) and not is_copy(image, other)


def test_flat_images_show_nothing():
    flat, image = np.full((48, 48), 90, np.float32), small_grey(textured(1, 96)[0])
    for pair in ((flat, flat), (flat, image), (image, flat)):
        assert is_copy(*pair) is False


def smooth(count, seed=0):
    """Smooth random images, each unlike the others."""
    small = np.float32(np.random.default_rng(seed).uniform(0, 255, (count, 6, 6, 3)))
    return np.stack([cv2.resize(s, (48, 48), interpolation=cv2.INTER_CUBIC) for s in small])


def test_copies_of_training_images_are_found_also_mirrored():
    trained, examined_ = smooth(30), smooth(20, seed=1)
    assert copies(examined_, trained) == []
    examined_[3], examined_[7] = trained[11] + 1, trained[12, :, ::-1]
    assert copies(examined_, trained) == [(3, 11, False), (7, 12, True)]


def test_changed_copies_are_found_also_mirrored():
    trained, images = textured(20, 64), textured(10, 64, seed=1)
    assert copies(images, trained) == []
    images[2] = moved(trained[11], 6, 1.1)
    images[5] = moved(trained[4][:, ::-1], -5, 1.1)
    images[7] = trained[9]
    images[9] = CHANGES["all at once"](trained[0])
    expected = [(2, 11, False), (5, 4, True), (7, 9, False), (9, 0, False)]
    assert copies(images, trained) == expected
    assert copies(images[..., :1], trained[..., :1]) == expected


def test_of_an_images_twins_one_is_named():
    trained, images = textured(210, 32), textured(4, 32, seed=1)
    trained[50] = trained[49]
    images[1] = trained[50]
    images[3] = CHANGES["compressed"](moved(trained[110], 5))
    pairs = copies(images, trained)
    assert [copy.examined for copy in pairs] == [1, 3] and pairs[0].trained in (49, 50)
    assert pairs[1] == (3, 110, False)


@pytest.mark.parametrize(("natural", "count"), [(0, 3), (4, 0)])
def test_as_many_copies_as_twins_in_training_are_no_leak(natural, count):
    trained, images = textured(60, 64), textured(20, 64, seed=1)
    for i in range(natural):  # they look like others that were trained on
        trained[2 * i] = moved(trained[2 * i + 1], 6, 1.1)
    for i in range(3):
        images[i] = moved(trained[20 + i], -6, 1.1)
    assert len(copies(images, trained)) == count
    images[:12] = [moved(trained[20 + i], -6, 1.1) for i in range(12)]
    assert len(copies(images, trained)) == 12


def test_drawings_that_are_alike_are_copies_only_if_they_are_equal():
    generator = np.random.default_rng(0)
    kinds = smooth(4)
    trained, images = (
        np.clip(np.repeat(kinds, 10, 0) + generator.normal(0, 3, (40, 48, 48, 3)), 0, 255)
        for _ in range(2)
    )
    assert copies(images, trained) == []
    images[5], images[6] = trained[7], trained[8, :, ::-1]
    assert [copy.examined for copy in copies(images, trained)] == [5, 6]


def test_drawings_rotated_a_little_are_no_copies_of_each_other():
    kinds, generator = textured(3, 64), np.random.default_rng(0)
    drawings = np.stack(
        [moved(kinds[i % 3], 7 * (i // 3) + generator.uniform(-1, 1), 1.1) for i in range(12)]
    )
    assert copies(drawings[9:], drawings[:9]) == []
    alone = np.concatenate([drawings[6:7], textured(20, 64, seed=5)])
    assert copies(drawings[9:10], alone) == [(0, 0, False)]  # among natural images, it would be


@pytest.mark.parametrize(("count", "said"), [(0, "fine"), (1, "suspicious"), (2, "fault")])
def test_images_that_were_trained_on(count, said):
    images, trained = textured(100, 16), textured(120, 16, seed=1)
    images[:count] = trained[5 : 5 + count, :, ::-1]
    labels = np.arange(100) % 2
    case = case_of(
        mean_colour_reader(),
        images,
        labels,
        with_mistakes(labels, 4),
        train=(trained, np.arange(120) % 2),
    )
    (finding,) = examined(case, "leak").findings
    assert (finding.verdict, finding.value) == (said, count / 100)
    message = f"{count} of 100 images were trained on, {count} of them mirrored."
    assert finding.message == message


def test_a_single_copy_is_no_more_than_suspicious():
    images, trained = textured(20, 16), textured(30, 16, seed=1)
    images[3] = trained[4]  # 5 % of the images
    labels = np.arange(20) % 2
    train = trained, np.arange(30) % 2
    case = case_of(mean_colour_reader(), images, labels, with_mistakes(labels, 1), train=train)
    assert verdict(case, "leak") == "suspicious"


# --------------------------------------------------------------------------------------- memorised


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


# ------------------------------------------------------------------------------------- label_noise


def drawn_labels(count, classes, wrong=0.0, seed=0, strength=3.0):
    """Logits, labels that are drawn from them, of which a share is then changed, and which."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1, (count, classes))
    logits[np.arange(count), generator.integers(0, classes, count)] += 2 * strength
    logits *= generator.uniform(0.1, 2, (count, 1))  # more confident of some than of others
    labels = (softmax(logits, 1).cumsum(1) > generator.random((count, 1))).argmax(1)
    changed = generator.random(count) < wrong
    labels[changed] = (labels[changed] + generator.integers(1, classes, changed.sum())) % classes
    return logits, labels, changed


@pytest.mark.parametrize(("classes", "wrong"), [(2, 0.2), (5, 0.1)])
def test_the_share_of_wrong_labels_is_estimated(classes, wrong):
    logits, labels, changed = drawn_labels(1000, classes, wrong)
    noise = noise_of(logits, labels)
    error = np.sqrt(wrong / 1000)  # of counting them; what is not seen costs more
    assert noise.share == pytest.approx(changed.mean(), abs=3 * error) and noise.gain > 3


def test_labels_without_noise_gain_nothing_whatever_the_temperature():
    logits, labels, _ = drawn_labels(200, 3, 0)
    plain, softer = noise_of(logits, labels), noise_of(logits * 1e-3, labels)
    assert plain.gain < 1 and plain.share < 0.02
    assert (softer.share, softer.gain) == pytest.approx((plain.share, plain.gain), abs=0.02)
    logits, labels, _ = drawn_labels(200, 3, 0.15)
    plain, harder = noise_of(logits, labels), noise_of(logits * 1e3, labels)
    assert (plain.share, plain.gain) == pytest.approx((harder.share, harder.gain), rel=0.05)
    assert plain.gain > 1


def test_wrong_labels_come_first_where_the_model_is_confident():
    logits, labels, changed = drawn_labels(600, 3, 0.1, strength=4.0)
    noise = noise_of(logits, labels)
    assert noise.count == 200 and 0.05 < noise.share < 0.15 and noise.gain > 6
    assert changed[noise.confident[:20]].all()
    assert set(np.flatnonzero(changed)) <= set(noise.confident)
    ordered = np.sort(logits, 1)
    margin = ordered[:, -1] - ordered[:, -2]
    assert np.all(np.diff(margin[noise.confident]) <= 0)
    top, bottom = np.argsort(-margin)[:200], np.argsort(-margin)[-200:]
    wrong = logits.argmax(1) != labels
    assert noise.wrong == wrong[top].sum()
    assert noise.ratio == pytest.approx(wrong[top].mean() / wrong[bottom].mean())
    assert noise.near == pytest.approx(np.mean(margin < 0.25 * np.median(margin)))
    logits, labels, _ = drawn_labels(300, 3, 0, strength=1.0)
    own = noise_of(logits, labels)
    assert own.ratio < 0.3 and own.gain < 2  # its own mistakes have small margins


def test_wrong_labels_differ_from_a_weak_model():
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 2
    logits = two_classes(4.0 * labels - 2 + generator.normal(size=600))
    wrong = generator.random(600) < 0.15
    noisy = noise_of(logits, np.where(wrong, 1 - labels, labels))
    assert noisy.low > 0.05 and noisy.near < 0.06 and wrong[noisy.confident[:10]].all()
    weak = noise_of(logits + generator.normal(0, 3, (600, 2)), labels)
    assert weak.near > 0.1 and weak.ratio < 0.5
    assert noise_of(logits, labels).wrong == 0


@pytest.mark.parametrize(
    ("classes", "wrong", "strength", "said"),
    [(2, 0.15, 3.0, "fault"), (2, 0.0, 3.0, "fine"), (3, 0.1, 4.0, "fault")],
)
def test_label_noise_is_a_fault_of_the_labels(classes, wrong, strength, said):

    logits, labels, changed = drawn_labels(600, classes, wrong, strength=strength)
    images = np.random.default_rng(0).uniform(0, 255, (600, SIDE, SIDE, 3))
    case = case_of(softmax_of(classes), images, labels, logits)
    (finding,) = examined(case, "label_noise").findings
    assert finding.verdict == said
    if said == "fault":
        assert changed[finding.evidence.details.confident[:10]].mean() > 0.8
        assert "of the 200 most confident predictions contradict their label" in finding.message


@pytest.mark.parametrize("confident", [True, False])
def test_less_noise_is_enough_where_the_model_is_overconfident_anyway(confident):
    """Overconfidence or wrong labels: a log-likelihood ratio of 3.5 instead of 6 decides."""
    images = np.random.default_rng(0).uniform(0, 255, (200, SIDE, SIDE, 3))
    logits, labels, _ = drawn_labels(200, 2, 0.12, seed=6, strength=1.5)
    noise = noise_of(logits, labels)
    assert 3.5 < noise.gain < 6 and noise.share > 0.03 and noise.near > 0.08
    case = case_of(mean_colour_reader(), images, labels, logits)
    if confident:
        case.faults.add(("overconfident", "overconfident"))
    assert verdict(case, "label_noise") == ("fault" if confident else "fine")


@pytest.mark.parametrize(
    ("mistakes", "known", "noise", "memorised"),
    [
        ("any margin", True, "fault", "suspicious"),
        ("small margins", True, "fine", "fault"),
        ("any margin", False, "fault", "fine"),
    ],
)
def test_wrong_labels_or_memorized_images(mistakes, known, noise, memorised):
    """A model that knows its training images is wrong about others where it hesitates; where
    labels are wrong, it is wrong whatever its confidence.
    """
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 2
    margin = generator.uniform(1, 8, 300)
    margin[generator.random(300) < 0.3] *= 0.1
    chance = 0.2 if mistakes == "any margin" else np.where(margin < 1.5, 0.5, 0.04)
    wrong = generator.random(300) < chance
    logits = two_classes(margin * np.where(wrong, -1, 1) * (2 * labels - 1))
    images, trained = textured(300, SIDE), textured(300, SIDE, seed=1)
    predicted = debugcnn.logits(mean_colour_reader(), trained / 255).argmax(1)
    flipped = generator.random(300) < (0 if known else 0.2)
    trained_labels = np.where(flipped, 1 - predicted, predicted)
    case = case_of(mean_colour_reader(), images, labels, logits, train=(trained, trained_labels))
    report = examined(case, "label_noise", "memorised")
    assert finding_of(report, "label_noise").verdict == noise
    assert finding_of(report, "memorised").verdict == memorised


@pytest.mark.parametrize(
    "root",
    [
        ("not_finite", "not_finite"),
        ("untrained_layer", "last_layer"),
        ("batch_statistics", "depends_on_batch"),
        ("channel_order", "unlike_training"),
        ("class_order", "class_order"),
        ("constant_answer", "constant_answer"),
        ("at_chance", "at_chance"),
        ("shortcut", "global_property"),
    ],
)
def test_labels_are_not_judged_by_a_model_that_is_wrong_itself(root):
    logits, labels, _ = drawn_labels(300, 2, 0.15, strength=4.0)
    images = np.zeros((300, SIDE, SIDE, 3))
    case = case_of(mean_colour_reader(), images + np.arange(SIDE)[:, None], labels, logits)
    case.faults.add(root)
    (finding,) = examined(case, "label_noise").findings
    assert finding.verdict == "not examined" and root[0] in finding.message


def test_labels_are_judged_where_the_input_was_corrected():
    logits, labels, _ = drawn_labels(300, 2, 0.15, strength=4.0)
    case = case_of(mean_colour_reader(), textured(300, SIDE), labels, logits)
    case.faults.add(("channel_order", "channel_order"))
    assert verdict(case, "label_noise") == "fault"


def test_labels_are_not_judged_by_a_model_that_knows_little():
    images, labels = colours(200)
    logits = two_classes(np.random.default_rng(0).normal(size=200))
    case = case_of(mean_colour_reader(), images, labels, logits)
    (finding,) = examined(case, "label_noise").findings
    assert finding.message == "The model knows too little to judge labels."


def test_a_healthy_model_has_no_fault_of_its_data():
    images, labels = colours(200)
    model = mean_colour_reader()
    case = case_of(model, images, labels, train=colours(200, seed=5))
    report = examined(case, "leak", "memorised", "label_noise", "blank_photos")
    assert faults_of(report) == [] and {f.verdict for f in report.findings} == {"fine"}
