"""Small data sets for quick starts, generated from images that scikit-learn ships."""
