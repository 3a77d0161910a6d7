"""Missing shards → pictures → commits, until nothing is missing.

Does not know how shards were planned, and loads no model itself: engines do.
"""
