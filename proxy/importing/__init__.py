"""Other gateways' configurations as ours, with a verdict on every field."""
