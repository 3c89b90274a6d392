"""Jobs in Redis: their records, how they fare, and the scripts that submit and cancel them."""
