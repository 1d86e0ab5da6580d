"""What is odd about each provider: pure translation, a file each; `registry` is the list of them."""
