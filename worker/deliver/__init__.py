"""From a picture in memory to a stored one: encoded, spooled, committed to the bucket."""
