-- Ids whose record is not there yet. Producers that write four commands one by one put the id into its lane first and
-- the record last (docs/wire.md): where they die in between, there is either no job or a whole one. An id that a take
-- finds meanwhile is set aside here, and goes back when its record has come.
--
-- key.EARLY(lane)  id -> when it was set aside. Ids beyond KEPT are dropped, which costs their lane's client only.

local early = {}

local KEPT = 100 -- of a lane
local SURE = 5 -- that are looked at where a call has no looks left: strangers' ids must not hide a lane's
local PATIENCE = 60 -- seconds that a record may come late

function early.keep(lane, job)
  local set = key.EARLY(lane)
  guard.become(set, 'zset')
  if redis.call('ZCARD', set) >= KEPT then return end
  redis.pcall('ZADD', set, 'NX', claim.now, job) -- a full Redis refuses it, which must not stop a take
  redis.call('EXPIRE', set, 3600) -- where nobody looks at the lane again
end

-- Put those whose record has come into their lane. Returns what that cost of the `looks` that are left.
function early.arrived(lane, looks)
  local set = key.EARLY(lane)
  local ids = redis.pcall('ZRANGE', set, 0, (looks > 0 and KEPT or SURE) - 1, 'WITHSCORES')
  if #ids > 0 then guard.become(key.QUEUE(lane), 'list') end
  for i = 1, #ids, 2 do
    local job, since = ids[i], tonumber(ids[i + 1])
    local there = claim.status(job)
    if there then redis.call('RPUSH', key.QUEUE(lane), job) end
    if there or math.abs(claim.now - since) > PATIENCE then redis.call('ZREM', set, job) end
  end
  return #ids
end
