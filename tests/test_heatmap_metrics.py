"""Scores of heatmaps, trivial heatmaps and cascading randomization, against closed forms."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from heatmap_models import (
    GREY,
    SIDES,
    assert_close,
    cached_classifier,
    chain,
    classifier,
    linear_model,
    logits,
    random_images,
)
from keras import layers
from small_models import layer_of

import debugcnn


def random_heatmaps(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *SIDES)).astype("f4")


@pytest.mark.parametrize("fill", [None, 20, "array"])
def test_deletion_and_insertion_of_a_linear_model(fill):
    model, weights = linear_model(channels=1)
    images, heatmaps, fractions = random_images(2, 1), random_heatmaps(2), (0, 0.1, 0.33, 0.5, 1)
    fill = random_images(2, 1, seed=2) if fill == "array" else fill
    empty = np.broadcast_to(GREY if fill is None else fill, images.shape)
    options = dict(heatmaps=heatmaps, fractions=fractions, target=[2, 0], baseline=fill)
    deleted = debugcnn.deletion_curve(model, images, **options)
    inserted = debugcnn.deletion_curve(model, images, insertion=True, **options)
    bias = model.get_weights()[1]
    assert deleted.dtype == np.float32
    for i, target in enumerate([2, 0]):
        order = np.argsort(-heatmaps[i].ravel())
        whole, nothing = ((p[i, ..., 0] * weights[..., 0, target]).ravel() for p in (images, empty))
        for column, fraction in enumerate(fractions):
            first = order[: round(fraction * order.size)]
            without, only = whole.copy(), nothing.copy()
            without[first], only[first] = nothing[first], whole[first]
            for curve, values in ((deleted, without), (inserted, only)):
                logit = values.sum() / 255 + bias[target]
                np.testing.assert_allclose(curve[i, column], logit, rtol=1e-4, atol=1e-5)


def test_deletion_starts_at_the_image_and_insertion_at_the_baseline():
    model, images, heatmaps = cached_classifier("sigmoid"), random_images(), random_heatmaps(3)
    classes = np.int64(model(images).numpy()[:, 0] > 0.5)
    assert len(set(classes)) == 2
    fractions = np.linspace(0, 1, 5)
    deleted = debugcnn.deletion_curve(model, images, heatmaps, fractions)
    inserted = debugcnn.deletion_curve(model, images, -heatmaps, fractions, insertion=True)
    np.testing.assert_allclose(deleted, inserted[:, ::-1], rtol=1e-4, atol=1e-5)
    assert_close(deleted[:, 0], logits(model, images).numpy()[range(3), classes])
    grey = logits(model, np.full_like(images, GREY)).numpy()
    assert_close(deleted[:, -1], grey[0, classes])


def test_equal_values_are_removed_in_random_order():
    halves = np.zeros((*SIDES, 1, 4))
    halves[:5, ..., 0] = halves[5:, ..., 1] = halves[:, :8, :, 2] = halves[:, 8:, :, 3] = 1 / 80
    model = chain(layers.Flatten(), layers.Dense(4), channels=1)
    model.set_weights([halves.reshape(-1, 4), np.zeros(4)])
    heatmaps, images = np.zeros((4, *SIDES)), np.ones((4, *SIDES, 1), "f4")
    heatmaps[:, 9, 15] = 1  # the highest goes first
    curves = [
        debugcnn.deletion_curve(
            model, images, heatmaps, [1 / 160, 0.5], range(4), baseline=0, seed=seed
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_allclose(curves[0][:, 0], [1, 79 / 80, 1, 79 / 80], rtol=1e-5)
    assert np.abs(curves[0][:, 1] - 0.5).max() < 0.2
    np.testing.assert_allclose(curves[0][:2, 1].sum(), 1, rtol=1e-5)
    np.testing.assert_array_equal(curves[0], curves[1])
    assert (curves[0] != curves[2]).any()


def test_a_true_heatmap_scores_better_than_the_trivial_ones():
    model, images = cached_classifier(), random_images()
    true = debugcnn.integrated_gradients(model, images, 1)
    others = [-true, random_heatmaps(3), debugcnn.center_blob(images), debugcnn.edge_map(images)]
    for insertion, sign in ((False, 1), (True, -1)):
        best, *worse = (
            sign
            * debugcnn.deletion_curve(
                model, images, heatmaps, np.linspace(0, 1, 11), 1, insertion=insertion
            ).mean(1)
            for heatmaps in (true, *others)
        )
        assert all((best < trivial).all() for trivial in worse)


def test_heatmaps_of_another_size_get_a_sentence():
    options = dict(model=cached_classifier(), images=random_images(), fractions=[0.5])
    for heatmaps in (
        random_heatmaps(2),
        np.swapaxes(random_heatmaps(3), 1, 2),
        random_heatmaps(3)[..., None],
    ):
        with pytest.raises(ValueError, match=r"these images need \(3, 10, 16\).$"):
            debugcnn.deletion_curve(heatmaps=heatmaps, **options)
    with pytest.raises(ValueError, match="baseline is"):
        debugcnn.deletion_curve(heatmaps=random_heatmaps(3), baseline=np.zeros((2, 1)), **options)
    with pytest.raises(ValueError, match="target 3 is no class"):
        debugcnn.deletion_curve(heatmaps=random_heatmaps(3), target=3, **options)


def test_shares_and_peaks_inside_a_mask():
    heatmaps = np.zeros((5, 2, 3))
    heatmaps[0] = [[1, 2, 0], [-9, 1, 0]]
    heatmaps[1] = [[3, 3, 0], [0, 0, 3]]
    heatmaps[3] = -1
    heatmaps[4] = [[-1, -2, -3], [-4, -5, -6]]
    inside = np.zeros((5, 2, 3))
    inside[:, 0, :2], inside[0, 1, 0] = 255, 255
    share = debugcnn.energy_pointing(heatmaps, inside)
    np.testing.assert_allclose(share, [3 / 4, 2 / 3, np.nan, np.nan, np.nan])
    peak = debugcnn.pointing_game(heatmaps, inside)
    np.testing.assert_allclose(peak, [1, 2 / 3, np.nan, np.nan, 1])
    np.testing.assert_allclose(debugcnn.pointing_game(heatmaps, inside == 0)[:2], [0, 1 / 3])


def test_a_product_is_high_where_both_are():
    first = np.float32([[[2, 4, -4]], [[0, 0, 0]]])
    second = np.float32([[[0.5, 0.1, 0.5]], [[1, 2, 3]]])
    result = debugcnn.product(first, second)
    assert_close(result, np.float32([[[0.5, 0.2, 0]], [[0, 0, 0]]]))


def test_the_trivial_heatmaps():
    images = random_images(2)
    blob = debugcnn.center_blob(images)
    assert blob.dtype == np.float32 and blob.shape == (2, *SIDES)
    np.testing.assert_array_equal(blob[0], blob[1])
    np.testing.assert_allclose(blob[0, 0, [0, 15]], np.exp(-4), rtol=1e-5)
    np.testing.assert_allclose(blob[0, 9, 5], np.exp(-2 * (1 + 1 / 9)), rtol=1e-5)
    for grey, image in zip(images.mean(-1), images):
        slopes = [scipy.ndimage.sobel(grey, axis, mode="mirror") for axis in (0, 1)]
        sharp = scipy.ndimage.gaussian_filter(np.hypot(*slopes), 2, mode="mirror")
        assert_close(debugcnn.edge_map(np.uint8(image[None]))[0], sharp)


# ---------------------------------------------------------------------- cascading randomization


def changed(model, before):
    """Names of layers whose values are in another order; other values are an error."""
    names = set()
    for layer, weights in before.items():
        for now, then in zip(layer_of(model, layer).get_weights(), weights, strict=True):
            np.testing.assert_array_equal(np.sort(now, axis=None), np.sort(then, axis=None))
            if (now != then).any():
                names.add(layer)
    return names


@pytest.mark.parametrize("nested", [False, True])
def test_randomization_goes_from_the_last_layer_to_the_first(nested):
    model, images = classifier(), random_images()
    if nested:
        parts = model.layers[1:]
        model = chain(chain(*parts[:6]), *parts[6:])
    names = ["dense", "last", "norm", "first"]
    before = {name: layer_of(model, name).get_weights() for name in names}
    seen, heatmaps, norms = [], [], []

    def explain(model, images, targets):
        seen.append((changed(model, before), list(targets)))
        norms.append(layer_of(model, "norm").get_weights())
        heatmaps.append(debugcnn.hires_cam(model, images, targets, layer="pool"))
        return heatmaps[-1]

    classes = model(images).numpy().argmax(1)
    agreement = debugcnn.cascading_randomization(model, explain, images)
    assert list(agreement) == names
    assert seen == [(set(names[:i]), list(classes)) for i in range(5)]
    # The moving averages, too.
    assert all((now != then).any() for now, then in zip(norms[3], before["norm"], strict=True))
    for result, after in zip(agreement.values(), heatmaps[1:]):
        pairs = zip(heatmaps[0], after)
        expected = [scipy.stats.spearmanr(a.ravel(), b.ravel())[0] for a, b in pairs]
        np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert not changed(model, before)
    assert [layer.name for layer in debugcnn.layers_with_weights(model)] == names[::-1]


def test_all_layers_down_to_the_chosen_one_are_randomized():
    model, images = classifier(), random_images()
    before = {name: layer_of(model, name).get_weights() for name in ("dense", "last", "first")}
    seen = []

    def explain(model, images, targets):
        seen.append((changed(model, before), list(targets), model.get_weights()))
        return random_heatmaps(3)

    for seed in (0, 0, 1):
        agreement = debugcnn.cascading_randomization(
            model, explain, images, [2, 0, 1], layers=["last"], seed=seed
        )
        assert list(agreement) == ["last"]
        np.testing.assert_allclose(agreement["last"], 1)  # of what does not look at the model
    assert [s[:2] for s in seen] == [(set(), [2, 0, 1]), ({"dense", "last"}, [2, 0, 1])] * 3
    first, again, reseeded = (seen[i][2] for i in (1, 3, 5))
    assert all((a == b).all() for a, b in zip(first, again))
    assert any((a != b).any() for a, b in zip(first, reseeded))
    constant = debugcnn.cascading_randomization(
        model, lambda *arguments: np.zeros((3, *SIDES)), images
    )
    assert np.isnan(list(constant.values())).all()


def test_a_model_has_its_weights_again_after_an_error():
    model, calls = classifier(), []
    before = {layer.name: layer.get_weights() for layer in model.layers}

    def explain(model, images, targets):
        calls.append(changed(model, before))
        if len(calls) == 3:
            raise RuntimeError("on purpose")
        return random_heatmaps(3)

    with pytest.raises(RuntimeError, match="on purpose"):
        debugcnn.cascading_randomization(model, explain, random_images(), 1)
    assert calls[-1] == {"dense", "last"} and not changed(model, before)


def test_rank_correlation_is_spearmans():
    heatmaps = np.random.default_rng(0).integers(0, 9, (4, 5, 7))
    others = np.random.default_rng(1).normal(size=(4, 5, 7)) + heatmaps
    pairs = zip(heatmaps, others)
    expected = [scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs]
    np.testing.assert_allclose(debugcnn.rank_correlation(heatmaps, others), expected)
    np.testing.assert_allclose(debugcnn.rank_correlation(heatmaps, np.exp(heatmaps)), 1)
    np.testing.assert_allclose(debugcnn.rank_correlation(heatmaps, -heatmaps), -1)
    assert np.isnan(debugcnn.rank_correlation(heatmaps, np.ones((4, 5, 7)))).all()
