"""Processes: deciders whose inputs are events of several domains and whose outputs are commands to them.

The one place where domains meet, and only by their messages.
"""
