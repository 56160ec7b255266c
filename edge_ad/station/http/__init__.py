"""The station's HTTP interface: JSON, images, server-sent events and metrics. docs/station-api.md describes it."""
