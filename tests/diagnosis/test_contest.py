"""Which form of the input is better, and on how many images that is tried."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_classifiers import (
    two_classes,
    with_mistakes,
)

from debugcnn.diagnosis import forms
from debugcnn.diagnosis.causes.resize import TALLER, WIDER
from debugcnn.diagnosis.forms import Contest, Feed, Form, compare_forms, contest, screen
from debugcnn.statistics import Comparison


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
