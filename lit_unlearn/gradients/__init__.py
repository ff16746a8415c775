"""One gradient per objective, their Gramian, its measures, and the weights that follow from it."""
