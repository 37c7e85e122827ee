"""Batch normalization whose statistics do not fit."""

from dataclasses import replace

from .. import pictures
from ..forms import Feed, Form
from ..layers import batch_normalizations, logits_with_batch_statistics
from ..registry import Evidence, Limit, NotExamined, cause


@cause(
    "batch_statistics",
    stage="activations",
    title="batch normalization has statistics that do not fit",
    symptom="other predictions alone than in a batch; good in fit, bad in predict",
    check="predict one image in many batches",
    fix="Train long enough for the moving averages, or with BatchNormalization(momentum=0.9), and "
    "predict with training=False.",
    needs=("finite logits", "trained weights"),
    unless=("random_answer",),
    limit=Limit(
        0.01,
        "standard deviations of the logits",
        "set by hand, far above rounding errors of float32 (about 0.000001)",
    ),
)
def depends_on_batch(case) -> Evidence:
    alone = case.repeated.alone
    message = (
        "The prediction for an image depends on the others in its batch: logits differ by up to "
        f"{alone:.2g} of their standard deviation."
    )
    return Evidence(alone, message)


@depends_on_batch.measurement(after=("blank_photos:blank_photos",))
def statistics_of_these_images(case) -> Evidence:
    """Whether predictions are better with the statistics of these images than with the stored."""
    return case.search_evidence("batch_statistics")


@depends_on_batch.variants
def own_statistics(case, feed: Feed, logits) -> list[Form]:
    if not batch_normalizations(case.model):
        raise NotExamined("The model has no batch normalization.")
    name = "each batch normalized by its own statistics"

    def apply(feed):
        return replace(feed, predict=logits_with_batch_statistics)

    return [Form(name, apply, runs_model_otherwise=True)]


@depends_on_batch.picture
def before_and_after(case, evidence):
    contest = evidence.details
    if contest is None:
        return pictures.margins_by_class(case)
    before, after = contest.accuracies
    values = {"with the stored statistics": before, "with those of these images": after}
    return pictures.bars(values, "accuracy"), "Accuracy with either kind of statistics."
