"""The only place that opens sockets towards upstreams: connections, timeouts, the error border."""
