"""Images with boxes and instance masks, for object detection and instance segmentation."""
