"""Layers and rules that several families share."""
