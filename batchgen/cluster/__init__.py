"""Ray: join a cluster or start one, wait for its work but not for ever, end it.

Knows no rows and no pictures.
"""
