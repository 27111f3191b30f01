"""Pure functions: parsing of paths, decisions about links, and the form of targets."""
