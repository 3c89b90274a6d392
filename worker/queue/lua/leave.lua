-- Leave a job to workers that have as much memory as it needs, if one lives.
-- a: job, execution, lane, worker, kind, needed (bytes), seconds until it is looked at anew.
-- Returns 'back', 'alone' where no such worker lives and the job stays ours, or 'lost'.
--
-- It waits in a lane of its own, kiln:<model>:<quantization>><bytes>:<priority>:<client>: RQ's tools, `kiln status`
-- and `kiln cancel` see a queue like others, and the index one group more, for workers with as many bytes. When it
-- is taken, or looked at anew, or cancelled, it is back in its home lane.

local CLASSES = 16 -- sizes of one kind that are told apart

local LIVING = 120 -- seconds that no living worker's record lasts; one of a dead may, once the clock was set back

-- The most memory that a living worker of the kind has. Names that nothing stands behind are struck off: each worker
-- that was killed leaves one.
local function largest()
  local most = 0
  for _, record in ipairs(redis.pcall('SRANDMEMBER', key.WORKERS, 1000)) do
    local lasts = redis.call('TTL', record)
    local serves = ',' .. (guard.short(record, 'queues', 4096) or '') .. ','
    local memory = tonumber(guard.short(record, 'kiln_memory', 32) or '') or 0
    if lasts == -2 then
      redis.call('SREM', key.WORKERS, record)
    elseif
      lasts <= LIVING and memory > most and memory < 2 ^ 53 and string.find(serves, ',' .. a.kind .. ',', 1, true)
    then
      most = memory
    end
  end
  return most
end

-- Bytes to tell the job's lane by: rounded up by 19 % at most, so that lanes are few, but not beyond `most`.
local function size_class(most)
  local bytes = math.min(math.ceil(2 ^ (math.ceil(4 * math.log(a.needed) / math.log(2) - 1e-9) / 4)), most)
  local known, next_larger = 0, nil
  for _, group in ipairs(redis.call('ZRANGE', key.KINDS, 0, -1)) do
    local kind, size = string.match(group, '^(.*)>(%d+)$')
    if kind == a.kind then
      size = tonumber(size)
      if size == bytes then return bytes end
      known = known + 1
      if size >= a.needed and size <= most and size < (next_larger or 2 ^ 53) then next_larger = size end
    end
  end
  return known < CLASSES and bytes or next_larger
end

if not claim.holds(a.job, a.execution) then return 'lost' end
local most = largest()
if most < a.needed then return 'alone' end
guard.become(key.KINDS, 'zset')
local bytes = size_class(most)
if not bytes then return 'alone' end
local group = string.format('%s>%.0f', a.kind, bytes)
local lane = 'kiln:' .. group .. string.sub(a.lane, #'kiln:' + #a.kind + 1)
local attempts = claim.number_at(key.JOB(a.job), 'kiln_attempts')
local till = claim.now + a.seconds
claim.unown(a.job, a.execution, a.lane, lane, a.worker)
redis.call('HSET', key.JOB(a.job), 'kiln_attempts', math.max(0, attempts - 1),
  'kiln_needs', string.format('%.0f %.6f', a.needed, till))
redis.call('RPUSH', key.QUEUE(lane), a.job)
redis.call('ZADD', key.KINDS, claim.now, group)
guard.become(key.DUE, 'zset')
redis.call('ZADD', key.DUE, 'NX', till, lane)
guard.mail(lane)
claim.ring(lane)
return 'back'
