"""Analysis of models and results: attention and activation maps, FLOPs, training logs, confusion matrices.

Nothing here renders; `zoo.plots` does.
"""
