"""What a run leaves for people to read: figures of merit, predictions of single images, learning curves, pictures."""
