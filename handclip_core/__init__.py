"""Fine-tuning CLIP to recognise people by their hands: data, models, strategies, the training loop and its measurement.

Nothing in this package imports Ray or Optuna; every part runs in a plain Python process.
"""
