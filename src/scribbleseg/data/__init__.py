"""Reading data sets and pictures, varying them, and making batches."""
