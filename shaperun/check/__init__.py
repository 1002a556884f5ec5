"""Analysis of rewards before training. Internal, except for `rule`."""
