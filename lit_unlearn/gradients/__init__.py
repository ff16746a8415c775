"""One gradient per objective, their Gramian, what it tells, and how it weighs the update."""
