"""Files whose rows are cut from text: plain text, web pages, subtitles, Word, OpenDocument, EPUB."""
