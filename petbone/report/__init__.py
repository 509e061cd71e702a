"""What a person reads: one HTML file per case."""
