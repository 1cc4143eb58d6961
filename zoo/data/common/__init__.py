"""Reading, resizing, sampling and batching images, for every task."""
