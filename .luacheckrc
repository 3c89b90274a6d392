-- Each script is checked as Redis gets it: names of keys, guards, then the operation (tests/worker/queue/test_lua.py).
std = "lua51"
read_globals = { "redis", "cjson", "KEYS", "ARGV" }
max_line_length = 120
unused_args = true
