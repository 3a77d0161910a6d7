"""The files of a model: found, fetched, checked, hashed, told apart by names and shapes, counted in bytes.

Imports no torch and does not know what a model draws.
"""
