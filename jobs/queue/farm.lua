-- How many jobs stand where in lanes, and what workers told, of some of each: others come in between two calls.
-- a: lanes, how many of the names in ARGV[2] and on are lanes; the others are the keys of workers' records, which may
-- be anything as names may; fields of a record, and longest, the bytes of one that are looked at.
-- Returns five counts for each lane, and the fields for each worker, in the order of the names. A count of what is
-- none is 0, a field that is missing or longer ''.

local function counted(command, name)
  local number = redis.pcall(command, name)
  return type(number) == 'number' and number or 0
end

local function field(name, wanted)
  local size = redis.pcall('HSTRLEN', name, wanted)
  return type(size) == 'number' and size > 0 and size <= a.longest and redis.call('HGET', name, wanted) or ''
end

local told = {}
for n = 2, #ARGV do
  local name, one = ARGV[n], {}
  if n <= a.lanes + 1 then
    -- Held jobs, and those that wait for others, read queued wherever they are shown.
    one[1] = counted('LLEN', key.QUEUE(name)) + counted('ZCARD', key.DEFERRED(name))
    for _, registry in ipairs({ key.STARTED, key.FINISHED, key.FAILED }) do
      one[#one + 1] = counted('ZCARD', registry(name))
    end
    one[#one + 1] = counted('ZCARD', key.SCHEDULED(name)) + counted('ZCARD', key.DEFERRED(name))
  else
    for _, wanted in ipairs(a.fields) do one[#one + 1] = field(name, wanted) end
  end
  told[#told + 1] = one
end
return told
