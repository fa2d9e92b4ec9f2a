"""What a run tells people: console lines, metrics file, TensorBoard, summary and the HTML page. Computes no metric."""
