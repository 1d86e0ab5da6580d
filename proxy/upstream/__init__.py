"""The only place that opens sockets to upstreams: connections, timeouts, translation of errors."""
