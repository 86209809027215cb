"""Reports: text, HTML and progress as functions of plain result data. Never imports torch."""
