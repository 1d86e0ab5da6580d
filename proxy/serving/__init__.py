"""HTTP/1.1 towards clients: what a socket says becomes an ASGI call, what the app says leaves in one write."""
