"""Learners: what fits the samples of a task and predicts them, one module for each kind."""
