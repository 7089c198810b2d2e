"""One trial: the fit loop, its metrics and what it writes; knows no Ray."""
