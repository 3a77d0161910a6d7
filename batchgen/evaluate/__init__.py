"""Evaluations: benchmarks, scores, statistics and comparisons of runs that are rendered.

Knows what a run holds, and not how its images were made.
"""
