"""The chat page and the admin page: plain HTML, CSS and ES modules, without a build step."""
