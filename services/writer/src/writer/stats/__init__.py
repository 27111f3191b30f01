"""Statistics: clicks, visits and visitors of links, domains and tags over time, and by value."""
