"""Image rows → shards → the files of a plan, after the job was checked against the world.

Knows no GPU and renders nothing.
"""
