"""A run directory: the names of its files, plans, shards, markers and picture files.

Does not know how a plan is made, who renders it, or any model.
"""
