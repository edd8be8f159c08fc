"""How image towers fall into an ordered row of blocks, one class a kind of tower."""
