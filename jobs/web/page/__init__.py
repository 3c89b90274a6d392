"""The page: HTML made here, on Kiln alone, that reads and posts without JavaScript; a module a view."""
