"""The parts of `automl serve`: limits, who may ask, the queue before the model, connections, figures."""
