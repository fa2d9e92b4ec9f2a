"""What a trained model can do: retrieval metrics and the gallery of examples. Trains nothing and prints nothing."""
