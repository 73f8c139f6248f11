"""One backend each: speaks its language, keeps its time limits, answers records of the model."""
