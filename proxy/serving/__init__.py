"""The HTTP/1.1 server that clients talk to, and the worker processes that it can be spread over."""
