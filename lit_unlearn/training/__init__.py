"""The training step as a LightningModule, its set-up, and the table of all methods."""
