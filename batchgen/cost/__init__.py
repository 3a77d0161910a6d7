"""What a job will take: memory, time, bytes, money; measured where something was measured.

Renders nothing and changes nothing.
"""
