"""The search: Ray Tune runs what Optuna proposes, and a journal holds the truth about it."""
