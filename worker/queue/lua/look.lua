-- Look through the queues for lanes that no mail told of: those of producers on plain RQ, or whose mail was lost; for
-- what stands wrong in the index, where a worker of version 0.1 or RQ's tools wrote; and for all of it, where the
-- index is gone.
-- And for jobs that wait for a time that has come, or for a place that is free (later.lua).
-- a: cursor ('0' to begin), whole: also look at the lanes that are known; due: do not ask whether it is time; every:
-- seconds between two passes of all workers together; stamp.
-- Returns false where another worker looks, else the cursor to go on with ('0': through), whether the pass is whole,
-- and how many lanes were found. The caller keeps the cursor: a shared one would be written at each call.

local FEW = 50 -- queues that each worker looks at as it likes, and at all of them: cheaper than to agree who does
local MOST = 10000 -- queues from which those of nothing are struck off
local PART, FLOODED = 100, 50 -- of them looked at in one call: fewer where names of nothing are struck off

-- Whether nothing is behind a queue's name, neither jobs nor a record of their ends.
local function empty(queue)
  local names = { queue }
  local name = #queue <= 1024 and string.match(queue, '^rq:queue:(.*)$')
  if name then
    local registries = { 'STARTED', 'FINISHED', 'FAILED', 'DEFERRED', 'SCHEDULED', 'CANCELED', 'READY', 'EARLY' }
    for _, registry in ipairs(registries) do
      names[#names + 1] = key[registry](name)
    end
  end
  return not name or redis.call('EXISTS', unpack(names)) == 0
end

-- Whether none of us has done it for so many ms. A mark that would last longer is from before the clock was set back.
local function due(mark, ms)
  local left = redis.call('PTTL', mark)
  if left >= 0 and left <= ms then return false end
  redis.call('SET', mark, '1', 'PX', ms)
  return true
end

-- Look at a lane, whatever was due in it included. True where a job is found that takes did not know of.
local function see(lane, whole)
  local came = later.due(lane)
  return index.see(lane, whole or came) or came
end

-- Forget kinds that nobody has served for a day, and sizes of left jobs that none wait of.
local function forget()
  for _, group in ipairs(index.on('ZRANGEBYSCORE', key.KINDS, '-inf', claim.now - 60)) do
    local sets = {}
    for _, priority in ipairs(index.PRIORITIES) do
      sets[#sets + 1] = key.LEVEL(group, priority)
      sets[#sets + 1] = key.AHEAD(group, priority)
    end
    local kind = index.kind(group)
    local unused = tonumber(index.on('ZSCORE', key.KINDS, group)) < claim.now - guard.DAY and kind == group
    if unused or (kind ~= group and (not index.kinds[kind] or redis.call('EXISTS', unpack(sets)) == 0)) then
      redis.call('UNLINK', unpack(sets))
      index.on('ZREM', key.KINDS, group)
    end
  end
end

local size = redis.call('SCARD', key.QUEUES) -- an error where that is no set: workers say so until it is deleted
local whole = a.whole
if a.cursor == '0' then
  whole = size <= FEW
  if not whole then
    if not (a.due or due(key.LOOKED, math.floor(a.every * 1000))) then return false end
    whole = due(key.LOOKED_WHOLE, 60000)
  end
end
local answer = redis.call('SSCAN', key.QUEUES, a.cursor, 'COUNT', size > MOST and FLOODED or PART)
local found = 0
for _, lane in ipairs(a.cursor == '0' and later.limits() or {}) do
  if index.see(lane, true) then found = found + 1 end
  claim.ring(lane)
end
for _, queue in ipairs(answer[2]) do
  local lane = #queue <= 1024 and string.match(queue, '^rq:queue:(kiln:.*)$')
  if #queue > 1024 then
    redis.call('SREM', key.QUEUES, queue) -- no lane's name is, and each pass would read it
  elseif lane and see(lane, whole) then
    found = found + 1
    claim.ring(lane)
  elseif size > MOST and empty(queue) then
    redis.call('SREM', key.QUEUES, queue)
  end
end
if answer[1] == '0' and whole then forget() end
return { answer[1], whole and 1 or 0, found }
