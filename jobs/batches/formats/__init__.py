"""The kinds of files in which people keep jobs, each read as its standard says."""
