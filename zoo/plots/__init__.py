"""Everything that renders an image or a plot."""
