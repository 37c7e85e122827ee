"""The search for how the model should be fed: one contest of the forms of all causes."""

from dataclasses import dataclass, field

import numpy as np

from ..statistics import best_pairing, confusion_matrix
from . import distribution_shift, forms
from .forms import Contest, Feed
from .registry import CAUSES, Evidence, Limit, NotExamined

RENAMED_GAIN = 0.2  # accuracy that renaming the classes has to bring
RENAMED_KNOWS = 0.5  # accuracy with renamed classes, from which on these are suspected first
BEYOND_RENAMED = 0.05  # accuracy that a form has to bring beyond renamed classes
BEYOND_INPUT = 0.1  # AUC and accuracy by which a fault of the model has to explain more


@dataclass
class Search:
    """What the search found: how to feed the model, and Evidence, or a reason why there is none,
    for each cause that offers forms.
    """

    feed: Feed
    logits: np.ndarray  # (n, classes) as fed that way
    evidence: dict[str, Evidence | str] = field(default_factory=dict)
    shift: distribution_shift.Shift | None = None  # of the images, from those trained on


def search(case) -> Search:
    """Try the forms of all causes, adopting the strongest one first, until none helps."""
    found = Search(case.given, case.given_logits)
    reason = _impossible(case)
    if reason:
        found.evidence = dict.fromkeys(_offering(), reason)
        return found
    if _adopt_inputs(case, found) and not case.depends_on_batch and not _shift(case, found):
        contests = _contests(case, found, _offering(of_model=True))
        if not _model_explains(case, found, contests, -np.inf):
            found.evidence |= {name: evidence(contest) for name, contest in contests.items()}
    for name in _offering():
        found.evidence.setdefault(name, "Another cause explains the predictions already.")
    return found


def order_is_wrong(logits: np.ndarray, labels: np.ndarray, knows: float = 0.0) -> bool:
    """Whether many more predictions are correct, `knows` at least, when classes are renamed."""
    correct, renamed = renamed_accuracy(logits, labels)
    return renamed - correct > RENAMED_GAIN and renamed > knows


def renamed_accuracy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy, and accuracy when each label is paired with the prediction that fits it best."""
    counts = confusion_matrix(labels, logits.argmax(1), logits.shape[1])
    return counts.trace() / len(labels), best_pairing(counts) / len(labels)


def _offering(of_model: bool | None = None) -> list[str]:
    """Causes that offer forms: all, or those of the model, or those of the input."""
    names = [name for name, cause in CAUSES.items() if cause.forms]
    if of_model is None:
        return names
    return [name for name in names if (CAUSES[name].stage != "input") == of_model]


def _impossible(case) -> str | None:
    if not np.isfinite(case.given_logits).all():
        return "The logits are not finite."
    if case.is_mostly_untrained:
        return "Most weights have not been trained."
    if case.global_shortcut:
        return (
            f"The model may read something global: with the {case.global_shortcut.name}, it fails."
        )
    return None


def _adopt_inputs(case, found: Search) -> bool:
    """Adopt the forms of the input one by one; False if another cause explains more."""
    left, renamed = _offering(of_model=False), None
    if case.head.classes > 2 and order_is_wrong(found.logits, case.labels, RENAMED_KNOWS):
        renamed = renamed_accuracy(found.logits, case.labels)[1]
    while left:
        contests = _contests(case, found, left)
        winners = {name: contest for name, contest in contests.items() if contest.is_better}
        if renamed is not None:
            best = max((contest.accuracies[1] for contest in winners.values()), default=0)
            if best < renamed + BEYOND_RENAMED:
                reason = "The classes are in another order, which has to be corrected first."
                found.evidence |= dict.fromkeys(left, reason)
                return False
            renamed = None
        strongest = max(winners, key=lambda name: winners[name].score, default=None)
        if strongest is None:
            found.evidence |= {name: evidence(contest) for name, contest in contests.items()}
            return True
        model_contests = _contests(case, found, _offering(of_model=True))
        if _model_explains(case, found, model_contests, winners[strongest].score):
            return False
        found.evidence[strongest] = evidence(winners[strongest])
        found.feed = winners[strongest].tried.apply(found.feed)
        found.logits = winners[strongest].logits
        left = [name for name in contests if name != strongest]
    return True


def _contests(case, found: Search, names: list[str]) -> dict[str, Contest]:
    contests = {}
    for name in names:
        try:
            options = CAUSES[name].forms(case, found.feed, found.logits)
        except NotExamined as reason:
            found.evidence[name] = str(reason)
            continue
        given = case.model, found.feed, options, case.labels, found.logits, case.output
        contests[name] = forms.contest(*given)
    return contests


def _model_explains(case, found: Search, contests: dict[str, Contest], gain: float) -> bool:
    """Whether a fault of the model explains more than forms of the input that bring `gain`."""
    winners = {name: contest for name, contest in contests.items() if contest.is_better}
    best = max(winners, key=lambda name: winners[name].gain, default=None)
    if best is None or winners[best].gain <= gain + BEYOND_INPUT:
        return False
    if best == "batch_statistics" and _shift(case, found):  # which explains that, too
        return True
    found.evidence[best] = evidence(winners[best])
    return True


def _shift(case, found: Search) -> distribution_shift.Shift | None:
    """How the images differ from those trained on, unless a form of the input was adopted."""
    if found.shift is None and case.train is not None and found.feed is case.given:
        found.shift = distribution_shift.explanation(case, found.feed, found.logits)
    return found.shift


def evidence(contest: Contest) -> Evidence:
    """What a contest says of its cause."""
    form, comparison = contest.tried, contest.comparison
    margin = forms.MARGIN * (1 - comparison.before)
    before, after = contest.accuracies
    if contest.is_better:
        change = "rises" if after >= before else "goes"
        message = (
            f"With {form.name}, accuracy {change} from {before:.1%} to {after:.1%}, and the AUC "
            f"from {comparison.before:.2f} to {comparison.after:.2f}."
        )
    else:
        message = f"No other form helps: with {form.name}, accuracy is {after:.1%}, "
        message += f"instead of {before:.1%}."
    limit = Limit(margin, "AUC gained", "a tenth of the AUC that is missing; see forms.MARGIN")
    # A form that wins by its accuracy may gain less AUC than the limit.
    value = max(comparison.gain, np.nextafter(margin, 1)) if contest.is_better else comparison.gain
    return Evidence(float(value), message, contest.is_better, limit=limit, details=contest)
