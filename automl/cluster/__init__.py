"""Searches as jobs of a Ray cluster: submitted, followed, stopped, gone on with and collected from anywhere."""
