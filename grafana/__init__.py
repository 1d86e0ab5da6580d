"""Dashboards, recording rules and alerts, written by `python -m grafana.build` from the metrics in the code."""
