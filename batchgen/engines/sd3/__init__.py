"""Stable Diffusion 3 and 3.5 by batchgen's own denoising loop.

Knows tensors and one device; no files but weights, no retrying, no Ray.
"""
