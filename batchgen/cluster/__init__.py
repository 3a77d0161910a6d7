"""Ray: join or start it, wait for it with an end to patience, end it.

Knows no rows and no pictures.
"""
