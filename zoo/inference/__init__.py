"""Inference: one call from images to typed, drawable results."""
