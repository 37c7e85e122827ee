"""Images that were trained on, too."""

import numpy as np

from .. import pictures
from ..copies import copies
from ..registry import Evidence, Limit, cause


@cause(
    "leak",
    stage="data",
    title="images were trained on, too",
    symptom="too good on validation images, worse in use",
    check="draw pairs of images that are alike, mirrored ones too",
    fix="Split again with duplicates together; debugcnn separate does this.",
    needs=("train",),
    limit=Limit(0.01, "share of the images", "set by hand: a percent moves accuracy by a percent"),
)
def leak(case) -> Evidence:
    found = copies(case.feed.pixels, case.train[0])
    mirrored = sum(copy.mirrored for copy in found)
    message = (
        f"{len(found)} of {len(case.labels)} images were trained on, {mirrored} of them mirrored."
    )
    share = len(found) / len(case.labels)
    return Evidence(share, message, len(found) > 1, suspicious=bool(found), details=found)


@leak.picture
def pairs(case, evidence):
    shown = evidence.details[: pictures.SHOWN // 2]
    tiles = [t for c in shown for t in (case.feed.pixels[c.examined], case.train[0][c.trained])]
    titles = ["examined", "trained on"] * len(shown)
    return pictures.image_grid(np.stack(tiles), titles), "Images beside their training images."
