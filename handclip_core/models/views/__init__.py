"""Models with a tower, or a neck and a head, for each view (aspect) of a hand."""
