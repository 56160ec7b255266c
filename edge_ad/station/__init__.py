"""The loop that runs for months: capture, inspect, record, publish, watch."""
