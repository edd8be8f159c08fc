"""Weight files: how they are read without running code of theirs, and which of their tensors are a model's."""
