"""Behind `switchboard bench`: the traffic, the processes that make it, and the report."""
