"""Search spaces: one short Optuna function a strategy, side by side."""
