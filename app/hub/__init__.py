"""The only place that talks to a hub: ids, metadata, downloads, push."""
