"""Batch scoring: a model's predictions for every row of a dataset version, made by a pipeline."""
