"""Data: manifests, splits, decoded pixels, cached features, augmentation and samplers."""
