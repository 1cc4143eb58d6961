"""What the data sets of all tasks share: reading, seeding, sampling, resizing and batching."""
