"""AutoML hyperparameter search: a search-space file in, a leaderboard and the best model out."""
