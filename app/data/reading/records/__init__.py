"""Files whose rows are records: JSON, CSV, spreadsheets, Arrow, chat exports."""
