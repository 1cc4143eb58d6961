"""What makes a zoo of backbones and heads: registry, weights, tasks, data, evaluation, training."""
