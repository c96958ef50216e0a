"""Pages and figures: the HTML report of a run, and what the pages of comparisons share with it."""
