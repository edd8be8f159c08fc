"""How much of what CLIP could do as it is a fine-tuned model still does, query by query."""

import numpy as np

from handclip_core.evaluation.protocol import QueryScores


def retention(queries: QueryScores, zero_shot: QueryScores) -> float:
    """The share of zero-shot mAP that fine-tuning has left in place: 1 if no query ranks worse, 0 if all is lost.

    Sum over queries of the smaller of both average precisions, over the sum of zero-shot's. What other queries gain
    makes nothing good, so a model can have the higher mAP and retain less. Both must be scored on the same gallery
    splits.
    """
    assert np.array_equal(queries.row, zero_shot.row), "scores of the same queries in the same order"
    return float(np.nansum(np.minimum(queries.ap, zero_shot.ap)) / np.nansum(zero_shot.ap))
