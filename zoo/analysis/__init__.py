"""Attention maps, activation maps, FLOPs and summaries of a model."""
