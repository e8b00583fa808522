"""Processes: deciders whose inputs are events of several domains and whose outputs are commands to them.

A place where domains meet, and only by their messages; the other are the policies of single services.
"""
