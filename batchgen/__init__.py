"""batchgen turns a table of prompts into a dataset of images. Importing it loads neither Ray nor torch."""

__version__ = "0.1.0"
