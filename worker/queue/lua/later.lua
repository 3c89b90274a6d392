-- Jobs that wait for a time, or for a place beneath a limit that their producer set: RQ's scheduled and rate-limited
-- ones, put into their lanes when it is there, as RQ's scheduler and its workers do.
--
-- key.SCHEDULED(lane)  id -> when, by this server's clock
-- key.LIMITED(name)    id -> since when it waits; key.PLACES(name): those let through, until they have ended
--
-- Of both one id is looked at at a time: an id may be as long as a stranger likes.

local later = {}

local EACH = 100 -- ids of a lane, and of a limit, in one look
local NAMES = 20 -- limits in one look, drawn by lot where there are more
local LATE = 60 -- seconds that a record may come after its id
later.left = 200 -- looks of a call: a lane's others come with the next, a second later

local PASSED = { queued = true, started = true, finished = true, failed = true, canceled = true, stopped = true,
  deferred = true, rate_limited = true, created = true, ready_to_enqueue = true }

local function sound(job)
  return #job <= 64 and string.find(job, '^%w[%w_-]*$')
end

local function spend(job)
  later.left = later.left - 1 - math.floor(#job / 4096)
end

local function enqueue(job, lane)
  redis.call('HSET', key.JOB(job), 'status', 'queued', 'enqueued_at', a.stamp)
  guard.become(key.QUEUE(lane), 'list')
  local front = guard.field(job, 'enqueue_at_front', 8) == '1'
  redis.call(front and 'LPUSH' or 'RPUSH', key.QUEUE(lane), job)
end

-- One whose time has come. `home`: the lane that it belongs to, by its record.
local function release(job, lane, home)
  if home ~= lane and guard.parts(home) then -- an id is easily pushed into a lane of one's own
    redis.pcall('ZADD', key.SCHEDULED(home), 'NX', claim.now, job)
    redis.call('SADD', key.QUEUES, key.QUEUE(home))
    return false
  end
  redis.call('HSET', key.JOB(job), 'kiln_due', claim.now)
  local limit = guard.field(job, 'rate_limit_key', 256)
  if limit ~= '' then
    redis.call('HSET', key.JOB(job), 'status', 'rate_limited')
    redis.call('SADD', key.LIMITS, limit)
    guard.become(key.LIMITED(limit), 'zset')
    local place = claim.now + redis.call('ZCARD', key.LIMITED(limit)) / 1000000
    redis.call('ZADD', key.LIMITED(limit), place, job)
    return false
  end
  enqueue(job, lane)
  return true
end

-- Put those of a lane that are due into it. True where there were any.
function later.due(lane)
  local set, found, passed = key.SCHEDULED(lane), false, 0
  for _ = 1, EACH do
    if later.left < 0 then break end
    local one = redis.pcall('ZRANGEBYSCORE', set, '-inf', claim.now, 'WITHSCORES', 'LIMIT', passed, 1)
    local job = one[1]
    if not job then break end
    spend(job)
    local status = sound(job) and guard.field(job, 'status', 32)
    local record = status and redis.call('EXISTS', key.JOB(job)) == 1
    if sound(job) and not record and claim.now - tonumber(one[2]) < LATE then
      passed = passed + 1
    else
      redis.call('ZREM', set, job)
      if record and not PASSED[status] then
        found = release(job, lane, guard.field(job, 'origin', 256)) or found
      end
    end
  end
  return found
end

-- A lane's name where the job is one of ours: limits are shared with RQ's other applications, whose workers see to
-- their own.
local function lane_of(job)
  local lane = guard.field(job, 'origin', 256)
  return lane and guard.parts(lane) and lane
end

local function let_through(name)
  local most = tonumber(guard.short(key.LIMIT(name), 'concurrency', 16) or '') or 1
  local places, waiting = key.PLACES(name), key.LIMITED(name)
  local at = 0
  for _ = 1, EACH do
    local job = redis.pcall('ZRANGE', places, at, at)[1]
    if not job or later.left < 0 then break end
    spend(job)
    local status = sound(job) and guard.field(job, 'status', 32)
    local ended = not status or redis.call('EXISTS', key.JOB(job)) == 0
    if ended or (lane_of(job) and status ~= 'queued' and status ~= 'started') then
      redis.call('ZREM', places, job)
    else
      at = at + 1
    end
  end
  local lanes = {}
  guard.become(places, 'zset')
  while later.left >= 0 and redis.call('ZCARD', places) < most do
    local job = redis.pcall('ZRANGE', waiting, 0, 0)[1]
    local lane = job and sound(job) and lane_of(job)
    if not job or (sound(job) and not lane and guard.field(job, 'status', 32)) then break end
    spend(job)
    redis.call('ZREM', waiting, job)
    if lane and guard.field(job, 'status', 32) == 'rate_limited' then
      redis.call('ZADD', places, claim.now, job)
      enqueue(job, lane)
      lanes[#lanes + 1] = lane
    end
  end
  if redis.call('EXISTS', places, waiting) == 0 then
    redis.call('SREM', key.LIMITS, name)
    redis.call('UNLINK', key.LIMIT(name))
  end
  return lanes
end

-- Let jobs through where places are free. Returns their lanes.
function later.limits()
  local lanes = {}
  for _, name in ipairs(redis.pcall('SRANDMEMBER', key.LIMITS, NAMES)) do
    if #name > 256 then
      redis.call('SREM', key.LIMITS, name)
    else
      for _, lane in ipairs(let_through(name)) do lanes[#lanes + 1] = lane end
    end
  end
  return lanes
end
