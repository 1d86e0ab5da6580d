"""Translation between OpenAI's dialect and that of each provider, without I/O; `registry` lists them."""
