"""From a raw benchmark row to the batches of one step."""
