"""Intervals and the table of a comparison of heatmaps."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..views.heatmap_catalogue import CENTER_BLOB

DRAWS = 2000  # of the bootstrap
MINUS_BLOB = "minus the blob"
COLUMNS = {
    "share on the subject": "{:.2f}",
    "peak on the subject": "{:.2f}",
    "hottest tenth on the subject": "{:.2f}",
    "peak in its own half": "{:.2f}",
    "deletion to grey": "{:.2f}",
    "insertion into blur": "{:.2f}",
    "deletion less that of another's holes": "{:+.2f}",
}
Scores = Mapping[str, Mapping[str, np.ndarray]]  # of each heatmap name: of each score, (n,)


def bootstrap(values: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """The mean of values without NaN, with a 95 % interval: {"mean", "interval", "images"}.

    `values` are (n,), or (n, k), whose rows belong together and are drawn together: the percentile
    bootstrap (Efron 1979), DRAWS times. "images" counts the values; without any, mean and interval
    are None.
    """
    values = np.asarray(values, float)
    values = values.reshape(len(values), -1)
    values = values[np.isfinite(values).any(1)]
    if not len(values):
        return {"mean": None, "interval": None, "images": 0}
    known = np.isfinite(values)
    drawn = _drawn_rows(len(values), seed)
    totals = np.where(known, values, 0).sum(1)[drawn].sum(1)
    means = totals / known.sum(1)[drawn].sum(1)
    return {
        "mean": round(float(np.nanmean(values)), 4),
        "interval": [round(float(end), 4) for end in np.percentile(means, [2.5, 97.5])],
        "images": int(known.sum()),
    }


@functools.lru_cache(maxsize=8)
def _drawn_rows(count, seed):
    return np.random.default_rng(seed).integers(0, count, (DRAWS, count))


def summary(scores: Scores) -> dict[str, dict[str, dict[str, Any]]]:
    """{name: {score: its bootstrap, and under MINUS_BLOB that of the difference to the blob}}"""
    return {name: {s: _summary(scores, name, s) for s in scores[name]} for name in scores}


def _summary(scores, name, score):
    values = scores[name][score]
    difference = bootstrap(values - scores[CENTER_BLOB][score])
    del difference["images"]
    return bootstrap(values) | {MINUS_BLOB: difference}


def table(results: Mapping[str, Any]) -> str:
    """Markdown: a row for each heatmap, a column for each score; * does not beat the blob."""
    columns = [score for score in COLUMNS if score in results["scores"][CENTER_BLOB]]
    head = [*columns, "same with all layers shuffled", "runs of the net"]
    lines = [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name, scores in results["scores"].items():
        cells = [_cell(name, score, scores[score]) for score in columns]
        randomized = list(results["layers"][name].values())[-1]["mean"]
        cells.append("" if randomized is None else f"{randomized:.2f}")
        cells.append(f"{results['cost'][name]:.0f}" if name in results["cost"] else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(name, score, result):
    if result["mean"] is None:
        return ""
    low, _ = result[MINUS_BLOB]["interval"]
    mark = "" if name == CENTER_BLOB or low > 0 else " \\*"
    return COLUMNS[score].format(result["mean"]) + mark
