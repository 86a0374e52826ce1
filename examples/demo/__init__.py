"""`make demo`, in its parts."""
