"""One stage of training: the loop, its compiled steps, the optimizer and the learning-rate finder."""
