"""A page over runs: a grid of their pictures, filtered, ordered, compared and marked. Changes nothing but selections.

Knows what a run holds, not how its images were made.
"""
