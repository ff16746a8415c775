"""The training step as a LightningModule, what is prepared before it, and the methods it offers."""
