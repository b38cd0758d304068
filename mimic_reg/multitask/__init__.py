"""Fits of several tasks that share a trunk, and training from a trained trunk."""
