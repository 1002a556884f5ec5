"""Coverage of the intervals and error rates of the tests, with the few runs of typical studies."""
