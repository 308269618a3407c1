"""Results of a job for people without the studio: Markdown, LaTeX, and a page in one file."""
