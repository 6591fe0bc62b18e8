"""Grafana's dashboard, and Prometheus' rules and alerts, for the gateway's metrics (docs/metrics.md)."""
