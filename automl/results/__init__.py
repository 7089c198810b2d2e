"""Results."""


def finish(run): ...
