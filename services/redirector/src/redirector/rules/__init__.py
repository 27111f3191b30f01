"""Pure rules: what a path means, what a request gets, how a target is written."""
