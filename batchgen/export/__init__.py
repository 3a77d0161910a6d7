"""Runs as files that other programs read.

Knows what a run holds, and not how its images were made.
"""
