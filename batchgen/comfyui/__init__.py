"""A ComfyUI workflow → a job file and a table of prompts, and a list of what they cannot say.

Knows the job file only: nothing of runs, weights or rendering.
"""
