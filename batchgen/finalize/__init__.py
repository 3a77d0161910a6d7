"""Proves that planned = images + failed, then writes metadata, dataset card and _SUCCESS.

A pure function of the shards: does not know who rendered them, nor when.
"""
