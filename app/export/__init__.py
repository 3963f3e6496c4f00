"""Taking a result away: merged models with a receipt, and files for other programs."""
